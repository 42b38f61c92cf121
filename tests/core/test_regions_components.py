"""Components and holes, by hand, and by both libraries alike."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from viscera.core import regions
from viscera.core.regions import Components, Connectivity, component_sizes, numbered_components

Mask = npt.NDArray[np.bool_]
MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 6)] * 3))


@pytest.fixture(params=["cc3d", "scipy", "slabs of one plane"], autouse=True, scope="module")
def _library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here by connected-components-3d, where it is installed, by SciPy, and plane by plane."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "slabs of one plane":
            patch.setattr(regions, "_SLAB_VOXELS", 1)
            patch.setattr(regions, "_SLABS_KEPT", 1)
        elif request.param == "scipy":
            patch.setattr(regions, "cc3d", None)
        else:
            pytest.importorskip("cc3d", reason="connected-components-3d is not installed: viscera[fast]")
        yield


def voxels(shape: tuple[int, int, int], *places: tuple[int | slice, ...]) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for place in places:
        mask[place] = True
    return mask


def components(mask: Mask, connectivity: Connectivity) -> Components:
    return Components.find(mask, np.asarray, connectivity)


def largest_component(mask: Mask) -> Mask:
    pieces = components(mask, 26)
    largest: Mask = whole(pieces) == pieces.largest
    return mask & largest


def holes(mask: Mask) -> Mask:
    gaps = components(~mask, 6)
    found: Mask = gaps.enclosed[whole(gaps)]
    return found


def whole(pieces: Components) -> npt.NDArray[np.int64]:
    return np.concatenate([numbers for _, numbers in pieces.numbered()], axis=2)


def test_corners_join_by_26_neighbours_and_not_by_6() -> None:
    mask = voxels((4, 4, 4), (0, 0, 0), (1, 1, 1), (3, 3, 3))
    assert component_sizes(mask).tolist() == [2, 1]
    assert numbered_components(mask, 6).max() == 3
    assert component_sizes(voxels((2, 2, 2))).tolist() == []


def test_the_largest_piece_stays_and_of_equal_ones_the_first() -> None:
    mask = voxels((9, 3, 3), (0, 0, 0), (slice(4, 7), 1, 1))
    assert (largest_component(mask) == voxels((9, 3, 3), (slice(4, 7), 1, 1))).all()
    equal = voxels((9, 3, 3), (8, 0, 0), (0, 2, 2), (4, 0, 0))
    assert np.argwhere(largest_component(equal)).tolist() == [[0, 2, 2]]
    nothing = voxels((2, 2, 2))
    assert not largest_component(nothing).any()


def test_a_hole_is_enclosed_by_faces() -> None:
    shell = np.ones((5, 5, 5), dtype=np.bool_)
    shell[2, 2, 2] = shell[1, 1, 1] = False  # they meet the corner of nothing open
    assert holes(shell).sum() == 2
    leaking = shell.copy()
    leaking[2, 2, 3:] = False  # a channel to the face of the array
    assert np.argwhere(holes(leaking)).tolist() == [[1, 1, 1]]
    diagonal = shell.copy()
    diagonal[0, 0, 0] = False  # touches (1, 1, 1) by a corner: closed for 6 neighbours
    assert holes(diagonal).sum() == 2
    assert not holes(np.ones((2, 2, 2), dtype=np.bool_)).any()
    assert not holes(np.zeros((2, 2, 2), dtype=np.bool_)).any()


@settings(max_examples=40)  # by each of the libraries
@given(MASKS)
def test_holes_are_what_scipys_filling_adds(mask: Mask) -> None:
    assert (holes(mask) == (ndimage.binary_fill_holes(mask) & ~mask)).all()


@settings(max_examples=40)  # by each of the libraries
@given(MASKS)
def test_the_largest_component_is_one_piece_of_the_first_size(mask: Mask) -> None:
    kept = largest_component(mask)
    assert not (kept & ~mask).any()
    assert component_sizes(kept).tolist() == component_sizes(mask)[:1].tolist()


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 7, 7), (1, 1, 3), (51, 1, 51)])
def test_as_many_lone_voxels_as_a_mask_can_hold(shape: tuple[int, int, int]) -> None:
    mask = voxels(shape, (slice(None, None, 2),) * 3)
    assert component_sizes(mask).tolist() == [1] * int(mask.sum())


@pytest.mark.parametrize("connectivity", [6, 26])
def test_both_libraries_find_the_same_components(connectivity: Connectivity) -> None:
    random = np.random.default_rng(0)
    for density in (0.05, 0.2, 0.5):
        for mask in random.random((20, 12, 11, 10)) < density:
            numbered = numbered_components(np.asfortranarray(mask), connectivity)
            expected, number = ndimage.label(mask, ndimage.generate_binary_structure(3, 3 if connectivity == 26 else 1))
            pairs = set(zip(numbered.ravel().tolist(), expected.ravel().tolist(), strict=True))
            assert len(pairs) == number + (not mask.all())  # one number stands for one number


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("order", ["C", "F"])
def test_components_that_run_through_slabs_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, connectivity: Connectivity, order: Literal["C", "F"]
) -> None:
    random = np.random.default_rng(1)
    for density in (0.1, 0.3, 0.6):
        mask = np.array(random.random((7, 6, 23)) < density, order=order)
        expected, number = ndimage.label(mask, ndimage.generate_binary_structure(3, 3 if connectivity == 26 else 1))
        for planes in (1, 2, 5, 22):
            monkeypatch.setattr(regions, "_SLAB_VOXELS", 42 * planes)
            found = components(mask, connectivity)
            numbers = whole(found)
            assert len(set(zip(numbers.ravel().tolist(), expected.ravel().tolist(), strict=True))) == number + 1
            assert np.bincount(numbers.ravel())[1:].tolist() == found.sizes[1:].tolist()


def test_it_is_imported_without_connected_components_3d() -> None:
    program = "import sys; sys.modules['cc3d'] = None; import viscera.core.regions as c; print(c.cc3d)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "None"
