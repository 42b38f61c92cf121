"""HD95 and surface Dice of seven organs, beside surface-distance, MONAI and exacta.

    python -m benchmarks.bench_surface [--quick]

Ours starts from two label maps. surface-distance is called organ by organ with masks of the whole scan, as its README
shows; it crops them itself. The values of both must be equal, and so must exacta's in its mode for the same definition.
MONAI by default counts surface voxels instead of areas: another definition, for orientation. One thread each.
"""

import warnings
from functools import partial

import numpy as np
import torch

from benchmarks.pairs import Benchmark, interleaved
from benchmarks.predicted_organs import SHAPES, predicted_organs, with_lost_pieces, with_specks
from viscera.core import regions
from viscera.core.anatomy import CLASS_NAMES, TOLERANCES_MM, tolerance_of
from viscera.core.config import Metric
from viscera.core.regions import box_of, component_sizes, cropped
from viscera.core.scan import LabelMap
from viscera.metrics.scoring import score

ORGANS = list(enumerate(CLASS_NAMES))[1:]
TOLERANCES = [tolerance_of(organ, TOLERANCES_MM) for _, organ in ORGANS]
METRICS: tuple[Metric, ...] = ("hd95_mm", "surface_dice")


def ours(prediction: LabelMap, reference: LabelMap) -> list[float]:
    """HD95 of each organ, then its surface Dice."""
    return [float(each.value or 0.0) for each in score(prediction, reference, metrics=METRICS)]


def by_surface_distance(prediction: LabelMap, reference: LabelMap) -> list[float]:
    """As its README has it."""
    import surface_distance  # type: ignore[import-untyped] # noqa: PLC0415 - where its warnings are filtered

    hausdorff, dice = list[float](), list[float]()
    for (label, _), tolerance_mm in zip(ORGANS, TOLERANCES, strict=True):
        masks = reference.labels == label, prediction.labels == label
        distances = surface_distance.compute_surface_distances(*masks, reference.geometry.spacing_mm)
        hausdorff.append(float(surface_distance.compute_robust_hausdorff(distances, 95)))
        dice.append(float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)))
    return [*hausdorff, *dice]


def by_exacta(prediction: LabelMap, reference: LabelMap) -> list[float]:
    """Both metrics at once, on surface elements."""
    import exacta.functional as exacta  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415

    found = exacta.evaluate(
        torch.from_numpy(prediction.labels)[None],
        torch.from_numpy(reference.labels)[None],
        num_classes=len(CLASS_NAMES),
        include_background=False,
        spacing=reference.geometry.spacing_mm,
        metrics={"hd95": {"surface": "surfels"}, "nsd": {"tolerance": TOLERANCES, "surface": "surfels"}},
    )
    return [*found["hd95"][0].tolist(), *found["nsd"][0].tolist()]


def by_monai(prediction: LabelMap, reference: LabelMap) -> list[float]:
    """From one-hot masks, which are made once."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice  # noqa: PLC0415 - slow to load
    from monai.networks import one_hot  # noqa: PLC0415 - slow to load

    masks = [
        one_hot(torch.from_numpy(each.labels)[None, None], len(CLASS_NAMES), dtype=torch.uint8)
        for each in (prediction, reference)
    ]
    spacing = list(reference.geometry.spacing_mm)
    hausdorff = compute_hausdorff_distance(*masks, percentile=95, spacing=spacing)
    dice = compute_surface_dice(*masks, class_thresholds=TOLERANCES, spacing=spacing)
    return [*hausdorff[0].tolist(), *dice[0].tolist()]


def refuse_other_values(found: list[float], wanted: list[float], peer: str) -> float:
    """The largest difference; raises ValueError where one is above 1e-6: then the times compare different work."""
    largest = float(np.nanmax(np.abs(np.subtract(found, wanted))))
    if len(found) != len(wanted) or not largest <= 1e-6:
        raise ValueError(f"{peer}: values differ by up to {largest:.3g}. Ours: {found}; {peer}: {wanted}")
    return largest


def beside(benchmark: Benchmark, suffix: str, prediction: LabelMap, reference: LabelMap, *, all_peers: bool) -> None:
    """The pairs of one prediction."""
    values = ours(prediction, reference)
    peers = {"surface_distance": (by_surface_distance, 20.0)}
    if all_peers:
        peers |= {"exacta": (by_exacta, 1.0), "monai": (by_monai, 1.0)}
    for peer, (measure, goal) in peers.items():
        same_definition = peer != "monai"
        wanted = measure(prediction, reference)
        benchmark.time(
            f"surface_vs_{peer}{suffix}",
            partial(ours, prediction, reference),
            partial(measure, prediction, reference),
            goal=goal,
            peer_settings=str(measure.__doc__),
            repeats=15,
            largest_difference=refuse_other_values(values, wanted, peer) if same_definition else "another definition",
        )


def components_beside_scipy(mask: regions.Mask) -> dict[str, object]:
    """Sizes of the components of specks, with and without connected-components-3d."""
    fast = regions.cc3d

    def by_scipy() -> None:
        regions.cc3d = None
        component_sizes(mask)
        regions.cc3d = fast

    return {"components": len(component_sizes(mask)), **interleaved(lambda: component_sizes(mask), by_scipy, 5)}


def main() -> None:
    """Measure and record."""
    warnings.filterwarnings("ignore")  # its names of SciPy modules that have moved
    np.Inf, np.NaN = np.inf, np.nan  # type: ignore[attr-defined] # noqa: NPY201 - surface-distance needs the old names
    peers = ["surface-distance-based-measures", "monai", "exacta", "connected-components-3d"]
    benchmark = Benchmark.of_command_line("surface", __doc__, peers=peers)
    prediction, reference = predicted_organs(SHAPES["256"])
    beside(benchmark, "_256", prediction, reference, all_peers=True)
    if not benchmark.quick:
        beside(benchmark, "_256_lost_pieces", with_lost_pieces(prediction), reference, all_peers=False)
        specked = with_specks(prediction)
        beside(benchmark, "_256_specks", specked, reference, all_peers=False)
        mask = specked.labels > 0
        benchmark.notes["components_of_specks"] = components_beside_scipy(cropped(mask, box_of(mask)))
        beside(benchmark, "_512", *predicted_organs(SHAPES["512"]), all_peers=False)
    benchmark.write()


if __name__ == "__main__":
    main()
