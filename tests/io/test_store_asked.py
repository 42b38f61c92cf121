"""What a store is asked for that it does not have: a sentence that names what there is, and no empty answer."""

from pathlib import Path
from typing import Any

import pytest

from viscera.core.errors import BadInputError
from viscera.io.store import Store


@pytest.mark.parametrize(
    ("split", "hint"), [("val", ""), ("training", ""), ("Test", "Did you mean test"), (0, ""), ("", "")]
)
def test_a_split_that_there_is_not(tiny_store: Store, split: Any, hint: str) -> None:
    with pytest.raises(BadInputError, match=rf'split={split!r}: .*"train", "validation", "test".*{hint}'):
        tiny_store.names(split)
    assert len(tiny_store.names("validation")) == 1


def test_a_case_that_there_is_not(tiny_store: Store) -> None:
    for ask in (
        *(tiny_store.image, tiny_store.labels, tiny_store.volume, tiny_store.label_map, tiny_store.geometry),
        *(tiny_store.original_geometry, tiny_store.original_labels, tiny_store.original_labels_path),
        *(lambda name: tiny_store.labelled([name]), lambda name: tiny_store.verify([name])),
    ):
        with pytest.raises(BadInputError, match=r"there is no case 'case_O'; `names\(\)` lists .*Did you mean case_\d"):
            ask("case_O")


@pytest.mark.parametrize("name", ["../cases/case_0", "", ".", None])
def test_a_path_is_no_case(tiny_store: Store, name: Any) -> None:
    with pytest.raises(BadInputError, match="there is no case"):
        tiny_store.image(name)


def test_a_grid_that_there_is_not(tiny_store: Store) -> None:
    grid: Any = "fine"
    with pytest.raises(BadInputError, match=r"grid='fine': .*prepared.*original"):
        tiny_store.voxel_counts(grid)


def test_a_file_in_a_store_is_not_the_store(tiny_store: Store) -> None:
    with pytest.raises(BadInputError, match=r"manifest\.json: this is a file of a store. Give its folder"):
        Store.open(tiny_store.path / "manifest.json")


def test_a_store_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="this is not a store"):
        Store.open(tmp_path)
