"""Sub-volumes that do not label every class: worked by hand, and what must not change."""

import pytest
import torch
from torch import Tensor

import viscera
from viscera.core.errors import BadInputError

# Three classes, two sub-volumes of two voxels. The first labels all; the second does not label class 2, so its
# background's probability is 0.25 + 0.5 = 0.75 in one voxel and 0.5 + 0.25 = 0.75 in the other.
FIRST = [[0.5, 0.25], [0.25, 0.5], [0.25, 0.25]]  # classes by voxels
SECOND = [[0.25, 0.5], [0.25, 0.25], [0.5, 0.25]]
PROBABILITIES = torch.tensor([FIRST, SECOND], dtype=torch.float64).view(2, 3, 2, 1, 1)
LABELS = torch.tensor([[2, 1], [0, 1]]).view(2, 2, 1, 1)
LABELLED = torch.tensor([[True, True, True], [True, True, False]])


def per_class(labelled: Tensor | None = LABELLED, labels: Tensor = LABELS, **settings: object) -> Tensor:
    loss = viscera.WeightedDiceLoss([1.0] * 3, **settings)  # type: ignore[arg-type]
    return loss.per_class(PROBABILITIES.log(), labels, labelled)


def test_sums_over_the_batch() -> None:
    # class 0: intersection 0.75 (second), cardinality 0.75 + 1.5 + 1 = 3.25
    # class 1: intersection 0.5 + 0.25, cardinality 0.75 + 0.5 + 2 = 3.25
    # class 2, the first alone: intersection 0.25, cardinality 0.5 + 1 = 1.5
    assert per_class().tolist() == pytest.approx([-1.5 / 3.25, -1.5 / 3.25, -0.5 / 1.5])


def test_sums_of_each_sub_volume_then_the_mean_of_those_that_label_it() -> None:
    # class 0: 0 and -1.5 / 2.5; class 1: -1 / 1.75 and -0.5 / 1.5; class 2: -0.5 / 1.5 of the first alone
    expected = [-0.6 / 2, -(1 / 1.75 + 1 / 3) / 2, -1 / 3]
    assert per_class(sums="sub_volume").tolist() == pytest.approx(expected)


def test_the_weighted_mean_is_over_all_classes() -> None:
    loss = viscera.WeightedDiceLoss([1.0, 2.0, 3.0])(PROBABILITIES.log(), LABELS, LABELLED)
    assert loss.item() == pytest.approx((-1.5 / 3.25 - 3 / 3.25 - 1) / 3)


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_a_class_that_is_labelled_nowhere_gives_exactly_zero_and_no_gradient(sums: str, smoothing: float) -> None:
    logits = PROBABILITIES.log().requires_grad_()
    nowhere = torch.tensor([[True, True, False]] * 2)
    loss = viscera.WeightedDiceLoss([1.0] * 3, sums=sums, smoothing=smoothing)  # type: ignore[arg-type]
    term = loss.per_class(logits, LABELS, nowhere)[2]
    (gradient,) = torch.autograd.grad(term, logits)
    assert term.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
@pytest.mark.parametrize("smoothing", [0.0, 1e-5])
@pytest.mark.parametrize("batch", [2, 3, 5])
def test_with_everything_labelled_no_bit_changes(sums: str, smoothing: float, batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, 8, 6, 5, 7, generator=generator).requires_grad_()
    labels = torch.randint(0, 8, (batch, 6, 5, 7), generator=generator)
    weights = torch.rand(8, generator=generator)
    loss = viscera.WeightedDiceLoss(weights, sums=sums, smoothing=smoothing)  # type: ignore[arg-type]
    values = [loss(logits, labels), loss(logits, labels, torch.ones(batch, 8, dtype=torch.bool))]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in values))


def test_voxels_of_an_unlabelled_class_are_background() -> None:
    assert torch.equal(per_class(labels=torch.tensor([[2, 1], [2, 1]]).view(2, 2, 1, 1)), per_class())


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (LABELLED.int(), "labelled: torch.int32 of shape"),
        (LABELLED[:1], r"bool of shape \(2, 3\) was expected"),
        (~LABELLED, "background is always labelled"),
    ],
)
def test_bad_masks(labelled: Tensor, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        per_class(labelled)
