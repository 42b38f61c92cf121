"""Augmentation: training windows are turned, scaled, deformed, mirrored, and their HU changed, at random.

What happens to a window is drawn first (`draw`), from (seed, step, slot) alone. A rotated window shows what lay beyond
the faces of the old one, so the feed cuts that much more (`margin`). Then `augment` does it to a whole batch, on any
device. Random numbers are drawn on the CPU for every device; the voxels then differ by float32 rounding at most.

All movements together are one sampling of the voxels: y = A x + u(x), where x is the offset of a voxel from the centre
of the new window, y that of the place it is read at, and u the elastic displacement, all in voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from viscera.core.augment_config import AugmentConfig
from viscera.core.geometry import Index3
from viscera.core.scan import AIR_HU
from viscera.core.settings import along_axes

Matrix3 = npt.NDArray[np.float64]
_ISOTROPIC = (1.0, 1.0, 1.0)
# streams of random numbers of one window; 4 is that of `imaging.organ_windows`
_STRENGTHS, _ELASTIC, _NOISE, _MORE_STRENGTHS = 1, 2, 3, 5
_ELASTIC_LIMIT = 3.0  # displacements end at so many standard deviations, so that a margin holds them
_HU_RANGE = torch.iinfo(torch.int16)
_ALL_HU = (-np.inf, np.inf)
_LEAST_WIDTH = 1e-7  # of what is divided by, as in batchgeneratorsv2
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Augmentation:
    """What happens to one window; as made without arguments, nothing."""

    key: tuple[int, int, int] = (0, 0, 0)  # (seed, step, slot), of the noise and of the elastic field
    # (3, 3) A, offset from the centre of the new window to that in the old one, voxels
    linear: Matrix3 = field(default_factory=lambda: np.eye(3))
    elastic_voxels: float = 0.0  # s.d. of the displacement along each axis, cut off at 3 s.d.
    elastic_spacing: float = 16.0  # distance of the control points in voxels
    blur_voxels: float = 0.0  # σ of the Gaussian; the edge voxels go on beyond the edge
    contrast: float = 1.0  # factor on HU
    shift_hu: float = 0.0  # added to HU after that
    noise_hu: float = 0.0  # s.d. of the noise that is added then
    coarser: tuple[float, float, float] = _ISOTROPIC  # factors on the voxel size along I, J, K, of a scan that was such
    inverted_gamma: float = 1.0  # exponent on the negative
    gamma: float = 1.0  # exponent, last

    @property
    def moves(self) -> bool:
        """Whether voxels are read at other places than their own."""
        return self.elastic_voxels > 0 or not np.array_equal(self.linear, np.eye(3))

    def random(self, stream: int) -> np.random.Generator:
        """The generator of one of this window's streams."""
        seed, step, slot = self.key
        return np.random.default_rng((seed, step, slot + 1, stream))


def draw(config: AugmentConfig, key: tuple[int, int, int], spacing_mm: Sequence[float] = _ISOTROPIC) -> Augmentation:
    """What happens to the window of key (seed, step, slot): a pure function of its arguments.

    Switching one kind of change off leaves the numbers of the others as they are; `enabled` is not looked at. Rotations
    are rigid in millimetres, by the voxel size along I, J, K.
    """
    random = Augmentation(key).random(_STRENGTHS)
    rotates, scales, deforms, blurs, recalibrates, noises = random.random(6) < (
        config.rotation_probability,
        config.scaling_probability,
        config.elastic_probability,
        config.blur_probability,
        config.intensity_probability,
        config.noise_probability,
    )
    elastic, blur, noise = random.random(3)
    shift, log_scale, log_contrast, *turns = random.uniform(-1, 1, 6)
    mirror_R = bool("R" in config.mirrors and random.random() < 0.5)
    more = Augmentation(key).random(_MORE_STRENGTHS)
    coarsens, inverts, bends, mirror_A, mirror_S = more.random(5) < (
        config.low_resolution_probability,
        config.inverted_gamma_probability,
        config.gamma_probability,
        0.5 * ("A" in config.mirrors),
        0.5 * ("S" in config.mirrors),
    )
    log_inverted, log_gamma = more.uniform(-1, 1, 2)
    i, j, k = np.array(along_axes(config.low_resolution)) ** (more.random(3) * coarsens)
    angles = [config.rotation_degrees * turn * rotates for turn in turns]
    return Augmentation(
        key=key,
        linear=linear_map(
            angles, config.scaling ** (log_scale * scales), spacing_mm, mirrored=(mirror_R, mirror_A, mirror_S)
        ),
        elastic_voxels=float(config.elastic_voxels * elastic * deforms),
        elastic_spacing=config.elastic_spacing,
        blur_voxels=float(config.blur_voxels * blur * blurs),
        contrast=float(config.contrast ** (log_contrast * recalibrates)),
        shift_hu=float(config.shift_hu * shift * recalibrates),
        noise_hu=float(config.noise_hu * noise * noises),
        coarser=(float(i), float(j), float(k)),
        inverted_gamma=float(config.gamma ** (log_inverted * inverts)),
        gamma=float(config.gamma ** (log_gamma * bends)),
    )


def linear_map(
    angles_degrees: Sequence[float],
    scale: float = 1.0,
    spacing_mm: Sequence[float] = _ISOTROPIC,
    *,
    mirrored: Sequence[bool] = (False, False, False),
) -> Matrix3:
    """A of `Augmentation`: the inverse of mirroring axes, turning about I, then J, then K, and enlarging, in mm."""
    turn = np.eye(3)
    for axis, degrees in enumerate(angles_degrees):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        about_axis = np.eye(3)
        about_axis[a, a] = about_axis[b, b] = np.cos(np.radians(degrees))
        about_axis[b, a] = np.sin(np.radians(degrees))
        about_axis[a, b] = -about_axis[b, a]
        turn = about_axis @ turn
    size = np.asarray(spacing_mm, dtype=np.float64)
    linear: Matrix3 = turn.T * (size[None, :] / size[:, None]) / scale
    return np.diag(np.where(mirrored, -1.0, 1.0)) @ linear if any(mirrored) else linear


def margin(augmentations: Sequence[Augmentation], patch: int) -> Index3:
    """Voxels along I, J, K that windows of edge `patch` need beyond each face, so that none is read from outside."""
    moving = [each for each in augmentations if each.moves]
    if not moving:
        return (0, 0, 0)
    half = (patch - 1) / 2
    reach = [np.abs(each.linear).sum(axis=1) * half + _ELASTIC_LIMIT * each.elastic_voxels for each in moving]
    i, j, k = np.ceil(np.maximum(np.max(reach, axis=0) - half - 1e-4, 0))
    return (int(i), int(j), int(k))


def augment(
    hu_BIJK: Tensor,
    labels_BIJK: Tensor,
    augmentations: Sequence[Augmentation],
    patch: int,
    within_hu: tuple[float, float] = _ALL_HU,
) -> tuple[Tensor, Tensor]:
    """Augment a batch of windows, one augmentation each, and cut it to its middle: (B, patch, patch, patch).

    HU (int16) are interpolated linearly, labels (uint8) take the nearest voxel's. The windows may reach beyond the
    patch, by the same on both sides of an axis; what lies outside of them is air and background. Before a gamma HU are
    clipped to what the network sees of them, `within_hu`.
    """
    if any(each.moves for each in augmentations):
        hu, labels = _moved(hu_BIJK, labels_BIJK, _sampling_grid(augmentations, patch, hu_BIJK))
    else:
        i, j, k = ((n - patch) // 2 for n in hu_BIJK.shape[1:])
        middle = (slice(None), slice(i, i + patch), slice(j, j + patch), slice(k, k + patch))
        hu, labels = hu_BIJK[middle], labels_BIJK[middle]
    hu = _coarsened(_recalibrated(_blurred(hu, augmentations), augmentations), augmentations)
    hu = _bent(hu, augmentations, within_hu)
    if hu.is_floating_point():
        hu = hu.round().clamp_(_HU_RANGE.min, _HU_RANGE.max).to(torch.int16)
    return hu, labels


def _sampling_grid(augmentations: Sequence[Augmentation], patch: int, windows_BIJK: Tensor) -> Tensor:
    """(B, I, J, K, 3) places to read at, as `grid_sample` wants them: K, J, I, from -1 to 1 over the windows."""
    device = windows_BIJK.device
    linear = torch.from_numpy(np.stack([each.linear for each in augmentations])).float().to(device, non_blocking=True)
    offset = torch.arange(patch, device=device) - (patch - 1) / 2
    along_I, along_J, along_K = (linear[:, :, axis, None] * offset for axis in range(3))
    elastic = [
        (slot, _displacement(each, patch, device)) for slot, each in enumerate(augmentations) if each.elastic_voxels
    ]
    grid = torch.empty(len(augmentations), 3, patch, patch, patch, device=device)  # written faster than (..., 3)
    for axis, edge in enumerate(windows_BIJK.shape[1:]):
        place = grid[:, 2 - axis]
        in_plane = along_I[:, axis, :, None, None] + along_J[:, axis, None, :, None]
        torch.add(in_plane, along_K[:, axis, None, None, :], out=place)
        for slot, displacement in elastic:
            place[slot] += displacement[axis]
        place *= 2 / edge
    return grid.movedim(1, -1)


def _displacement(augmentation: Augmentation, patch: int, device: torch.device = _CPU) -> Tensor:
    """(3, I, J, K) voxels: cubic B-splines whose coefficients are independent and Gaussian."""
    splines = _spline_weights(patch, augmentation.elastic_spacing).to(device, non_blocking=True)
    points = splines.shape[1]
    coefficients = augmentation.random(_ELASTIC).standard_normal((3, points, points, points), dtype=np.float32)
    along_I = splines @ torch.from_numpy(coefficients).to(device, non_blocking=True).flatten(2)
    deviations = splines @ along_I.view(3, patch, points, points) @ splines.T
    return deviations.clamp(-_ELASTIC_LIMIT, _ELASTIC_LIMIT) * augmentation.elastic_voxels


@lru_cache(maxsize=8)
def _spline_weights(patch: int, spacing: float) -> Tensor:
    """(patch, points) float32 weight of each control point along one axis.

    The squares of a row sum to 1, so that independent coefficients of variance 1 give every voxel the variance 1.
    """
    intervals = max(1, int(np.ceil((patch - 1) / spacing)))
    points = (patch - 1) / 2 + spacing * (np.arange(intervals + 3) - (intervals + 2) / 2)
    apart = np.abs(np.arange(patch)[:, None] - points) / spacing
    weights = np.where(apart < 1, 2 / 3 - apart**2 + apart**3 / 2, np.maximum(2 - apart, 0) ** 3 / 6)
    return torch.from_numpy(weights / np.linalg.norm(weights, axis=1, keepdims=True)).float()


def _moved(hu_BIJK: Tensor, labels_BIJK: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Float HU and uint8 labels read at the places of a sampling grid."""
    above_air = hu_BIJK.float().sub_(AIR_HU)  # so that grid_sample's zeros are air
    hu = F.grid_sample(above_air.unsqueeze(1), grid, mode="bilinear", align_corners=False).squeeze(1).add_(AIR_HU)
    labels = F.grid_sample(labels_BIJK.float().unsqueeze(1), grid, mode="nearest", align_corners=False).squeeze(1)
    return hu, labels.to(torch.uint8)


def _blurred(hu_BIJK: Tensor, augmentations: Sequence[Augmentation]) -> Tensor:
    """Gaussian blur as a matrix along each axis, which is faster on a CPU than a convolution; it ends at 4 σ."""
    if not any(each.blur_voxels for each in augmentations):
        return hu_BIJK
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - slow to load, and seldom needed

    as_is = np.eye(hu_BIJK.shape[1])
    matrices = [
        gaussian_filter1d(as_is, each.blur_voxels, axis=0, mode="nearest") if each.blur_voxels else as_is
        for each in augmentations
    ]
    blur = torch.from_numpy(np.stack(matrices)).float().to(hu_BIJK.device, non_blocking=True)
    along_I = (blur @ hu_BIJK.float().flatten(2)).view(hu_BIJK.shape)
    return blur[:, None] @ along_I @ blur[:, None].mT


def _recalibrated(hu_BIJK: Tensor, augmentations: Sequence[Augmentation]) -> Tensor:
    """Contrast, shift and noise."""
    if any(each.contrast != 1 or each.shift_hu for each in augmentations):
        by_window = torch.tensor([(each.contrast, each.shift_hu) for each in augmentations], dtype=torch.float32)
        contrast, shift_hu = by_window.T.to(hu_BIJK.device, non_blocking=True).view(2, -1, 1, 1, 1)
        hu_BIJK = (hu_BIJK * contrast).add_(shift_hu)
    if any(each.noise_hu for each in augmentations):
        noise = np.zeros(hu_BIJK.shape, dtype=np.float32)
        for slot, each in enumerate(augmentations):
            if each.noise_hu:
                each.random(_NOISE).standard_normal(out=noise[slot], dtype=np.float32)
                noise[slot] *= each.noise_hu
        hu_BIJK = torch.from_numpy(noise).to(hu_BIJK.device, non_blocking=True).add_(hu_BIJK)
    return hu_BIJK


def _coarsened(hu_BIJK: Tensor, augmentations: Sequence[Augmentation]) -> Tensor:
    """As of scans of larger voxels: the nearest voxel at each of fewer places, then interpolated linearly.

    nnU-Net's (Isensee et al., Nature Methods 2021), as batchgeneratorsv2 computes it.
    """
    coarse = [(slot, each.coarser) for slot, each in enumerate(augmentations) if each.coarser != _ISOTROPIC]
    hu_BIJK = hu_BIJK.float() if coarse else hu_BIJK
    for slot, factors in coarse:
        shape = hu_BIJK.shape[1:]
        fewer = [max(1, round(n / factor)) for n, factor in zip(shape, factors, strict=True)]
        nearest = F.interpolate(hu_BIJK[slot, None, None], fewer, mode="nearest-exact")
        hu_BIJK[slot] = F.interpolate(nearest, shape, mode="trilinear", align_corners=False)[0, 0]
    return hu_BIJK


def _bent(hu_BIJK: Tensor, augmentations: Sequence[Augmentation], within_hu: tuple[float, float]) -> Tensor:
    """Gamma of the windows that have one, of the negative first."""
    bent = [(slot, each) for slot, each in enumerate(augmentations) if (each.inverted_gamma, each.gamma) != (1, 1)]
    hu_BIJK = hu_BIJK.float() if bent else hu_BIJK
    for slot, each in bent:
        hu = hu_BIJK[slot].clamp(*within_hu)
        hu = -_with_gamma(-hu, each.inverted_gamma) if each.inverted_gamma != 1 else hu
        hu_BIJK[slot] = _with_gamma(hu, each.gamma) if each.gamma != 1 else hu
    return hu_BIJK


def _with_gamma(values: Tensor, exponent: float) -> Tensor:
    """Values between their extremes to a power, then with the mean and standard deviation that they had.

    nnU-Net's (Isensee et al., Nature Methods 2021), as batchgeneratorsv2 computes it; of z-scores it is the same.
    """
    least, most = values.aminmax()
    width = (most - least).clamp(min=_LEAST_WIDTH)
    bent = ((values - least) / width) ** exponent
    deviation = values.std(correction=0) / bent.std(correction=0).clamp(min=_LEAST_WIDTH)
    return (bent - bent.mean()) * deviation + values.mean()
