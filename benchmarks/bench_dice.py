"""Dice of eight classes beside MONAI and exacta.

    python -m benchmarks.bench_dice [--quick]

Both start from two label maps of one scan, and must find the same values. MONAI is called in its documented ways, on
class indices and on one-hot masks that are made beforehand; the fastest counts. One thread each.
"""

import warnings
from functools import partial

import torch
from monai.metrics import DiceHelper, DiceMetric, compute_dice  # type: ignore[import-untyped,unused-ignore]
from monai.networks import one_hot  # type: ignore[import-untyped,unused-ignore]
from torch import Tensor

from benchmarks.bench_surface import refuse_other_values
from benchmarks.pairs import Benchmark, Run
from benchmarks.predicted_organs import SHAPES, predicted_organs
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.scan import LabelMap
from viscera.metrics.scoring import score

CLASSES = len(CLASS_NAMES)


def ours(prediction: LabelMap, reference: LabelMap) -> list[float]:
    """Dice of each class."""
    return [float(each.value or 0.0) for each in score(prediction, reference)]


def by_exacta(maps: list[Tensor]) -> list[float]:
    """Dice on class indices."""
    import exacta.functional as exacta  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415

    found: list[float] = exacta.dice(maps[0][0], maps[1][0], num_classes=CLASSES)[0].tolist()
    return found


def monai_ways(maps: list[Tensor]) -> dict[str, Run]:
    """MONAI's, by their settings."""
    masks = [one_hot(each, CLASSES, dtype=torch.uint8).bool() for each in maps]
    metric = DiceMetric(include_background=True, reduction="none", num_classes=CLASSES)
    helper = DiceHelper(include_background=True, num_classes=CLASSES, get_not_nans=False, reduction="none")
    return {
        "DiceMetric(num_classes=8) on class indices": partial(metric, *maps),
        "DiceHelper(num_classes=8, get_not_nans=False) on class indices": partial(helper, *maps),
        "compute_dice on one-hot masks of bool, made beforehand": partial(compute_dice, *masks),
    }


def main() -> None:
    """Measure and record."""
    warnings.filterwarnings("ignore")
    benchmark = Benchmark.of_command_line("dice", __doc__, peers=["monai", "exacta"])
    for name, shape in list(SHAPES.items())[: 1 if benchmark.quick else 2]:
        prediction, reference = predicted_organs(shape)
        maps = [torch.from_numpy(each.labels)[None, None] for each in (prediction, reference)]
        values, ways = ours(prediction, reference), monai_ways(maps)
        for settings, measure in ways.items():
            found = measure()
            refuse_other_values(values, found[0].tolist(), settings)  # type: ignore[index]
        refuse_other_values(values, by_exacta(maps), "exacta")
        run, repeats = partial(ours, prediction, reference), 3 if name == "512" else 5
        settings = "the fastest of its ways"
        benchmark.time(f"dice_vs_monai_{name}", run, ways, goal=10, peer_settings=settings, repeats=repeats)
        peer = partial(by_exacta, maps)
        benchmark.time(
            f"dice_vs_exacta_{name}", run, peer, goal=1, peer_settings="functional.dice(num_classes=8)", repeats=repeats
        )
    benchmark.write()


if __name__ == "__main__":
    main()
