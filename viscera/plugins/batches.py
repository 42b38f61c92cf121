"""Batches as other frameworks hold them, brought to the shapes and types of `viscera.WeightedDiceLoss`."""

import torch
from torch import Tensor

from viscera.core.errors import BadInputError, BadTypeError
from viscera.losses.loss_inputs import is_readable, plain


def as_volumes(values: Tensor) -> Tensor:
    """(B, C, I, J) as (B, C, I, J, 1), so that slices count as volumes one voxel thick; anything else as it is.

    A subclass of Tensor (MONAI's MetaTensor) comes back as the plain Tensor that it holds. Raises BadTypeError for what
    is no tensor.
    """
    if not isinstance(values, Tensor):
        raise BadTypeError(f"batch: {type(values).__name__}, a tensor was expected.")
    held = plain(values)
    return held.unsqueeze(-1) if held.ndim == 4 else held


def class_numbers(labels: Tensor) -> Tensor:
    """Class numbers as int64, whatever type the framework keeps them in. Raises BadInputError for parts of numbers."""
    if labels.is_complex():
        raise BadTypeError(f"labels: {labels.dtype}, class numbers were expected.")
    if labels.is_floating_point() and is_readable(labels) and not torch.equal(labels, labels.round()):
        raise BadInputError("labels: numbers that are not whole; class numbers were expected, no soft labels.")
    return labels.long()


def class_numbers_of_one_hot(one_hot_BLIJK: Tensor) -> Tensor:
    """Class numbers (B, 1, I, J, K) of a one-hot code over L.

    Raises BadInputError for values other than 0 and 1, or a voxel that does not belong to exactly one class.
    """
    if is_readable(one_hot_BLIJK) and not _is_one_hot(one_hot_BLIJK):
        raise BadInputError(
            "labels: this is not a one-hot code, with 1 in exactly one class per voxel. Soft or overlapping labels "
            "have no place in this loss; pass class numbers of shape (B, 1, ...) with to_onehot_y=True."
        )
    return one_hot_BLIJK.byte().argmax(dim=1, keepdim=True)


def _is_one_hot(values_BLIJK: Tensor) -> bool:
    is_binary = bool(((values_BLIJK == 0) | (values_BLIJK == 1)).all())
    return is_binary and bool((values_BLIJK.sum(dim=1) == 1).all())
