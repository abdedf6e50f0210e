"""A development chain of Ethereum as a process: py-evm in it, or anvil or geth under it."""
