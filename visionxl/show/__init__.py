"""Pictures: plots for notebooks, a player with a moving border, and a report page."""
