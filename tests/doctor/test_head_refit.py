"""The last layer fitted anew on frozen features: where these tell the classes apart, and where they cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from viscera.core.anatomy import ClassTable
from viscera.core.config import TrainConfig
from viscera.core.resolve import resolve_config
from viscera.doctor.head_refit import STEPS, with_refitted_head
from viscera.engine.feed import Feed
from viscera.engine.trained_model import build_network
from viscera.imaging.windows import network_input
from viscera.metrics.overlap import confusion_matrix, dice
from viscera.networks.unet3d import UNet3D

CPU = torch.device("cpu")
NAMES = ("background", "liver", "stomach")
HU = (-200, 0, 200)  # of each class
SETTINGS = {"patch": 6, "batch_size": 2, "filters": 2, "levels": 2, "device": "cpu"}
TRAIN: TrainConfig = resolve_config(file_values={"train": SETTINGS}).train


def feed(seed: int = 3) -> Feed:
    """Windows whose HU say the class of each voxel, give or take 20."""
    random = np.random.default_rng(0)
    labels = [random.integers(0, 3, (9, 8, 7)).astype(np.uint8) for _ in range(3)]
    cases = [(np.take(HU, each) + random.integers(-20, 21, each.shape)).astype(np.int16) for each in labels]
    return Feed(list(zip(cases, labels, strict=True)), 6, 2, seed=seed, classes=ClassTable.of_names(NAMES))


def network(*, blind: bool = False) -> UNet3D:
    """Its features are the intensity above four thresholds, of the voxel itself; or nothing. It says stomach always."""
    found = build_network(TRAIN, 3).eval()
    low, high = TRAIN.intensity.low_hu, TRAIN.intensity.high_hu
    of_hu = [(hu - low) / (high - low) for hu in (-100, 100)]
    values = {name: torch.zeros_like(value) for name, value in found.state_dict().items()}
    for name, value in values.items():  # batch normalisation, whose statistics are 0 and 1
        if name.endswith("running_var") or name.replace(".weight", ".running_var") in values:
            value.fill_(1)
    for name in ("merge.0.0.weight", "merge.0.3.weight"):  # what comes from the way down passes as it is
        values[name][range(4), range(4), 1, 1, 1] = 1
    if not blind:
        values["down.0.0.weight"][:, 0, 1, 1, 1] = 1
        values["down.0.0.bias"][1] = -of_hu[0]
        for channel in range(4):
            values["down.0.3.weight"][channel, channel % 2, 1, 1, 1] = 1
        values["down.0.3.bias"][2:] = torch.tensor([-of_hu[0], of_hu[0] - of_hu[1]])
    values["head.bias"][2] = 1000
    found.load_state_dict(values)
    return found


def dice_of(of: UNet3D) -> list[float | None]:
    confusion = np.zeros((3, 3), dtype=np.int64)
    for step in range(4):
        batch = feed(seed=9).batch(step)
        with torch.no_grad():
            labels = of(network_input(batch.hu, TRAIN.intensity)).argmax(dim=1).to(torch.uint8).numpy()
        confusion += confusion_matrix(labels, batch.labels.numpy(), 3)
    return dice(confusion)


def test_features_that_tell_the_classes_apart_recover_those_that_the_last_layer_lost() -> None:
    before = network()
    assert dice_of(before)[:2] == [0, 0]  # all is called stomach
    assert all(value is not None and value > 0.9 for value in dice_of(with_refitted_head(before, feed(), TRAIN, CPU)))


def test_features_that_are_blind_recover_nothing() -> None:
    after = dice_of(with_refitted_head(network(blind=True), feed(), TRAIN, CPU))
    assert sorted(value or 0 for value in after)[:2] == [0, 0]  # whichever class, it is one for all voxels


def test_it_is_a_function_of_network_and_feed_and_changes_neither() -> None:
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    told: list[int] = []
    one = with_refitted_head(given, feed(), TRAIN, CPU, told.append)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert told == list(range(1, STEPS + 1))
    torch.manual_seed(2)
    two = with_refitted_head(given, feed(), TRAIN, CPU)
    for name, value in before.items():
        assert torch.equal(given.state_dict()[name], value)
        assert torch.equal(one.state_dict()[name], two.state_dict()[name])
        assert name.startswith("head") or torch.equal(one.state_dict()[name], value)
    assert not torch.equal(one.head.weight, given.head.weight)
    assert given.head.weight.requires_grad


@pytest.mark.parametrize("cross_entropy", [0.0, 1.0])
def test_the_scale_of_the_features_does_not_matter(cross_entropy: float) -> None:
    train = TRAIN.model_copy(update={"loss": TRAIN.loss.model_copy(update={"cross_entropy": cross_entropy})})
    faint = network()
    factors = {"down.0.3.weight": 1e-3, "down.0.3.bias": 1e-3}
    faint.load_state_dict({name: value * factors.get(name, 1) for name, value in faint.state_dict().items()})
    after = dice_of(with_refitted_head(faint, feed(), train, CPU))
    assert all(value is not None and value > 0.9 for value in after)


def test_windows_that_nobody_labelled_and_cases_that_label_some_classes_have_their_part() -> None:
    plain = feed()
    cases = [(hu, np.where(labels == 1, 255, labels).astype(np.uint8)) for hu, labels in plain.cases]
    partly = replace(
        plain, cases=[*cases[:2], plain.cases[2]], labelled=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
    )
    assert (dice_of(with_refitted_head(network(), partly, TRAIN, CPU))[2] or 0) > 0.9
