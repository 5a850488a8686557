"""How the bundled priors were made: photos, the training loop, and one command that runs it."""
