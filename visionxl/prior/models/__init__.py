"""From a name to a model: which ones can serve, where their files are, how they are read, and what
they are told beside the latent.
"""
