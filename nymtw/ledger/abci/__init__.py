"""ABCI 2.0 (CometBFT 0.38): the application's side, on Twisted."""
