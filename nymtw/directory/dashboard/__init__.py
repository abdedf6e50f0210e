"""The dashboard for people: the live pages, the feed behind them, and the history."""
