"""The last 1³ layer of a trained network, fitted anew with uniform weights: do its features tell the classes apart?

A linear classifier on frozen features is a probe of what they hold (Alain and Bengio, "Understanding intermediate
layers using linear classifier probes", 2016). The class weights have no part in it, nor does the old last layer: one
that calls everything stomach sends next to no gradient. It starts where each class is nearest to its own mean, because
from zero a small class does not come forward in so few steps (docs/decisions/0037-probe.md has the control).
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from viscera.core.anatomy import IGNORED
from viscera.core.config import TrainConfig
from viscera.engine.feed import Feed
from viscera.engine.hardware import autocast
from viscera.imaging.windows import network_input
from viscera.losses.dice import training_loss
from viscera.networks.unet3d import UNet3D

STEPS = 50
_RATE = 0.1  # at first, of features of unit variance; it falls to 0
_LOOKS = 10  # mini-batches that the means of features and classes are taken over
_LEAST_DEVIATION = 1e-6


def with_refitted_head(
    network: UNet3D, feed: Feed, train: TrainConfig, device: torch.device, told: Callable[[int], None] = lambda _: None
) -> UNet3D:
    """A copy of a network whose last layer is fitted anew by the loss of its training, all classes weighted alike.

    `STEPS` steps of Adam over the feed's mini-batches, a pure function of network and feed on a CPU. All before the
    last layer stays as it is applied: in evaluation mode, with the statistics of batch normalisation that the network
    keeps. `told` is called with the number of each step. The given network and the global generator stay as they are.
    """
    found = deepcopy(network).eval().requires_grad_(requires_grad=False)
    length = found.head.out_channels
    loss = training_loss(train.loss, np.ones(length), ignore_index=IGNORED).to(device)
    looks = (feed.batch(STEPS + 1 + number) for number in range(_LOOKS))
    start = _Means.of(((_features(found, batch.hu, train, device), batch.labels) for batch in looks), length)
    weight, bias = (each.requires_grad_() for each in start.nearest())
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    for step in range(STEPS):
        batch = feed.batch(step + 1)
        features_BCIJK = _features(found, batch.hu, train, device)
        own_LC, own_L = start.unscaled(weight, bias)
        logits_BLIJK = torch.einsum("lc,bcijk->blijk", own_LC, features_BCIJK) + own_L[:, None, None, None]
        labelled = None if batch.labelled is None else batch.labelled.to(device)
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / STEPS)
        optimizer.zero_grad(set_to_none=True)
        loss(logits_BLIJK, batch.labels.to(device), labelled).backward()
        optimizer.step()
        told(step + 1)
    with torch.no_grad():
        own_LC, own_L = start.unscaled(weight, bias)
        found.head.weight.copy_(own_LC[:, :, None, None, None])
        found.head.get_parameter("bias").copy_(own_L)
    return found


class _Means(NamedTuple):
    """What is known of some features before the layer is fitted."""

    mean: Tensor  # (C,)
    inverse: Tensor  # (C,) inverse standard deviation; 0 of a channel that says nothing
    of_classes: Tensor  # (L, C) of scaled features; NaN of a class without any voxel

    @classmethod
    def of(cls, batches: Iterable[tuple[Tensor, Tensor]], length: int) -> "_Means":
        """Over batches of features (B, C, I, J, K) and labels (B, I, J, K)."""
        sums = []
        for features_BCIJK, labels_BIJK in batches:
            labels = labels_BIJK.to(features_BCIJK.device)
            of_voxels_VC = features_BCIJK.movedim(1, -1)[labels != IGNORED].double()  # a small variance beside a mean
            one_hot_VL = F.one_hot(labels[labels != IGNORED].long(), length).double()
            sums.append((one_hot_VL.sum(dim=0), one_hot_VL.T @ of_voxels_VC, of_voxels_VC.square().sum(dim=0)))
        number_L, sum_LC, squares_C = (torch.stack(parts).sum(dim=0) for parts in zip(*sums, strict=True))
        mean_C = sum_LC.sum(dim=0) / number_L.sum()
        deviation_C = (squares_C / number_L.sum() - mean_C.square()).clamp(min=0).sqrt()
        inverse_C = torch.where(deviation_C > _LEAST_DEVIATION, 1 / deviation_C, torch.zeros_like(deviation_C))
        of_classes_LC = (sum_LC / number_L[:, None] - mean_C) * inverse_C
        return cls(mean_C.float(), inverse_C.float(), of_classes_LC.float())

    def nearest(self) -> tuple[Tensor, Tensor]:
        """Weight (L, C) and bias (L,), for scaled features, with which the class of the nearest mean is the largest.

        They give x m - |m|² / 2, which is |x|² / 2 - |x - m|² / 2; a class without a mean comes last at first.
        """
        bias_L = -self.of_classes.square().sum(dim=1) / 2
        lowest = bias_L.nan_to_num(nan=0.0).min() - 1
        return self.of_classes.nan_to_num(nan=0.0), torch.where(bias_L.isnan(), lowest, bias_L)

    def unscaled(self, weight_LC: Tensor, bias_L: Tensor) -> tuple[Tensor, Tensor]:
        """Weights that do to features as they are what these do to scaled ones."""
        own_LC = weight_LC * self.inverse
        return own_LC, bias_L - own_LC @ self.mean


@torch.no_grad()
def _features(network: UNet3D, hu_BIJK: Tensor, train: TrainConfig, device: torch.device) -> Tensor:
    """What the last layer is given of the voxels of some windows, (B, C, I, J, K) float32."""
    given: list[Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _head, inputs: given.append(inputs[0]))
    with hook, autocast(device, train.precision):
        network(network_input(hu_BIJK.to(device), train.intensity))
    i, j, k = hu_BIJK.shape[1:]
    return given[0][..., :i, :j, :k].float()
