"""Gamma and low resolution, worked by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config
from viscera.imaging.augment import Augmentation, augment

STEPS = torch.tensor([0, 0, 0, 0, 50, 50, 100, 100], dtype=torch.int16).view(1, 2, 2, 2)


def changed(hu: Tensor, augmentation: Augmentation, within_hu: tuple[float, float] = (-500, 500)) -> Tensor:
    labels = torch.zeros(hu.shape, dtype=torch.uint8)
    return augment(hu, labels, [augmentation] * len(hu), hu.shape[1], within_hu)[0]


def test_gamma_by_hand() -> None:
    """Mean 37.5, s.d. 41.46; the squares 0, 1/4 and 1 have 0.3125 and 0.4098: 37.5 + (u² - 0.3125) · 101.16."""
    assert changed(STEPS, Augmentation(gamma=2)).flatten().tolist() == [6, 6, 6, 6, 31, 31, 107, 107]
    assert torch.equal(
        changed(100 - STEPS, Augmentation(inverted_gamma=2)), 100 - changed(STEPS, Augmentation(gamma=2))
    )


def test_before_a_gamma_hu_are_clipped_to_what_the_network_sees() -> None:
    beyond = torch.where(STEPS == 0, -1000, STEPS).to(torch.int16)
    beyond[0, 1, 1, 1] = 3000
    assert torch.equal(changed(beyond, Augmentation(gamma=2), (0, 100)), changed(STEPS, Augmentation(gamma=2)))


@pytest.mark.parametrize("value", [0, -700])
def test_a_window_of_one_value_keeps_it(value: int) -> None:
    hu = torch.full((1, 1, 1, 1), value, dtype=torch.int16)
    assert changed(hu, Augmentation(gamma=1.4, inverted_gamma=0.7, coarser=(2, 3, 1)), (-900, 500)).item() == value


def test_mean_and_deviation_stay() -> None:
    hu = torch.from_numpy(np.random.default_rng(0).integers(-300, 300, (1, 24, 24, 24), dtype=np.int16))
    found = changed(hu, Augmentation(gamma=1.5, inverted_gamma=0.8)).double()
    assert found.mean().item() == pytest.approx(hu.double().mean().item(), abs=0.1)
    assert found.std().item() == pytest.approx(hu.double().std().item(), rel=1e-3)
    assert (found - hu).abs().max() > 20


def test_low_resolution_by_hand() -> None:
    """Of four voxels two are kept, the second and the fourth; places -1/4, 1/4, 3/4 and 5/4 between them."""
    hu = torch.tensor([0, 100, 200, 300], dtype=torch.int16).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    expected = torch.tensor([100, 150, 250, 300], dtype=torch.int16).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    for axis, factors in enumerate(((2, 1, 1), (1, 2, 1), (1, 1, 2))):
        found = changed(hu.transpose(1, 1 + axis).contiguous(), Augmentation(coarser=factors))
        assert torch.equal(found, expected.transpose(1, 1 + axis))
    assert torch.equal(changed(hu.contiguous(), Augmentation(coarser=(1, 2, 2))), hu)


def test_of_a_batch_only_the_windows_that_are_to_change_do() -> None:
    hu = torch.from_numpy(np.random.default_rng(0).integers(-1000, 1000, (3, 8, 8, 8), dtype=np.int16))
    before = hu.clone()
    each = [Augmentation(), Augmentation(gamma=1.3), Augmentation(coarser=(2, 2, 2))]
    found, _ = augment(hu, torch.zeros(hu.shape, dtype=torch.uint8), each, 8, (-500, 500))
    assert torch.equal(hu, before)
    assert torch.equal(found[0], hu[0])
    assert not torch.equal(found[1], hu[1].clamp(-500, 500))
    assert not torch.equal(found[2], hu[2])


def test_axes_and_factors_are_taken_as_text_and_as_lists_and_others_are_refused() -> None:
    def of(*assignments: str) -> Config:
        return resolve_config(assignments=[f"train.augment.{each}" for each in assignments])

    for text in ("[S, R]", "R,S", "S R", "[R, S, R]"):
        assert of(f"mirror_axes={text}").train.augment.mirror_axes == ("R", "S")
    assert of("mirror_axes=S").train.augment.mirror_axes == ("S",)
    assert of("mirror_axes=[]").train.augment.mirror_axes == ()
    assert of("low_resolution=1,1,3").train.augment.low_resolution == (1, 1, 3)
    assert Config.model_validate(of("mirror_axes=R").model_dump(mode="json")).train.augment.mirror_axes == ("R",)
    for wrong, sentence in (
        ("mirror_axes=[L]", "there is no axis L"),
        ("mirror_axes=2", "there is no axis 2"),
        ("low_resolution=0.5", "factors from 1 to 8 were expected"),
        ("gamma=0.5", "a number of at least 1 was expected"),
    ):
        with pytest.raises(BadInputError, match=sentence):
            of(wrong)
