"""The prior `white` on pixels, for methods that were published for pixels.

python bench/quality.py --prior bench/pixel_prior.py:prior --tasks sr --methods svi --priors
"""

from visionxl.compare.from_noise import on_pixels
from visionxl.prior.latent import Prior

prior = on_pixels(Prior.load("white"))
