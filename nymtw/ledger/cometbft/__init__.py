"""CometBFT 0.38 as what orders the transactions: its files, its process, its answers, its signatures."""
