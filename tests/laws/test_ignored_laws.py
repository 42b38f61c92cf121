"""Laws of voxels that nobody labelled: value and gradient of a loss are those of the other voxels alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from viscera.core.anatomy import IGNORED
from viscera.engine.diagnostics import logit_gradient_norms
from viscera.losses import dice_of_logits
from viscera.losses.deep_supervision import labels_of_level
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss

SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=15, deadline=None)
Make = Callable[..., WeightedDiceLoss]
LOSSES: dict[str, Make] = {
    "dice": WeightedDiceLoss,
    "dice and cross-entropy": lambda weights, **options: DiceAndCrossEntropyLoss(
        weights, weights.flip(0) + 1, factor=0.7, **options
    ),
}
ALL_LOSSES = st.sampled_from(sorted(LOSSES))
LAYOUTS = st.sampled_from([torch.contiguous_format, torch.channels_last_3d])
INPUTS = st.sampled_from(["logits", "probabilities"])


class Sample:
    """Two sub-volumes of 36 voxels, of which the first 20 of each, in another order, were labelled."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(2, 5, 3, 4, 3, generator=self.random, dtype=torch.float64) * 2
        self.labels = torch.randint(0, 5, (2, 3, 4, 3), generator=self.random, dtype=torch.uint8)
        self.weights = torch.rand(5, generator=self.random, dtype=torch.float64) * 10
        self.labelled = torch.tensor([[True] * 5, [True] * 4 + [False]])
        order = torch.stack([torch.randperm(36, generator=self.random) for _ in range(2)])
        self.known = torch.zeros(2, 36, dtype=torch.bool).scatter_(1, order[:, :20], True)
        self.labels.view(2, 36)[~self.known] = IGNORED

    def remaining(self, values: Tensor) -> Tensor:
        """(B, C, 20, 1, 1) of (B, C, I, J, K): the labelled voxels alone."""
        rows = [row.flatten(1)[:, known] for row, known in zip(values, self.known, strict=True)]
        return torch.stack(rows)[..., None, None]


def value_and_gradient(loss: WeightedDiceLoss, logits: Tensor, *labels: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = logits.clone(memory_format=torch.preserve_format).requires_grad_()
    given = logits if loss.inputs == "logits" else torch.softmax(logits, dim=1)
    value = loss(given, *labels)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@quick
@given(SEEDS, ALL_LOSSES, INPUTS, st.sampled_from(["batch", "sub_volume"]), st.booleans(), LAYOUTS)
def test_the_loss_is_that_of_the_other_voxels_alone(
    seed: int, which: str, inputs: str, sums: str, partly: bool, layout: torch.memory_format
) -> None:
    it = Sample(seed)
    mask = it.labelled if partly else None
    options: dict[str, Any] = {"sums": sums, "inputs": inputs, "smoothing": 1e-3}
    loss = LOSSES[which](it.weights, ignore_index=IGNORED, **options)
    value, gradient = value_and_gradient(loss, it.logits.to(memory_format=layout), it.labels, mask)
    labels = it.remaining(it.labels[:, None]).squeeze(1)
    plain = LOSSES[which](it.weights, **options)
    expected, gradient_there = value_and_gradient(plain, it.remaining(it.logits), labels, mask)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(it.remaining(gradient), gradient_there, rtol=1e-9, atol=1e-15)
    assert not gradient.flatten(2).movedim(1, -1)[~it.known].any()


@quick
@given(SEEDS, ALL_LOSSES, INPUTS, st.sampled_from([0.0, 50.0, float("inf"), float("nan")]), st.booleans())
def test_what_the_network_says_there_changes_nothing(
    seed: int, which: str, inputs: str, other: float, serial: bool
) -> None:
    it = Sample(seed)
    loss = LOSSES[which](it.weights, ignore_index=IGNORED, inputs=inputs)
    changed = it.logits.clone()
    changed.flatten(2).movedim(1, -1)[~it.known] = other
    with pytest.MonkeyPatch.context() as patch:
        if not serial:  # as a GPU adds up
            patch.setattr(dice_of_logits, "_ONE_AFTER_ANOTHER", set())
        if inputs == "probabilities":
            it.logits, changed = torch.softmax(it.logits, dim=1), torch.softmax(changed, dim=1)
        values = [each.clone().requires_grad_() for each in (it.logits, changed)]
        losses = [loss(each, it.labels, it.labelled) for each in values]
        gradients = [torch.autograd.grad(of, each)[0] for of, each in zip(losses, values, strict=True)]
    assert torch.equal(*losses)
    assert torch.equal(*gradients)


@quick
@given(SEEDS, ALL_LOSSES, st.sampled_from(["batch", "sub_volume"]), st.booleans())
def test_with_every_voxel_labelled_no_bit_changes(seed: int, which: str, sums: str, looks: bool) -> None:
    it = Sample(seed)
    labels, logits = it.labels.masked_fill(it.labels == IGNORED, 0), it.logits.float()
    ours, plain = (LOSSES[which](it.weights, sums=sums, ignore_index=number) for number in (IGNORED, None))
    with pytest.MonkeyPatch.context() as patch:
        if not looks:  # as on a GPU, where all are masked
            patch.setattr(WeightedDiceLoss, "ignored_in", lambda loss, _labels: loss.ignore_index)
        found = [value_and_gradient(each, logits, labels) for each in (ours, plain)]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("which", sorted(LOSSES))
@pytest.mark.parametrize("partly", [False, True])
def test_second_derivatives_are_those_of_finite_differences(which: str, partly: bool) -> None:
    it = Sample(3)
    logits, labels = it.logits[:, :, :2, :2, :1].contiguous().requires_grad_(), it.labels[:, :2, :2, :1].clone()
    labels[0, 0], labels[1, 1, 0] = IGNORED, IGNORED
    loss = LOSSES[which](it.weights, ignore_index=IGNORED)
    mask = it.labelled if partly else None
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, mask), (logits,))
    assert torch.autograd.gradgradcheck(lambda x: loss(x, labels, mask), (logits,))


@quick
@given(SEEDS, ALL_LOSSES, st.sampled_from(["batch", "sub_volume"]), st.booleans())
def test_shares_of_the_gradient_are_those_of_autograd(seed: int, which: str, sums: str, partly: bool) -> None:
    it = Sample(seed)
    loss = LOSSES[which](it.weights, sums=sums, ignore_index=IGNORED)
    mask = it.labelled if partly else None
    if sums == "sub_volume":
        it.labels[0] = IGNORED  # a window that has no part in the mean
    logits = it.logits.clone().requires_grad_()
    terms_L, factors_L = loss.terms(logits, it.labels, mask)
    expected = [torch.autograd.grad(term, logits, retain_graph=True)[0].norm() for term in terms_L]
    found = logit_gradient_norms(it.logits, it.labels, loss, mask)
    torch.testing.assert_close(found, torch.stack(expected) * factors_L, rtol=1e-4, atol=1e-9)


@quick
@given(SEEDS, ALL_LOSSES, st.sampled_from(["batch", "sub_volume"]), st.booleans())
def test_a_rank_of_which_nobody_labelled_a_window_has_the_loss_of_all(
    seed: int, which: str, sums: str, partly: bool
) -> None:
    """Each of two ranks has a sub-volume; what the other has is put beside its own sums, as an all-reduce would."""
    it = Sample(seed)
    it.labels[0] = IGNORED
    whole, of_rank = (LOSSES[which](it.weights, sums=sums, smoothing=0.1, ignore_index=IGNORED) for _ in range(2))
    mask = it.labelled if partly else None
    expected, gradient = value_and_gradient(whole, it.logits, it.labels, mask)
    for rank in range(2):
        own, other = slice(rank, rank + 1), slice(1 - rank, 2 - rank)
        masks = [None if mask is None else mask[part] for part in (own, other)]
        theirs = whole._own_sums(it.logits[other], it.labels[other], masks[1], with_entropy=True)
        of_rank.whole_batch = partial(beside, theirs, mask, rank)
        found = value_and_gradient(of_rank, it.logits[own], it.labels[own], masks[0])
        torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found[1], gradient[own], rtol=1e-9, atol=1e-15)


def beside(
    theirs: tuple[Tensor, ...], mask: Tensor | None, rank: int, first: Tensor, second: Tensor, _known: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A rank's sums with the other's, in the order of the ranks."""
    pairs = first.shape[1] // 5
    others = torch.cat(theirs[::2][:pairs], dim=1), torch.cat(theirs[1::2][:pairs], dim=1)
    ordered = [
        torch.cat([mine, its] if rank == 0 else [its, mine]) for mine, its in zip((first, second), others, strict=True)
    ]
    return ordered[0], ordered[1], None if mask is None else mask.repeat(1, pairs)


@quick
@given(SEEDS)
def test_lower_levels_have_the_ignored_voxels_of_their_nearest_labels(seed: int) -> None:
    it = Sample(seed)
    labels, unknown = (labels_of_level(each, (1, 2, 1)) for each in (it.labels, (it.labels == IGNORED).long()))
    assert torch.equal(labels == IGNORED, unknown == 1)
