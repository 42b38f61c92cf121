"""`viscera doctor`: what a store's class counts mean for each weighting, before anyone trains."""

from dataclasses import dataclass
from pathlib import Path

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.io.store import Store
from viscera.losses.balance import POWERS, WeightSchedule


@dataclass(frozen=True)
class Diagnosis:
    """Facts about a training set.

    Attributes:
        classes: names, background first.
        voxel_counts: (L,) voxels of each class on the prepared grid, training cases only.
        fractions: (L,) share of all voxels.
        weights: weighting to (L,) class weights, as Eq. 3, 4 and 5 print them.
        cases: number of training cases.
        cases_with_class: (L,) how many of them contain each class.
    """

    classes: tuple[str, ...]
    voxel_counts: tuple[int, ...]
    fractions: tuple[float, ...]
    weights: dict[str, tuple[float, ...]]
    cases: int
    cases_with_class: tuple[int, ...]


def diagnose(store_path: Path, config: TrainConfig) -> Diagnosis:
    """Count and weigh the classes of a store's training cases.

    Raises:
        BadInputError: no store, or no training case in it.
    """
    store = Store.open(store_path)
    names = store.names("train")
    if not names:
        raise BadInputError(f"{store_path}: no training case in this store. Prepare it with a lower --test-fraction.")
    counts = store.voxel_counts(config.loss.counts)
    rows = [store.manifest.cases[name].voxel_counts_prepared for name in names]
    weights = {scheme: WeightSchedule.of(counts, scheme, config.loss, len(names)).start for scheme in POWERS}
    return Diagnosis(
        classes=CLASS_NAMES,
        voxel_counts=tuple(counts.tolist()),
        fractions=tuple((counts / counts.sum()).tolist()),
        weights={scheme: tuple(vector.tolist()) for scheme, vector in weights.items()},
        cases=len(names),
        cases_with_class=tuple(sum(n > 0 for n in column) for column in zip(*rows, strict=True)),
    )
