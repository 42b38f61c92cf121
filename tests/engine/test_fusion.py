"""Several models as one: worked voxels, and the law that without conflicts nothing changes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from viscera.core.anatomy import CLASS_NAMES, NUM_CLASSES
from viscera.core.errors import BadInputError
from viscera.engine.fusion import FusionRecord, FusionRule, calibrated, log_odds
from viscera.io.runlog import RunFolder

SHAPE = (5, 4, 6)
LIVER, SPLEEN = 3, 4  # labels
FROM_BOTH = (0, 0, 0, 1, 1, 1, 1)  # artery, portal vein and liver from the first model, the others from the second


def random_models(seed: int, number: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.softmax(2 * torch.randn(NUM_CLASSES, *SHAPE, generator=generator), dim=0) for _ in range(number)]


def voxels(*values: dict[int, float]) -> Tensor:
    """(L, 1, 1, N) probabilities of N voxels by label; what is left goes to background."""
    result = torch.zeros(NUM_CLASSES, 1, 1, len(values))
    for at, value in enumerate(values):
        for label, probability in value.items():
            result[label, 0, 0, at] = probability
        result[0, 0, 0, at] = 1 - sum(value.values())
    return result


def plain(owners: tuple[int, ...]) -> FusionRule:
    """By the models' own probabilities alone."""
    return FusionRule(owners, ((1.0, 0.0),) * len(owners), (1.0,) * len(owners), (0.0,) * len(owners))


def labels_of(models: list[Tensor], rule: FusionRule) -> list[int]:
    return [int(value) for value in rule(models).ravel()]


@pytest.mark.parametrize("seed", range(3))
def test_all_organs_of_one_model_are_that_model(seed: int) -> None:
    models = random_models(seed)
    fused = plain((1,) * 7)(models)
    assert torch.equal(fused, models[1].argmax(dim=0).to(torch.uint8))


def test_a_voxel_that_one_organ_claims_is_its_own_and_one_that_none_claims_is_background() -> None:
    first = voxels({LIVER: 0.9}, {SPLEEN: 0.9}, {LIVER: 0.4})
    second = voxels({SPLEEN: 0.2}, {LIVER: 0.9}, {SPLEEN: 0.6})
    # the first model's spleen and the second's liver do not count
    assert labels_of([first, second], plain(FROM_BOTH)) == [LIVER, 0, SPLEEN]


def test_a_contested_voxel_goes_to_the_larger_weighted_probability_and_at_a_tie_to_the_lower_label() -> None:
    first, second = voxels({LIVER: 0.75}, {LIVER: 0.75}), voxels({SPLEEN: 0.875}, {SPLEEN: 0.75})
    assert labels_of([first, second], plain(FROM_BOTH)) == [SPLEEN, LIVER]
    for_liver = replace(plain(FROM_BOTH), weights=(1, 1, 2, 1, 1, 1, 1))
    assert labels_of([first, second], for_liver) == [LIVER, LIVER]
    for_spleen = replace(plain(FROM_BOTH), thresholds=(0, 0, 0.8, 0, 0, 0, 0))
    assert labels_of([first, second], for_spleen) == [SPLEEN, SPLEEN]


def test_a_low_threshold_claims_what_is_not_the_most_probable_class() -> None:
    first, second = voxels({LIVER: 0.4}, {LIVER: 0.3}), voxels({}, {})
    assert labels_of([first, second], plain(FROM_BOTH)) == [0, 0]
    assert labels_of([first, second], replace(plain(FROM_BOTH), thresholds=(0, 0, 0.35, 0, 0, 0, 0))) == [
        LIVER,
        0,
    ]


def test_the_mean_over_the_models_can_decide() -> None:
    first, second = voxels({LIVER: 0.6, SPLEEN: 0.4}), voxels({SPLEEN: 0.55, LIVER: 0.45})  # means 0.525 and 0.475
    assert labels_of([first, second], replace(plain(FROM_BOTH), evidence="mean")) == [LIVER]
    third = voxels({SPLEEN: 0.55})  # the liver's mean is 0.3
    assert labels_of([first, third], replace(plain(FROM_BOTH), evidence="mean")) == [SPLEEN]
    assert labels_of([first, third], plain(FROM_BOTH)) == [LIVER]


def test_calibrated_probabilities_by_hand() -> None:
    assert log_odds(torch.tensor([0.5, 0.8])).tolist() == pytest.approx([0, 1.3862944])  # ln 4
    assert bool(log_odds(torch.tensor([0.0, 1.0])).isfinite().all())
    assert calibrated(torch.tensor([0.8]), 0.5, 0).tolist() == pytest.approx([2 / 3])  # odds of 4 become 2
    assert calibrated(torch.tensor([0.8]), 1, -1.3862944).tolist() == pytest.approx([0.5])
    as_it_is = torch.rand(9)
    assert calibrated(as_it_is, 1, 0) is as_it_is


def test_a_contested_voxel_goes_to_the_highest_calibrated_probability() -> None:
    first, second = voxels({LIVER: 0.6}, {LIVER: 0.6}), voxels({SPLEEN: 0.9}, {SPLEEN: 0.99})
    assert labels_of([first, second], plain(FROM_BOTH)) == [SPLEEN, SPLEEN]
    # the spleen's model is too sure: odds of 9 and 99 become 9/8 and 99/8 against the liver's 1.5
    calibration = tuple((1.0, -2.0794415 if organ + 1 == SPLEEN else 0.0) for organ in range(7))
    assert labels_of([first, second], replace(plain(FROM_BOTH), calibration=calibration)) == [LIVER, SPLEEN]


@pytest.mark.parametrize("seed", range(3))
def test_calibration_changes_no_voxel_that_one_organ_claims_or_none(seed: int) -> None:
    models = random_models(seed)
    rule = plain(FROM_BOTH)
    other = replace(rule, calibration=tuple((0.3 + organ, 4.0 - organ) for organ in range(7)))
    claims = [models[owner].argmax(dim=0) == label for label, owner in enumerate(FROM_BOTH, start=1)]
    contested = torch.stack(claims).sum(dim=0) > 1
    assert torch.equal(rule(models)[~contested], other(models)[~contested])
    assert not torch.equal(rule(models)[contested], other(models)[contested])


# ------------------------------------------------------------------------------------------ the record

OF_AN_EARLIER_VERSION = """version: 1.0.0
chosen_on: [case_1]
organs:
{organs}
evidence: mean
settled_by: weights and thresholds
below: [spleen]
models:
  uniform_lr0.01_seed_0: {{file: models/a.pt, sha256: a, step: 5, checkpoint_sha256: b}}
  simple_lr0.01_seed_1: {{file: models/b.pt, sha256: c, step: 7, checkpoint_sha256: d}}
iterations: 7
inputs_sha256: e
"""


def test_a_record_of_an_earlier_version_decides_as_it_did(tmp_path: Path) -> None:
    arms = {"liver": "uniform_lr0.01_seed_0"}
    lines = [
        f"  {organ}: {{model: {arms.get(organ, 'simple_lr0.01_seed_1')}, arm: x, seed: 0, validation_dice: 0.5, "
        f"weight: {2.0 if organ == 'liver' else 1.0}, threshold: {0.4 if organ == 'spleen' else 0.0}}}"
        for organ in CLASS_NAMES[1:]
    ]
    RunFolder(tmp_path).fusion.write_text(OF_AN_EARLIER_VERSION.format(organs="\n".join(lines)))
    record = FusionRecord.read(RunFolder(tmp_path))
    names, rule = record.rule()
    assert names == ("simple_lr0.01_seed_1", "uniform_lr0.01_seed_0")  # in the order of the organs, each once
    assert rule == FusionRule(
        (0, 0, 1, 0, 0, 0, 0), ((1.0, 0.0),) * 7, (1, 1, 2, 1, 1, 1, 1), (0, 0, 0, 0.4, 0, 0, 0), "mean"
    )
    assert record.below == ("spleen",)
    assert record.validation_cases == 1
    assert record.checksum.startswith("a6e991871bacafa2")  # as it was taken then: predictions know their model by it


def test_what_was_found_out_afterwards_is_no_part_of_the_checksum(tmp_path: Path) -> None:
    RunFolder(tmp_path).fusion.write_text("version: 1\n")
    with pytest.raises(BadInputError, match=r"fusion\.yaml: damaged"):
        FusionRecord.read(RunFolder(tmp_path))
    record = FusionRecord(version="1", chosen_on=(), organs={}, models={}, iterations=1, inputs_sha256="")
    assert record.checksum == record.model_copy(update={"below": ("liver",)}).checksum
    assert record.checksum != record.model_copy(update={"iterations": 2}).checksum
