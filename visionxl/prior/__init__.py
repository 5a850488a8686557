"""The diffusion model as the solver sees it: encode, decode, predict the noise, and the schedule of
noise levels.

Also how models are found and loaded, the bundled autoencoder, and a toy world of two pixels."""
