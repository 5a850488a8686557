"""The diffusion model as the solver sees it: encode, decode, predict the noise (`protocol`,
`latent`), and the schedule of noise levels.

`models` finds and loads one, `machine` fits it into a memory. `adapters` takes denoisers of others,
`check` asks a prior whether it means what the solver thinks, and `toy` is a world of two pixels.
"""
