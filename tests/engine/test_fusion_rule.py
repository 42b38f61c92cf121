"""Several models as one: worked voxels, and the law that without conflicts nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from viscera.core.anatomy import NUM_CLASSES
from viscera.engine.fusion_rule import FusionRule, combine, distinct_models
from viscera.metrics.overlap import dice, overlap_counts
from viscera.study.conflicts import THRESHOLDS, CaseTally, settle

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


def labels_of(models: list[Tensor], rule: FusionRule) -> list[int]:
    return [int(value) for value in combine(models, rule).ravel()]


@pytest.mark.parametrize("seed", range(3))
def test_all_organs_of_one_model_are_that_model(seed: int) -> None:
    models = random_models(seed)
    fused = combine(models, FusionRule.plain((1,) * 7))
    assert torch.equal(fused, models[1].argmax(dim=0).to(torch.uint8))


def test_a_voxel_that_one_organ_claims_is_its_own_and_one_that_none_claims_is_background() -> None:
    first = voxels({LIVER: 0.9}, {SPLEEN: 0.9}, {LIVER: 0.4})
    second = voxels({SPLEEN: 0.2}, {LIVER: 0.9}, {SPLEEN: 0.6})
    # the first model's spleen and the second's liver do not count
    assert labels_of([first, second], FusionRule.plain(FROM_BOTH)) == [LIVER, 0, SPLEEN]


def test_a_contested_voxel_goes_to_the_larger_weighted_probability_and_at_a_tie_to_the_lower_label() -> None:
    first, second = voxels({LIVER: 0.75}, {LIVER: 0.75}), voxels({SPLEEN: 0.875}, {SPLEEN: 0.75})
    assert labels_of([first, second], FusionRule.plain(FROM_BOTH)) == [SPLEEN, LIVER]
    for_liver = replace(FusionRule.plain(FROM_BOTH), weights=(1, 1, 2, 1, 1, 1, 1))
    assert labels_of([first, second], for_liver) == [LIVER, LIVER]
    for_spleen = replace(FusionRule.plain(FROM_BOTH), thresholds=(0, 0, 0.8, 0, 0, 0, 0))
    assert labels_of([first, second], for_spleen) == [SPLEEN, SPLEEN]


def test_a_low_threshold_claims_what_is_not_the_most_probable_class() -> None:
    first, second = voxels({LIVER: 0.4}, {LIVER: 0.3}), voxels({}, {})
    assert labels_of([first, second], FusionRule.plain(FROM_BOTH)) == [0, 0]
    assert labels_of([first, second], replace(FusionRule.plain(FROM_BOTH), thresholds=(0, 0, 0.35, 0, 0, 0, 0))) == [
        LIVER,
        0,
    ]


def test_the_mean_over_the_models_can_decide() -> None:
    first, second = voxels({LIVER: 0.6, SPLEEN: 0.4}), voxels({SPLEEN: 0.55, LIVER: 0.45})  # means 0.525 and 0.475
    assert labels_of([first, second], FusionRule.plain(FROM_BOTH, "mean")) == [LIVER]
    third = voxels({SPLEEN: 0.55})  # the liver's mean is 0.3
    assert labels_of([first, third], FusionRule.plain(FROM_BOTH, "mean")) == [SPLEEN]
    assert labels_of([first, third], FusionRule.plain(FROM_BOTH)) == [LIVER]


def test_models_are_listed_once() -> None:
    assert distinct_models(["b", "a", "b"]) == (("b", "a"), (0, 1, 0))


# ------------------------------------------------------------------------------------------ settling conflicts


def tally(models: list[Tensor], truth: Tensor, assigned: tuple[int, ...], slabs: int = 1) -> CaseTally:
    parts = [part.tolist() for part in np.array_split(np.arange(truth.shape[2]), slabs)]
    return CaseTally.of_slabs(
        (([m[..., part] for m in models], truth[..., part].numpy().astype(np.uint8)) for part in parts), assigned
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_tally_gives_the_dice_of_the_label_map(seed: int) -> None:
    models = random_models(seed, 3)
    generator = torch.Generator().manual_seed(seed + 100)
    truth = torch.randint(0, NUM_CLASSES, SHAPE, generator=generator)
    assigned = (0, 1, 2, 2, 1, 0, 1)
    case = tally(models, truth, assigned, slabs=1 + seed)
    thresholds = tuple(THRESHOLDS[(seed + organ) % len(THRESHOLDS)] for organ in range(7))
    for rule in (
        FusionRule.plain(assigned),
        replace(FusionRule.plain(assigned), weights=(1, 2, 0.5, 4, 1, 1, 0.25), evidence="mean"),
        replace(FusionRule.plain(assigned), weights=(1, 2, 0.5, 4, 1, 1, 0.25), thresholds=thresholds),
    ):
        labels = combine(models, rule).numpy()
        counts = overlap_counts(labels, truth.numpy().astype(np.uint8))
        assert case.dice(rule) == tuple(dice(*counts)[1:])
    own = []
    for organ, model in enumerate(assigned):
        mask, reference = models[model].argmax(dim=0) == organ + 1, truth == organ + 1
        both = int(mask.sum() + reference.sum())
        own.append(2 * int((mask & reference).sum()) / both if both else None)
    assert case.own_dice() == tuple(own)


def test_without_conflicts_probabilities_are_enough() -> None:
    first, second = voxels({LIVER: 0.9}, {}), voxels({}, {SPLEEN: 0.9})
    settled = settle([tally([first, second], torch.tensor([[[LIVER, SPLEEN]]]), FROM_BOTH)], FROM_BOTH)
    assert settled.settled_by == "probabilities"
    assert settled.fused == settled.alone == (None, None, 1.0, 1.0, None, None, None)
    assert settled.shortfall == 0


def test_a_sure_model_that_is_wrong_is_weighed_down() -> None:
    # Voxel 1 is liver, and both claim it, the spleen's model with more confidence; voxel 2 is liver alone, 3 spleen.
    # Own models: liver 2*2/(2+2) = 1, spleen 2*1/(2+1) = 2/3. By probability the liver would fall to 2*1/(1+2) = 2/3.
    first = voxels({LIVER: 0.6}, {LIVER: 0.9}, {})
    second = voxels({SPLEEN: 0.9}, {}, {SPLEEN: 0.9})
    settled = settle([tally([first, second], torch.tensor([[[LIVER, LIVER, SPLEEN]]]), FROM_BOTH)], FROM_BOTH)
    assert list(settled.alone[2:4]) == pytest.approx([1.0, 2 / 3])
    assert settled.settled_by == "weights"
    assert settled.fused[2:4] == (1.0, 1.0)
    assert settled.below == ()


def test_where_nothing_helps_the_organ_is_named() -> None:
    # Two contested voxels with the same probabilities, one of the liver, one of the spleen: whoever gets both, the
    # other has nothing. Own models: 2*1/(2+1) = 2/3 each.
    first, second = voxels({LIVER: 0.9}, {LIVER: 0.9}), voxels({SPLEEN: 0.95}, {SPLEEN: 0.95})
    settled = settle([tally([first, second], torch.tensor([[[LIVER, SPLEEN]]]), FROM_BOTH)], FROM_BOTH)
    assert settled.shortfall == pytest.approx(2 / 3)
    assert len(settled.below) == 1
    assert settled.below[0] in {LIVER, SPLEEN}


def test_a_case_that_does_not_label_an_organ_has_no_say_on_it() -> None:
    # The model is right on the first case; the second does not label the liver, so that its claim there is no error.
    first, second = voxels({LIVER: 0.9}), voxels({SPLEEN: 0.9})
    labelled = [organ + 1 != LIVER for organ in range(7)]
    cases = [
        tally([first, second], torch.tensor([[[LIVER]]]), (0,) * 7),
        CaseTally.of_slabs([([first, second], np.zeros((1, 1, 1), np.uint8))], (0,) * 7, labelled),
    ]
    for absent_is_one in (False, True):
        settled = settle(cases, (0,) * 7, absent_is_one=absent_is_one)
        assert settled.alone[LIVER - 1] == settled.fused[LIVER - 1] == 1
    assert settle(cases[1:], (0,) * 7, absent_is_one=True).alone[LIVER - 1] is None
