"""From the windows of a step to the loss, of all levels where the design has deep supervision."""

from typing import NamedTuple

import torch
from torch import Tensor

from viscera.engine.feed import NetworkInput
from viscera.engine.hardware import Precision, autocast
from viscera.losses.deep_supervision import labels_of_level, level_weights
from viscera.losses.dice import WeightedDiceLoss
from viscera.networks.unet3d import UNet3D


class Forward(NamedTuple):
    """What a forward pass gives: the loss, scalar; Eq. 2 (L,); logits BLIJK."""

    loss: Tensor
    dice_losses: Tensor
    logits: Tensor


def forward_pass(
    network: UNet3D, loss: WeightedDiceLoss, device: torch.device, precision: Precision, inputs: NetworkInput
) -> Forward:
    """The loss on a mini-batch, and what it was computed from; a GPU is not waited for."""
    design = network.design
    with autocast(device, precision):
        if design.deep_supervision:
            logits_BLIJK, *lower = network.logits_of_levels(inputs.x, inputs.kept)
        else:
            logits_BLIJK, lower = network(inputs.x, inputs.kept), []
    total, dice_loss_L = loss.parts(logits_BLIJK, inputs.labels, inputs.labelled)
    if lower:
        share, *shares_below = level_weights(1 + len(lower))
        total = share * total
        for level, (below, logits) in enumerate(zip(shares_below, lower, strict=True), start=1):
            labels = labels_of_level(inputs.labels, design.scale_of(level, network.levels))
            total = total + below * loss.parts(logits, labels, inputs.labelled)[0]
    return Forward(total, dice_loss_L, logits_BLIJK)
