"""Sub-volumes in which some classes are not labelled: there background means "none of the labelled classes".

The probability of the classes that a sub-volume does not label is added to background's before Eq. 2 (marginal Dice;
Shi et al., Medical Image Analysis 2021, "Marginal loss and exclusion loss for partially supervised multi-organ
segmentation"). Their own sums are then 0 there.
"""

import torch
from torch import Tensor


def merged(values_BLIJK: Tensor, labelled_BL: Tensor) -> Tensor:
    """Probabilities with those of each sub-volume's unlabelled classes added to background's, and 0 in their place.

    Background comes first and is labelled everywhere. Equal to the last bit where everything is labelled.
    """
    kept_BLIJK = labelled_BL.to(values_BLIJK.dtype)[:, :, None, None, None]
    background = values_BLIJK[:, :1] + (values_BLIJK * (1 - kept_BLIJK)).sum(dim=1, keepdim=True)
    return (values_BLIJK * kept_BLIJK).index_copy(1, labelled_BL.new_zeros(1).long(), background)


def log_merged(logs_BLIJK: Tensor, labelled_BL: Tensor | None) -> Tensor:
    """The same of logarithms of probabilities; those of classes that are not labelled, which no label has, stay."""
    if labelled_BL is None:
        return logs_BLIJK
    apart_BL = torch.cat([torch.zeros_like(labelled_BL[:, :1]), labelled_BL[:, 1:]], dim=1)
    within_BLIJK = logs_BLIJK.masked_fill(apart_BL[:, :, None, None, None], -torch.inf)
    background = within_BLIJK.logsumexp(dim=1, keepdim=True)
    return torch.cat([background, logs_BLIJK[:, 1:]], dim=1)


def merged_labels(labels_BIJK: Tensor, labelled_BL: Tensor, ignore_index: int | None = None) -> Tensor:
    """Class numbers with those of each sub-volume's unlabelled classes as background, int64; `ignore_index` stays."""
    labels_BV = labels_BIJK.flatten(1).long()
    if ignore_index is None:
        return (labels_BV * labelled_BL.gather(1, labels_BV)).view(labels_BIJK.shape)
    known_BV = labels_BV != ignore_index
    merged_BV = labels_BV * labelled_BL.gather(1, labels_BV * known_BV)
    return torch.where(known_BV, merged_BV, labels_BV).view(labels_BIJK.shape)


def mean_of_labelled(values_BL: Tensor, labelled_BL: Tensor) -> Tensor:
    """The mean of each class over the sub-volumes that label it, (L,); 0 where none does."""
    number_L = labelled_BL.sum(dim=0).clamp(min=1)
    return (values_BL * labelled_BL * (len(values_BL) / number_L)).mean(dim=0)
