"""Metrics, the networks behind them, and the tables of the paper made again."""
