"""Recovery from production's own pages and the WAL behind them, to the very commit."""
