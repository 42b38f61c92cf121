"""Class weights as the losses hold them, and what the sums of a loss, which have 32 bits, do not hold."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.errors import BadInputError, BadTypeError

MOST_WEIGHT = 1e37  # that float32 holds


def weight_vector(class_weights: npt.ArrayLike | Tensor, name: str = "class_weights") -> Tensor:
    """(L,) float64.

    Raises BadInputError for what is no vector of numbers from 0 on that 32 bits hold.
    """
    try:
        plain = class_weights.detach() if isinstance(class_weights, Tensor) else np.array(class_weights, np.float64)
        given = torch.as_tensor(plain)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadTypeError(f"{name}: {class_weights!r}; one weight for each class was expected.") from error
    if given.is_complex():
        raise BadTypeError(f"{name}: {given.dtype}; one weight for each class was expected.")
    if given.is_meta:
        raise BadInputError(f"{name}: on the device meta, where there are no values. Make the loss outside of it.")
    weights = (given.cpu() if given.device.type == "mps" else given).to(torch.float64)
    if weights.ndim != 1 or weights.numel() == 0:
        raise BadInputError(f"class_weights: shape {tuple(weights.shape)}, one weight for each class was expected.")
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise BadInputError(f"{name}: {weights.tolist()}; finite numbers of at least 0 were expected.")
    if float(weights.max()) > MOST_WEIGHT:
        raise BadInputError(
            f"{name}: {weights.tolist()}; numbers of at most {MOST_WEIGHT:g} were expected, as the sums of a "
            "loss have 32 bits. Scale them, or give class_weights a larger epsilon for classes without a voxel."
        )
    return weights


def refuse_small_smoothing(smoothing: float, weights_L: Tensor) -> None:
    """Raise BadInputError for a smoothing by which the gradient of an absent class is more than 32 bits hold."""
    largest = max(1.0, float(weights_L.max()))
    if 0 < smoothing < largest / MOST_WEIGHT:
        raise BadInputError(
            f"smoothing: {smoothing:g} is too small beside class weights of up to {largest:g}: the gradient would be "
            "more than 32 bits hold. Give 0, or 1e-5 as MONAI."
        )
