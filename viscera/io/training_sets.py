"""The training sets of several runs as one: of seeds the same one, of folds what is left of it without each fold."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.io.training_data import GridFacts, TrainingData


def joined(sets: Sequence[TrainingData]) -> TrainingData:
    """What can be said of all training cases of several runs, from what each run says of its own.

    Of a whole cross-validation that is everything but the medians of shapes and voxel sizes, which are the medians of
    the runs' medians: with K folds each case is a training case of K - 1 runs. Of other runs that were trained on
    other cases than each other, what cannot be known is empty.
    """
    first = sets[0]
    as_one = [each.model_copy(update={"fold": None}) for each in sets]
    if all(each == as_one[0] for each in as_one):
        return first if all(each.fold == first.fold for each in sets) else as_one[0]
    found: dict[str, Any] = {
        "dataset": _named([each.dataset for each in sets], "not described"),
        "licence": _named([each.licence for each in sets], "not stated"),
        "classes": first.classes,
        "folds": first.folds if len({each.folds for each in sets}) == 1 else 0,
        "original": _of_grids([each.original for each in sets]),
        "prepared": _of_grids([each.prepared for each in sets]),
    }
    return TrainingData.model_validate(found | (_of_all_folds(sets) if is_whole(sets) else {}))


def is_whole(sets: Sequence[TrainingData]) -> bool:
    """Whether the runs held out each fold of a store once: by number, and by how many cases there are in all."""
    folds = sorted(each.fold for each in sets if isinstance(each.fold, int))
    in_all = {(each.cases.get("train", 0) + each.cases.get("validation", 0), each.folds) for each in sets}
    return len(folds) == len(sets) and folds == list(range(sets[0].folds)) and len(in_all) == 1


def _named(texts: Sequence[str], otherwise: str) -> str:
    return "; ".join(dict.fromkeys(text or otherwise for text in texts)) if any(texts) else ""


def _of_all_folds(sets: Sequence[TrainingData]) -> dict[str, Any]:
    first, times = sets[0], len(sets) - 1  # that each case is trained on
    found: dict[str, Any] = {
        "cases": {"train": first.cases.get("train", 0) + first.cases.get("validation", 0)}
        | {split: number for split, number in first.cases.items() if split == "test"},
        "cases_with_ignored": sum(each.cases_with_ignored for each in sets) // times,
    }
    if not all(each.cases_with_class for each in sets):  # of runs of before
        return found
    with_class = np.array([each.cases_with_class for each in sets])
    volumes_ml = np.array([[ml or 0.0 for ml in each.mean_volume_ml] for each in sets])
    found["cases_labelling"] = tuple((np.array([each.cases_labelling for each in sets]).sum(0) // times).tolist())
    found["cases_with_class"] = tuple((with_class.sum(0) // times).tolist())
    found["mean_volume_ml"] = tuple(
        round(float(total / number), 3) if number else None
        for total, number in zip((volumes_ml * with_class).sum(0), with_class.sum(0), strict=True)
    )
    return found


def _of_grids(grids: Sequence[GridFacts | None]) -> GridFacts | None:
    known = [each for each in grids if each is not None]
    if len(known) < len(grids):
        return None

    def of_runs(what: str, by: Callable[..., npt.NDArray[np.float64]]) -> list[float]:
        return by([getattr(each, what) for each in known], axis=0).tolist()  # type: ignore[no-any-return]

    return GridFacts.model_validate(
        {what: of_runs(what, np.median) for what in ("shape", "spacing_mm")}
        | {"finest_mm": of_runs("finest_mm", np.min), "coarsest_mm": of_runs("coarsest_mm", np.max)}
    )
