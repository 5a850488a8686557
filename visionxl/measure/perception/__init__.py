"""The networks that judge pictures and films, and where their weights are found."""
