"""Why an arm learns or fails: whose gradient it is, and how far Adam's step falls short of its rate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import CLASS_NAMES, IGNORED, NUM_CLASSES
from viscera.core.config import TrainConfig
from viscera.engine.feed import NetworkInput
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss, one_hot, soft_dice_sums
from viscera.losses.marginal import merged, merged_labels

_TIME_SHARE = 0.01  # of the training, for the passes below; the whole diagnosis stays under 2 %
_POINTS_PER_DECADE = 3
_WINDOWS = 2
_LEAST = 1e-15  # probability that is divided by


@torch.no_grad()
def logit_gradient_norms(
    logits_BLIJK: Tensor, labels_BIJK: Tensor, loss: WeightedDiceLoss, labelled_BL: Tensor | None = None
) -> Tensor:
    """Norm of the gradient that each class's term of Eq. 6 sends to these logits, (L,) as the weights; closed form.

    With s the softmax, r the one-hot truth, I = Σ s r, C = Σ s + Σ r and a the smoothing, the term of class l is
    -w (2 I + a) / (L (C + a)). Its derivative by s is g = -w (2 r (C + a) - 2 I - a) / (L (C + a)²), and by the logit
    of class k it is g s_l (δ_kl - s_k), so that the squared norm is Σ g² s_l² (1 - 2 s_l + Σ_k s_k²) over the voxels.

    Where a sub-volume does not label all classes, background stands for a set U with q = Σ_U s. By the logit of a class
    of U the derivative is g s_k (1 - q), by any other -g q s_k; squared norm Σ g² ((1 - 2 q) Σ_U s² + q² Σ_k s_k²).

    With the cross-entropy beside it a class's term has -c log s (or q) of its own voxels too: there w g less c / s.
    A voxel that nobody labelled has s = r = 0.
    """
    probabilities_BLIJK = torch.softmax(logits_BLIJK.float(), dim=1)
    ignored = loss.ignored_in(labels_BIJK)
    if ignored is not None:
        probabilities_BLIJK.masked_fill_((labels_BIJK == ignored).unsqueeze(1), 0)
    length_B1V = probabilities_BLIJK.square().sum(dim=1, keepdim=True).flatten(2)
    own_BLV: Tensor | None = None
    if labelled_BL is not None:
        own_BLV = merged(probabilities_BLIJK.square(), labelled_BL).flatten(2)
        probabilities_BLIJK = merged(probabilities_BLIJK, labelled_BL)
        labels_BIJK = merged_labels(labels_BIJK, labelled_BL, ignored)
    one_hot_BLV = one_hot(labels_BIJK, probabilities_BLIJK, ignored)
    own: tuple[Tensor, ...] = soft_dice_sums(probabilities_BLIJK, labels_BIJK, ignored)
    if isinstance(loss, DiceAndCrossEntropyLoss):
        own += one_hot_BLV[:, :, 0], one_hot_BLV.sum(dim=2)
    whole, labelled_of_all = loss.shared(own, labelled_BL)
    labelled_of_all = loss.labelling(whole[1], labelled_of_all)
    weights_L = loss.class_weights / loss.class_weights.numel()
    if loss.sums == "batch":
        intersection_BL, cardinality_BL = (each.sum(dim=0, keepdim=True) for each in whole[:2])
    else:
        intersection_BL, cardinality_BL = own[:2]
        labelling = len(whole[0]) if labelled_of_all is None else labelled_of_all.sum(dim=0).clamp(min=1)
        weights_L = weights_L / labelling
    denominator = cardinality_BL + loss.smoothing
    denominator = denominator.masked_fill(denominator == 0, 1)  # a class that is not labelled: all of it is 0
    # g / w where r = 0; one division after the other, as the square of a small sum is 0 in 32 bits
    outside = ((2 * intersection_BL + loss.smoothing) / denominator / denominator)[..., None]
    inside = outside - (2 / denominator)[..., None]  # g / w where r = 1
    probabilities_BLV = probabilities_BLIJK.flatten(2)
    gradient_BLV = torch.where(one_hot_BLV > 0, inside, outside)
    if isinstance(loss, DiceAndCrossEntropyLoss):
        pull_BLV = one_hot_BLV * loss.pull(whole[3])[:, None] / probabilities_BLV.clamp(min=_LEAST)
        gradient_BLV = gradient_BLV * weights_L.to(gradient_BLV.dtype)[:, None] - pull_BLV
        exponent = torch.frexp(gradient_BLV.abs().amax()).exponent.clamp(min=0)  # 32 bits may not hold the squares
        gradient_BLV = torch.ldexp(gradient_BLV, -exponent)
        weights_L = torch.ldexp(torch.ones_like(weights_L), exponent)
    if own_BLV is None:
        through_softmax_BLV = 1 - 2 * probabilities_BLV + length_B1V
        squares_BLV = (gradient_BLV * probabilities_BLV).square().mul_(through_softmax_BLV.clamp_(min=0))
    else:
        reached_BLV = own_BLV * (1 - 2 * probabilities_BLV) + probabilities_BLV.square() * length_B1V
        squares_BLV = gradient_BLV.square().mul_(reached_BLV.clamp_(min=0))
    return squares_BLV.sum(dim=(0, 2)).to(weights_L.dtype).sqrt().mul_(weights_L)


def parameter_gradient_norms(network: nn.Module, loss: WeightedDiceLoss, inputs: NetworkInput) -> Tensor:
    """Norm over all parameters of the gradient of each class's term of the loss, (L,) as the weights; a pass each.

    The network is left as it was: its batch-norm statistics do not move and no gradient stays. Weights are applied
    afterwards, so that small ones do not underflow.
    """
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    parameters = [each for each in network.parameters() if each.requires_grad]
    terms_L, factors_L = loss.terms(network(inputs.x), inputs.labels, inputs.labelled)
    norms = []
    for term in terms_L:
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, materialize_grads=True)
        norms.append(torch.stack([g.to(factors_L.dtype).square().sum() for g in gradients]).sum().sqrt())
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
    return torch.stack(norms).detach() * factors_L


@torch.no_grad()
def steps_over_rate(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Mean absolute step of Adam's last step over its learning rate, by layer: with epsilon, and without it.

    That is |m̂| / (√v̂ + ε) and |m̂| / √v̂ (Kingma and Ba, 2015), averaged over the weights of each convolution. Empty
    for an optimiser without second moments, which has no epsilon.
    """
    if not isinstance(optimizer, torch.optim.Adam):
        return {}
    group = optimizer.param_groups[0]
    beta1, beta2 = group["betas"]
    result = {}
    for name, layer in network.named_modules():
        state = optimizer.state.get(layer.weight) if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d) else None
        if not state:
            continue
        steps = float(state["step"])
        mean = state["exp_avg"].abs() / (1 - beta1**steps)
        root = (state["exp_avg_sq"] / (1 - beta2**steps)).sqrt()
        with_epsilon, without = mean / (root + group["eps"]), mean / root
        result[name] = (float(with_epsilon.mean()), float(without.nan_to_num(nan=0.0, posinf=1.0).mean()))
    return result


def shares(norms_L: Tensor, names: Sequence[str] = CLASS_NAMES) -> dict[str, float]:
    """Each class's share of the sum of the norms, by name; zeros where all are 0."""
    total = float(norms_L.sum())
    values = norms_L.tolist() if total > 0 else [0.0] * len(norms_L)
    return {name: value / (total or 1.0) for name, value in zip(names, values, strict=True)}


def full_steps(config: TrainConfig, num_classes: int = NUM_CLASSES) -> frozenset[int]:
    """The logged steps, evenly spaced on a logarithmic scale, at which the passes over all parameters are affordable.

    One costs a forward and L backward passes over two windows: (1 + 2 L) / 3 steps of two windows each.
    """
    cost_in_steps = (1 + 2 * num_classes) / 3 * min(_WINDOWS / config.batch_size, 1)
    affordable = int(_TIME_SHARE * config.iterations / cost_in_steps)
    wanted = round(_POINTS_PER_DECADE * np.log10(config.iterations)) + 1
    count = max(1, min(affordable, wanted))
    every = config.logged_every
    wished = np.geomspace(every, config.iterations, count) if count > 1 else [config.iterations]
    logged = (-(-round(step) // every) * every for step in wished)
    return frozenset(min(step, config.iterations) for step in logged)


def full_diagnosis(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: WeightedDiceLoss,
    inputs: NetworkInput,
    names: Sequence[str] = CLASS_NAMES,
) -> dict[str, Any]:
    """What a line of the curve says at a full step, from the two windows of the batch that have most classes.

    By class `parameter_gradient_share`, by layer `step_over_rate` and `step_over_rate_without_epsilon` (of Adam alone).
    Two windows are no slower than one: PyTorch's convolutions of a single small window on one core take another way.
    """
    classes = [len(labels[labels != IGNORED].unique()) for labels in inputs.labels]
    windows = np.argsort(classes)[::-1][:_WINDOWS].copy()
    norms_L = parameter_gradient_norms(network, loss, inputs.of_windows(windows))
    steps = steps_over_rate(network, optimizer)
    return {
        "parameter_gradient_share": shares(norms_L, names),
        "step_over_rate": {layer: with_epsilon for layer, (with_epsilon, _) in steps.items()},
        "step_over_rate_without_epsilon": {layer: without for layer, (_, without) in steps.items()},
    }
