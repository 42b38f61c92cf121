"""What is mended in a label map, and what is left as it is."""

import numpy as np
import numpy.typing as npt
import pytest

from viscera.core import regions
from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.config import CleanupConfig
from viscera.core.errors import BadInputError
from viscera.imaging.cleanup import cleaned

Labels = npt.NDArray[np.uint8]
LIVER, SPLEEN = 3, 4


def clean(labels: Labels, *, largest: tuple[str, ...] = (), fill: tuple[str, ...] = ()) -> Labels:
    return cleaned(labels, CleanupConfig(largest_component=largest, fill_holes=fill), ABDOMEN)


@pytest.fixture
def labels() -> Labels:
    """A liver with a hole, and in it a hole with a spleen; specks of both outside."""
    array = np.zeros((12, 9, 9), dtype=np.uint8)
    array[1:8, 1:8, 1:8] = LIVER
    array[3, 3, 3] = 0
    array[5, 4:6, 5] = (SPLEEN, 0)
    array[10, 2, 2] = array[9, 6:8, 6] = LIVER
    array[10, 4:7, 2] = SPLEEN
    return array


def test_nothing_is_changed_unless_asked_for(labels: Labels) -> None:
    assert clean(labels) is labels


def test_the_largest_piece_of_those_named_stays(labels: Labels) -> None:
    before = labels.copy()
    found = clean(labels, largest=("liver",))
    changed = np.argwhere(found != labels).tolist()
    assert changed == [[9, 6, 6], [9, 7, 6], [10, 2, 2]]
    assert (found[found != labels] == 0).all()
    assert (labels == before).all()  # the argument is left as it is
    every = clean(labels, largest=("all",))
    assert (every == SPLEEN).sum() == 3  # the larger of its pieces, outside the liver
    assert every[5, 4, 5] == 0


def test_holes_are_filled_and_other_organs_stay(labels: Labels) -> None:
    found = clean(labels, fill=("liver",))
    assert np.argwhere(found != labels).tolist() == [[3, 3, 3], [5, 5, 5]]
    assert found[3, 3, 3] == found[5, 5, 5] == LIVER
    assert found[5, 4, 5] == SPLEEN


def test_pieces_go_first_so_that_what_they_leave_is_filled(labels: Labels) -> None:
    found = clean(labels, largest=("spleen",), fill=("liver",))
    assert (found[1:8, 1:8, 1:8] == LIVER).all()


def test_what_two_organs_enclose_together_and_what_is_open_to_the_edge_of_the_scan_is_no_hole() -> None:
    labels = np.zeros((5, 5, 5), dtype=np.uint8)
    labels[0:2], labels[2:] = LIVER, SPLEEN
    labels[1:3, 2, 2] = 0  # a bubble across the border of both
    labels[4, 1, 1] = 0  # a notch in the last slice
    assert (clean(labels, fill=("all",)) == labels).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_with_scipy_alone_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    random = np.random.default_rng(0)
    labels = np.array(random.integers(0, 8, (16, 14, 12)) * (random.random((16, 14, 12)) < 0.6), np.uint8, order=order)  # type: ignore[call-overload]
    fast = clean(labels, largest=("all",), fill=("all",))
    assert (fast != labels).any()
    monkeypatch.setattr(regions, "cc3d", None)
    assert (clean(labels, largest=("all",), fill=("all",)) == fast).all()


def test_organs_that_there_are_not_are_refused(labels: Labels) -> None:
    with pytest.raises(BadInputError, match=r"cleanup\.fill_holes: there is no livr\. There are: artery, .*and all"):
        clean(labels, fill=("liver", "livr"))
    table = ClassTable.of_names(["background", "kidney"])
    with pytest.raises(BadInputError, match=r"cleanup\.largest_component: there is no liver\. There are: kidney"):
        cleaned(labels, CleanupConfig(largest_component=("liver",)), table)


@pytest.mark.parametrize("seed", range(3))
def test_slabs_that_are_changed_do_not_change_the_next(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many slabs, whose numbers are not held: as with one slab, though pieces run through the planes they share."""
    rng = np.random.default_rng(seed)
    sparse, dense = (np.where(rng.random((7, 6, 20)) < share, LIVER, 0).astype(np.uint8) for share in (0.1, 0.8))
    whole = clean(sparse, largest=("liver",)), clean(dense, fill=("liver",))
    monkeypatch.setattr(regions, "_SLAB_VOXELS", 84)  # two planes
    by_slabs = clean(sparse, largest=("liver",)), clean(dense, fill=("liver",))
    for found, expected, labels in zip(by_slabs, whole, (sparse, dense), strict=True):
        assert (expected != labels).any()
        np.testing.assert_array_equal(found, expected)
