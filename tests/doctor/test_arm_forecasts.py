"""What the forecast reads off a store that does not label every organ in every case."""

from pathlib import Path

import numpy as np

from viscera.core.anatomy import ClassTable
from viscera.core.config import PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.doctor.arm_forecasts import hu_counts
from viscera.io.store import PreparedCase, Store

GRID = Geometry.from_spacing((4, 1, 1), (1, 1, 1))


def store_of(path: Path, unlabelled: tuple[int, ...]) -> Store:
    """Four cases of four voxels: two of background at 0 HU, one liver at 100 and one kidney at 200."""
    store = Store.create(path, PrepareConfig(), "", ClassTable.of_names(["background", "liver", "kidney"]))
    hu = np.array([0, 0, 100, 200], dtype=np.int16).reshape(4, 1, 1)
    for number in range(4):
        partial = number in unlabelled
        labels = np.array([0, 0, 1, 0 if partial else 2], dtype=np.uint8).reshape(4, 1, 1)
        missing = ("kidney",) if partial else ()
        label_map = LabelMap(labels, GRID)
        store.add(PreparedCase(f"c{number}", Volume(hu, GRID), label_map, label_map, {}, missing))
    store.assign(dict.fromkeys(store.names(), "train"))
    return store


def test_a_class_is_counted_as_if_every_case_labelled_it(tmp_path: Path) -> None:
    # the three first cases say nothing of the kidney; the last has one of 200 HU: 4 of 4 if all did
    whole, partial = hu_counts(store_of(tmp_path / "a", ())), hu_counts(store_of(tmp_path / "b", (0, 1, 2)))
    assert whole.sum(axis=1).tolist() == [8, 4, 4]
    assert (partial[1:] == whole[1:]).all()
    assert partial[0].sum() == 8 + 3  # the kidneys that are not labelled are background
