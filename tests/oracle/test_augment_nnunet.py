"""Gamma and low resolution against batchgeneratorsv2, which nnU-Net trains with, in its environment, `.venv-bench`."""

import pytest

from tests.bench_environment import lines_of, needs_nnunet

pytestmark = [pytest.mark.slow, needs_nnunet]

SAME = """
import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from viscera.core.config import IntensityConfig
from viscera.imaging.augment import Augmentation, augment
from viscera.imaging.windows import network_input

torch.manual_seed(0)
hu = torch.randint(-900, 900, (1, 20, 20, 20), dtype=torch.int16)
labels = torch.zeros(hu.shape, dtype=torch.uint8)
scores = IntensityConfig(scaling="z_score", mean_hu=40, sd_hu=300)
for intensity in (IntensityConfig(), scores):
    for exponent in (0.7, 1.0, 1.5):
        for inverted in (0, 1):
            theirs = GammaTransform(lambda *_, **__: exponent, inverted, False, 1, 1)
            expected = theirs(image=network_input(hu, intensity)[0])["image"]
            one = Augmentation(**{"inverted_gamma" if inverted else "gamma": exponent})
            found = network_input(augment(hu, labels, [one], 20, (-500, 500))[0], intensity)[0]
            width = network_input(torch.tensor([[[[-500, 500]]]]), intensity).flatten()
            rounding = (width[1] - width[0]) / 1000 * 0.51  # to whole HU
            assert (found - expected.clamp(*width)).abs().max() < rounding
for factors in ((2, 2, 2), (1, 1, 3), (1.3, 1.7, 1)):
    theirs = SimulateLowResolutionTransform(lambda *_, dim, **__: 1 / factors[dim], False, False, None)
    expected = theirs(image=hu.float())["image"]
    found = augment(hu, labels, [Augmentation(coarser=factors)], 20)[0]
    assert (found - expected).abs().max() < 0.51
print("equal")
"""


def test_the_same_numbers() -> None:
    assert lines_of(SAME) == ["equal"]
