"""Any network applied to a whole scan by the sub-volumes that viscera's own is applied by."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from viscera.core.config import IntensityConfig, PredictConfig
from viscera.core.errors import BadInputError, BadTypeError, refuse_non_number, refuse_unknown
from viscera.engine.sliding_window import planes_of_equal_windows, probabilities_by_plane
from viscera.imaging.windows import network_input


@torch.no_grad()
def sliding_window_probabilities(  # noqa: PLR0913 - those of MONAI's that say something here
    network: nn.Module,
    hu: npt.ArrayLike,
    *,
    patch: int = 64,
    overlap: float = 0.5,
    blend: Literal["gaussian", "constant"] = "gaussian",
    batch_windows: int = 4,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Class probabilities (L, I, J, K) float32 on the CPU, of a scan by sub-volumes: means where they overlap.

    Sub-volumes are evenly spaced; where memory runs out fewer are taken at a time.

    Args:
        network: in evaluation mode, on any device; from (B, C, I, J, K) float32 to logits (B, L, I, J, K).
        hu: (I, J, K) HU of any numeric type; a scan smaller than a sub-volume is padded with air.
        patch: edge of the sub-volumes in voxels.
        overlap: share of the edge by which neighbours overlap at least, from 0 to below 1.
        blend: weight of the voxels of each in the mean: a Gaussian about its centre (nnU-Net), or all alike.
        batch_windows: sub-volumes in one forward pass, at most.
        prepare: what the network is given of sub-volumes (B, I, J, K) of HU on its device. None: as `viscera.UNet3D` is
            trained, (B, 1, I, J, K), -500 to 500 HU clipped and scaled to [0, 1].

    Raises:
        BadInputError: a network in training mode, or one that gives anything but logits of the size of its input; HU of
            other than three axes, or not finite; a number out of its range.
    """
    refuse_unknown("blend", blend, ("gaussian", "constant"))
    for name, value in {"patch": patch, "batch_windows": batch_windows}.items():
        refuse_non_number(name, value, 1, whole=True)
    refuse_non_number("overlap", overlap)
    if overlap >= 1:
        raise BadInputError(f"overlap={overlap!r}: a number from 0 to below 1 was expected.")
    if not isinstance(network, nn.Module):
        raise BadTypeError(f"network: {type(network).__name__}, a torch.nn.Module was expected.")
    if network.training:
        raise BadInputError("network: it is in training mode. Call network.eval() first.")
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    predict = PredictConfig(mode="sub_volumes", overlap=overlap, blend=blend, batch_windows=batch_windows)

    def forward(windows_BIJK: Tensor) -> Tensor:
        windows_BIJK = windows_BIJK.to(device)
        x = network_input(windows_BIJK, IntensityConfig()) if prepare is None else prepare(windows_BIJK)
        return probabilities_by_plane(_logits(network(x), windows_BIJK.shape))

    return torch.stack(list(planes_of_equal_windows(_three_axes(hu), patch, predict, forward, device)), dim=-1)


def _three_axes(hu: npt.ArrayLike) -> npt.NDArray[np.float32] | npt.NDArray[np.int16]:
    array = np.asarray(hu)
    if array.dtype.kind not in "iuf":
        raise BadTypeError(f"hu: {type(hu).__name__}, an array (I, J, K) of HU was expected, such as volume.hu.")
    if array.ndim != 3 or array.size == 0:
        raise BadInputError(f"hu: shape {array.shape}, (I, J, K) was expected, such as volume.hu.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadInputError("hu: it has NaN or infinite values; say what stands there, such as -1024 for air.")
    return array if array.dtype == np.int16 else array.astype(np.float32)


def _logits(found: object, windows: torch.Size) -> Tensor:
    if isinstance(found, Tensor) and found.ndim == 5 and (found.shape[0], *found.shape[2:]) == windows:
        return found
    what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    expected = f"({windows[0]}, L, {', '.join(map(str, windows[1:]))})"
    raise BadInputError(f"network: it gave {what} for {windows[0]} sub-volumes; logits {expected} were expected.")
