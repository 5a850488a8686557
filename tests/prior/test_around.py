"Priors around priors can be copied and sent: what is not there yet is not looked for inside."

import copy
import pickle
from types import SimpleNamespace

import pytest

from visionxl.app.tiles import PaddedPrior, TiledPrior
from visionxl.compare.key_frames import KeyFramePrior
from visionxl.compare.released import GuidedPrior
from visionxl.extras.fast import Bfloat16Prior
from visionxl.prior.protocol import PriorAround
from visionxl.steps.progress import CheckedPrior, Passes

INSIDE = SimpleNamespace(factor=4, t_max=999)
MADE = [
    PaddedPrior(INSIDE, (5, 6)),
    TiledPrior(INSIDE, 128),
    Bfloat16Prior(INSIDE),
    GuidedPrior(INSIDE),
    KeyFramePrior(INSIDE, [], 0.5),
    CheckedPrior(INSIDE, (8, 8), Passes(1, 1, 1, 1)),
]


@pytest.mark.parametrize("prior", MADE, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_prior_around_another_one_is_copied(prior, way):
    "Workers get a pickled copy. Each of these once asked itself for the prior inside without end."
    other = way(prior)
    assert isinstance(other, PriorAround) and type(other) is type(prior)
    assert (other.t_max, other.prior.factor) == (999, 4)
    assert not hasattr(other, "nothing_of_the_kind")
