"""Laws of the loss where a class is not labelled, for any logits, labels and weights."""

from typing import Literal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import viscera

SEEDS = st.integers(0, 2**31)
quick = settings(max_examples=25, deadline=None)
WITHOUT_LAST = torch.tensor([[True] * 4 + [False]] * 2)  # of five classes; in neither of two sub-volumes
IN_THE_FIRST = torch.tensor([[True] * 5, [True] * 4 + [False]])


def sample(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 3, 4, 3, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 5, (2, 3, 4, 3), generator=generator)
    labels[1][labels[1] == 4] = 0
    return logits, labels, torch.rand(5, generator=generator, dtype=torch.float64) * 10


@quick
@given(SEEDS, st.sampled_from(["batch", "sub_volume"]))
def test_a_class_labelled_nowhere_is_a_part_of_background(seed: int, sums: Literal["batch", "sub_volume"]) -> None:
    """The loss of one class less, whose background's logit is the log of the sum of both exponentials."""
    logits, labels, weights = sample(seed)
    together = torch.logsumexp(logits[:, [0, 4]], dim=1, keepdim=True)
    fewer = viscera.WeightedDiceLoss(weights[:4], sums=sums)(
        torch.cat((together, logits[:, 1:4]), dim=1), torch.where(labels == 4, 0, labels)
    )
    masked = viscera.WeightedDiceLoss(weights, sums=sums)(logits, labels, WITHOUT_LAST)
    torch.testing.assert_close(masked * 5, fewer * 4, rtol=1e-12, atol=0)


@quick
@given(SEEDS)
def test_an_unlabelled_class_has_a_gradient_through_background_alone(seed: int) -> None:
    """By its probability the gradient is background's; by its logit it is background's in proportion to the two."""
    logits, labels, weights = sample(seed)
    probabilities = torch.softmax(logits, dim=1).requires_grad_()
    loss = viscera.WeightedDiceLoss(weights, inputs="probabilities")(probabilities, labels, IN_THE_FIRST)
    (gradient,) = torch.autograd.grad(loss, probabilities)
    assert torch.equal(gradient[1, 4], gradient[1, 0])
    assert not torch.equal(gradient[0, 4], gradient[0, 0])  # where it is labelled it has its own

    logits.requires_grad_()
    (by_logit,) = torch.autograd.grad(viscera.WeightedDiceLoss(weights)(logits, labels, IN_THE_FIRST), logits)
    share = probabilities.detach()[1]
    torch.testing.assert_close(by_logit[1, 4] * share[0], by_logit[1, 0] * share[4], rtol=1e-9, atol=1e-15)


@quick
@given(SEEDS)
def test_a_term_does_not_see_the_sub_volumes_that_do_not_label_it(seed: int) -> None:
    logits, labels, weights = sample(seed)
    other = logits.clone()
    other[1] = other[1].flip(2)
    loss = viscera.WeightedDiceLoss(weights)
    one, two = (loss.per_class(each, labels, IN_THE_FIRST) for each in (logits, other))
    assert torch.equal(one[4], two[4])


@quick
@given(SEEDS)
def test_a_perfect_prediction_gives_minus_the_mean_weight(seed: int) -> None:
    _, labels, weights = sample(seed)
    labels.view(2, -1)[0, :5] = torch.arange(5)  # every class is present where it is labelled
    logits = torch.nn.functional.one_hot(labels, 5).movedim(-1, 1).double() * 1000
    unsure = logits[1, 0].clone()  # half of the second's background goes to the class that is not labelled there
    logits[1, 4][::2], logits[1, 0][::2] = unsure[::2], 0
    loss = viscera.WeightedDiceLoss(weights)(logits, labels, IN_THE_FIRST)
    torch.testing.assert_close(loss, -weights.mean(), rtol=1e-12, atol=0)
