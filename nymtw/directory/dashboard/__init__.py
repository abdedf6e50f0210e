"""What people look at: the live pages, the feed behind them, and the history."""
