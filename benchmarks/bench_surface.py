"""HD95 and surface Dice of a liver in a scan of 512 x 512 x 133, beside surface-distance.

    python -m benchmarks.bench_surface

And the components of the specked liver, by connected-components-3d (ours) and by SciPy (the other).

The liver is an ellipsoid of about 1.5 L with a wavy surface (a phantom); predictions are the same with another wave of
1 or 4 mm, and one with specks all over its box. Ours starts from two label maps, counts their overlap and crops; the
other starts from two masks of the whole scan, as its users call it. Both run in turn in one process on one thread.
"""

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import surface_distance  # type: ignore[import-untyped]
import torch
from scipy import ndimage

from benchmarks.pairs import interleaved
from benchmarks.record import record
from viscera.core import regions
from viscera.core.geometry import Geometry
from viscera.core.regions import box_of, cropped
from viscera.core.scan import LabelMap
from viscera.metrics.scoring import score

SHAPE, SPACING_MM = (512, 512, 133), (0.703125, 0.703125, 2.5)
SEMI_AXES_MM = np.array([95.0, 75.0, 50.0])
LIVER, TOLERANCE_MM = 3, 2.0
Mask = npt.NDArray[np.bool_]


def wave_mm(random: np.random.Generator, size_mm: float) -> npt.NDArray[np.float64]:
    """Smooth noise over the scan, with `size_mm` as its standard deviation."""
    noise = ndimage.gaussian_filter(random.standard_normal([n // 8 for n in SHAPE]), 1.5)
    fine: npt.NDArray[np.float64] = ndimage.zoom(
        noise, [n / m for n, m in zip(SHAPE, noise.shape, strict=True)], order=1
    )
    scaled: npt.NDArray[np.float64] = fine * size_mm / fine.std()
    return scaled


def livers() -> tuple[Mask, dict[str, Mask]]:
    """The truth, and predictions of it."""
    random = np.random.default_rng(0)
    grids = np.meshgrid(*((np.arange(n) - n / 2) * s for n, s in zip(SHAPE, SPACING_MM, strict=True)), indexing="ij")
    radius = np.sqrt(sum((grid / axis) ** 2 for grid, axis in zip(grids, SEMI_AXES_MM, strict=True)))
    depth_mm = (1 - radius) * SEMI_AXES_MM.mean() + wave_mm(random, 3.0)
    truth = depth_mm > 0
    predictions = {f"wave_of_{size}_mm": depth_mm + wave_mm(random, size) > 0 for size in (1.0, 4.0)}
    predictions["specks"] = truth ^ ((random.random(SHAPE) < 0.02) & (radius < 1.2))
    return truth, predictions


def ours(prediction: LabelMap, reference: LabelMap) -> tuple[float | None, float | None]:
    """HD95 in mm and surface Dice of the liver."""
    scores = score(prediction, reference, metrics=("hd95_mm", "surface_dice"), tolerance_mm=TOLERANCE_MM)
    found = {each.metric: each.value for each in scores if each.organ == "liver"}
    return found["hd95_mm"], found["surface_dice"]


def others(prediction: Mask, reference: Mask) -> tuple[float, float]:
    """The same from surface-distance."""
    distances = surface_distance.compute_surface_distances(reference, prediction, SPACING_MM)
    return (
        float(surface_distance.compute_robust_hausdorff(distances, 95)),
        float(surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)),
    )


def pair_of(mask: Mask, truth: Mask, geometry: Geometry) -> dict[str, Any]:
    """Values and seconds of both for one prediction."""
    label_map, reference = (LabelMap(LIVER * each.astype(np.uint8), geometry) for each in (mask, truth))
    found, wanted = ours(label_map, reference), others(mask, truth)

    def run_ours() -> None:
        ours(label_map, reference)

    def run_others() -> None:
        others(mask, truth)

    return {
        "hd95_mm": found[0],
        "surface_dice_at_2_mm": found[1],
        "largest_difference": max(abs((a or 0.0) - b) for a, b in zip(found, wanted, strict=True)),
        **interleaved(run_ours, run_others),
    }


def components_of(mask: Mask) -> dict[str, Any]:
    """Seconds for the sizes of its connected components, with and without connected-components-3d."""
    fast = regions.cc3d

    def run_fast() -> None:
        regions.component_sizes(mask)

    def run_scipy() -> None:
        regions.cc3d = None
        regions.component_sizes(mask)
        regions.cc3d = fast

    return {"components": len(regions.component_sizes(mask)), **interleaved(run_fast, run_scipy)}


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # its names of SciPy modules that have moved
    truth, predictions = livers()
    geometry = Geometry.from_spacing(SHAPE, SPACING_MM)
    other = f"surface-distance-based-measures {version('surface-distance-based-measures')}"
    volume_ml = round(float(truth.sum() * geometry.voxel_volume_ml), 1)
    figures: dict[str, Any] = {"other": other, "volume_ml": volume_ml}
    figures |= {name: pair_of(mask, truth, geometry) for name, mask in predictions.items()}
    specks = predictions["specks"]
    record("surface", figures | {"components_of_specks": components_of(cropped(specks, box_of(specks)))})


if __name__ == "__main__":
    main()
