"""Losses where numbers are at their ends: a short version of `make torture`, and what it found, one by one."""

from itertools import chain, islice
from random import Random

import numpy as np
import pytest
import torch

from torture.numerics import CLASSES, Trouble, every_pair, fails, troubles
from viscera.core.config import LossConfig
from viscera.core.errors import BadInputError
from viscera.engine.diagnostics import logit_gradient_norms, shares
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss
from viscera.plugins.monai import MonaiDiceLoss

SHAPE = (2, CLASSES, 3, 4, 5)
ANY = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
BACKGROUND = torch.zeros((2, 3, 4, 5), dtype=torch.uint8)


def test_every_loss_is_finite_and_right_or_says_why_not() -> None:
    wrong = []
    for number, trouble in enumerate(chain(every_pair(), islice(troubles(Random(5)), 40))):  # noqa: S311 - repeatable
        if why := fails(trouble, Random(number)):  # noqa: S311
            wrong.append((number, str(trouble), why))
    assert wrong == []


def test_a_wrong_gradient_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Trouble("simple", "usual", "paper", "Dice", "any", "usual", "float32", "all", "loss")
    assert fails(plain, Random(0)) == ""  # noqa: S311
    backward = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: tuple(1.01 * g for g in backward(*a, **k)))
    monkeypatch.setattr("torture.numerics.plain_loss", lambda *a: (a[0].logits * 0).sum())
    assert fails(plain, Random(0)).startswith("gradient: ")  # noqa: S311


def test_a_class_that_is_nowhere_gives_no_gradient_whatever_its_weight() -> None:
    """Its cardinality is 0, and so the derivative by its intersection infinite: times 0 that was NaN."""
    probabilities = torch.softmax(ANY, dim=1)
    probabilities[:, 3] = 0
    probabilities.requires_grad_()
    weights = [1.0, 1.0, 1.0, 1e12, 1.0]
    for loss in (
        WeightedDiceLoss(weights, inputs="probabilities"),
        MonaiDiceLoss(weights, to_onehot_y=True, batch=True, smooth_nr=0, smooth_dr=0),
    ):
        (gradient,) = torch.autograd.grad(loss(probabilities, BACKGROUND[:, None]), probabilities)
        assert gradient.isfinite().all()
        assert not gradient[:, 3].any()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("labelled", [None, [True, False, False, True, True]])
def test_the_cross_entropy_pulls_where_a_probability_is_0_in_32_bits(
    create_graph: bool, labelled: list[bool] | None
) -> None:
    """Its gradient by the logit is s - r, of one voxel of one class: -1 where s is 0, whatever 32 bits hold."""
    logits = torch.zeros(1, CLASSES, 1, 1, 1)
    logits[0, 4] = 500
    logits.requires_grad_()
    loss = DiceAndCrossEntropyLoss(np.zeros(CLASSES), np.ones(CLASSES))
    mask = None if labelled is None else torch.tensor([labelled])
    value = loss(logits, torch.zeros(1, 1, 1, 1, dtype=torch.uint8), mask)
    (gradient,) = torch.autograd.grad(value, logits, create_graph=create_graph)
    expected = [-1.0, 0, 0, 0, 1] if labelled is None else [-1 / 3, -1 / 3, -1 / 3, 0, 1]  # background is three classes
    torch.testing.assert_close(gradient.flatten(), torch.tensor(expected))


def test_the_weight_of_a_class_that_is_not_there_has_no_say_in_the_cross_entropy() -> None:
    value = [
        DiceAndCrossEntropyLoss(np.zeros(CLASSES), [1e-25, 1, 1, 1, beside])(ANY, BACKGROUND) for beside in (1, 1e25)
    ]
    expected = torch.nn.functional.cross_entropy(ANY, BACKGROUND.long())
    torch.testing.assert_close(torch.stack(value), expected.expand(2))


def test_what_32_bits_do_not_hold_is_said_before_the_training() -> None:
    with pytest.raises(BadInputError, match=r"numbers of at most 1e\+37 were expected.* a larger epsilon"):
        WeightedDiceLoss([1.0, 1e38])
    with pytest.raises(BadInputError, match=r"smoothing: 1e-30 is too small beside class weights of up to 1e\+12"):
        WeightedDiceLoss([1.0, 1e12], smoothing=1e-30)
    config = LossConfig(count_scale=1e300)
    with pytest.raises(BadInputError, match=r"more than a number holds\. Lower it"):
        WeightSchedule.of([10**12, 10**9], "square", config, 3)
    tiny = LossConfig(epsilon=1e-320)
    with pytest.raises(BadInputError, match=r"class 1 has no voxel and epsilon is 9\.99.*e-321"):
        WeightSchedule.of([10**12, 0], "simple", tiny, 3)


def test_a_share_of_the_gradient_is_a_number_where_a_class_has_nearly_no_probability() -> None:
    """The square of its cardinality of about 1e-25 was 0; a curve with NaN cannot be written."""
    logits = ANY.clone()
    logits[:, 3] = -60
    alone = WeightedDiceLoss(np.ones(CLASSES))
    both = DiceAndCrossEntropyLoss(np.full(CLASSES, 1e30), np.ones(CLASSES), factor=1e6)
    for loss in (alone, both):
        found = shares(logit_gradient_norms(logits, BACKGROUND, loss), "abcde")
        assert sum(found.values()) == pytest.approx(1)
        assert found["d"] < 1e-6
