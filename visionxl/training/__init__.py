"""How the bundled prior was made: photos, the training loop, and one command that runs it."""
