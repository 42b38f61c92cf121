"""Arrays of programs as HU and labels: what loses nothing is taken, and all else is refused where it is given."""

from typing import Any

import numpy as np
import pytest
import torch

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import LEAST_DETERMINANT, Geometry, has_extent
from viscera.core.given_arrays import refuse_other_labels
from viscera.core.scan import LabelMap, Volume

SHAPE = (4, 3, 2)
GRID = Geometry.from_spacing(SHAPE, (1, 1, 2))
HU = np.arange(-12, 12, dtype=np.int16).reshape(SHAPE)
LABELS = (np.arange(24, dtype=np.uint8) % 8).reshape(SHAPE)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float16", "float32", "float64", ">i2", "<i2", ">f8", "int8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_hu_of_any_type_become_16_bits(dtype: str, order: Any) -> None:
    volume = Volume(HU.astype(dtype, order=order), GRID)
    assert volume.hu.dtype == np.int16
    assert volume.hu.dtype.isnative
    assert (volume.hu == HU).all()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", ">u2", ">f8"])
def test_whole_labels_of_any_type_become_bytes(dtype: str) -> None:
    label_map = LabelMap(LABELS.astype(dtype)[::-1].transpose(0, 1, 2), GRID, ABDOMEN)
    assert label_map.labels.dtype == np.uint8
    assert (label_map.labels == LABELS[::-1]).all()


def test_the_whole_range_is_taken_and_nothing_beyond() -> None:
    edges: Any = np.array([-32768, 32767, *[0] * 22], dtype=np.int64).reshape(SHAPE)
    assert (Volume(edges, GRID).hu == edges).all()
    for beyond in (-32769, 32768):
        with pytest.raises(BadInputError, match=f"hu: numbers from .*{abs(beyond)}.* Apply slope and intercept"):
            Volume(np.where(edges == np.sign(beyond) * 32768 - (beyond > 0), beyond, edges), GRID)
    labels: Any = np.array([255, *[0] * 23], dtype=np.int32).reshape(SHAPE)
    assert LabelMap(labels, GRID, ABDOMEN).ignored == 1
    for wrong in (256, -1):
        with pytest.raises(BadInputError, match=r"labels: numbers from .*; class numbers from 0 to 254, and 255"):
            LabelMap(np.where(labels == 255, wrong, 0), GRID)


def test_a_mask_is_labels_of_1() -> None:
    mask: Any = LABELS > 3
    assert LabelMap(mask, GRID).labels.tolist() == mask.astype(int).tolist()
    assert LabelMap(mask[::-1, :, ::-1], GRID).voxel_counts()[1] == 12  # 4 to 7, three times each


def test_numbers_that_are_whole_but_for_rounding_are_whole() -> None:
    """A slope of 0.1 as a 32-bit float: ten steps of it are 1.0000000149."""
    scaled: Any = (HU * 10).astype(np.float64) * np.float64(np.float32(0.1))
    assert (Volume(scaled, GRID).hu == HU).all()


@pytest.mark.parametrize(
    ("hu", "found"),
    [
        (np.where(HU == 3, np.nan, HU), "hu: 1 voxel is NaN or infinite; .*nan_to_num"),
        (np.where(HU > 9, np.inf, HU), "hu: 2 voxels are NaN or infinite"),
        (np.where(HU > 9, -np.inf, np.where(HU == 3, np.nan, HU)), "hu: 3 voxels are NaN"),
        (HU / 4, r"hu: 18 voxels are no whole number; .* np\.rint\(hu\)"),  # of 24 every fourth is whole
        (np.where(HU == 3, 1e300, HU), r"hu: numbers from -12 to 1e\+300"),
        (HU[:2], r"hu: an array of shape \(2, 3, 2\) cannot lie on a grid of shape \(4, 3, 2\)"),
        (HU.transpose(2, 1, 0), r"axes seem to run as K, J, I.* hu\.transpose\(2, 1, 0\)"),
        (HU[None], r"axes of length 1.* hu\.reshape\(geometry\.shape\)"),
        (HU[..., None].astype(float), r"axes of length 1"),
    ],
)
def test_hu_that_are_none_are_told_with_what_to_do(hu: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        Volume(hu, GRID)


@pytest.mark.parametrize(
    ("hu", "found"),
    [
        (HU.tolist(), r"hu: list; a NumPy array \(I, J, K\) was expected\. Give np\.asarray"),
        (torch.from_numpy(HU), r"hu: torch\.Tensor; .* Give tensor\.cpu\(\)\.numpy\(\)"),
        (None, "hu: NoneType; a NumPy array"),
        (HU > 0, "hu: an array of bool"),
        (HU.astype(complex), "hu: an array of complex128"),
        (HU.astype(object), "hu: an array of object"),
        (HU.astype(str), "hu: an array of <U"),
        (np.ma.masked_less(HU, 0), r"hu: numpy\.ma\S*MaskedArray; .* array\.filled\(-1024\)"),
    ],
)
def test_what_is_no_array_of_numbers_is_told_with_what_makes_one(hu: Any, found: str) -> None:
    with pytest.raises(BadTypeError, match=found):
        Volume(hu, GRID)


def test_images_of_other_libraries_are_told_how_to_give_their_voxels() -> None:
    import nibabel as nib  # noqa: PLC0415 - of this test alone

    with pytest.raises(BadTypeError, match=r"Nifti1Image; .*np\.asarray\(image\.dataobj\)"):
        Volume(nib.Nifti1Image(HU, np.eye(4)), GRID)
    sitk = pytest.importorskip("SimpleITK")
    with pytest.raises(BadTypeError, match=r"GetArrayFromImage\(image\)\.transpose\(2, 1, 0\)"):
        Volume(sitk.GetImageFromArray(HU), GRID)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (LABELS / 2, r"labels: 12 voxels are no whole number; .* nearest neighbour"),
        (np.where(LABELS == 3, np.nan, LABELS), "labels: 3 voxels are NaN or infinite"),
        (LABELS.astype(int) - 1, "labels: numbers from -1 to 6"),
        (LABELS * np.uint8(2), r"labels: there is a 14, and the classes are 0 to 7 \(artery, .*ClassTable\.of_names"),
        (np.where(LABELS == 3, 255, LABELS * 2), "labels: there is a 14"),  # beside voxels that nobody labelled
        (LABELS[1:], r"labels: an array of shape \(3, 3, 2\) cannot lie on a grid"),
    ],
)
def test_labels_that_are_none_are_told_with_what_to_do(labels: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        LabelMap(labels, GRID, ABDOMEN)


def test_without_a_table_any_label_is_taken() -> None:
    assert LabelMap(LABELS * np.uint8(30), GRID).labels.max() == 210
    refuse_other_labels(np.full(SHAPE, 255, np.uint8), ABDOMEN)


def test_a_table_is_a_class_table_and_a_grid_a_geometry() -> None:
    with pytest.raises(BadTypeError, match=r"classes: list, and a ClassTable was expected\. .*of_names"):
        LabelMap(LABELS, GRID, ["background", "liver"])  # type: ignore[arg-type]
    for make in (Volume, LabelMap):
        with pytest.raises(BadTypeError, match=r"geometry: ndarray, and a Geometry was expected\. .*RAS\+"):
            make(HU, np.eye(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Volume, LabelMap])
def test_what_has_the_type_already_is_not_copied(kind: type[Volume] | type[LabelMap]) -> None:
    array: Any = (HU if kind is Volume else LABELS)[::-1]
    made = kind(array, GRID)
    kept = made.hu if isinstance(made, Volume) else made.labels
    assert kept is array
    turned = made.canonical()
    assert np.shares_memory(turned.hu if isinstance(turned, Volume) else turned.labels, array)


def test_views_are_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made per prediction and per score, of scans that were looked through as they were made."""
    label_map = LabelMap(LABELS, GRID, ABDOMEN)
    monkeypatch.setattr("viscera.core.scan.refuse_other_labels", lambda *_: pytest.fail("looked through again"))
    assert label_map.canonical().classes is ABDOMEN
    assert label_map.in_order_of(GRID).classes is ABDOMEN


def test_voxels_are_counted_by_the_own_table() -> None:
    table = ClassTable.of_names(["background", "liver", "kidney"])
    assert LabelMap(LABELS % np.uint8(2), GRID, table).voxel_counts().tolist() == [12, 12, 0]
    assert LabelMap(LABELS % np.uint8(2), GRID).voxel_counts().tolist() == [12, 12, *[0] * 6]
    for wrong, kind in ((0, BadInputError), (2.5, BadTypeError), ("8", BadTypeError)):
        with pytest.raises(kind, match="num_classes"):
            LabelMap(LABELS, GRID).voxel_counts(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "affine", "found"),
    [
        ((4, 3), np.eye(4), r"shape: \(4, 3\); three whole numbers"),
        ((1, 4, 3, 2), np.eye(4), "no channel or batch axis"),
        ((4, 0, 2), np.eye(4), "at least 1"),
        ((4, 3.5, 2), np.eye(4), "three whole numbers"),
        (24, np.eye(4), "three whole numbers"),
        (SHAPE, np.eye(3), r"affine: an array of shape \(3, 3\); 4×4 numbers"),
        (SHAPE, np.full((4, 4), np.nan), "places no voxels"),
        (SHAPE, np.diag([1, 1, np.inf, 1]), "places no voxels"),
        (SHAPE, np.zeros((4, 4)), "places no voxels"),
        (SHAPE, np.diag([1, 0, 1, 1]), "places no voxels"),
        (SHAPE, np.diag([1, 1, 1, 2]), "a last row of 0, 0, 0, 1"),
        (SHAPE, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "no two of them parallel"),
    ],
)
def test_a_grid_without_extent_is_refused(shape: Any, affine: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        Geometry(shape, affine)


@pytest.mark.parametrize("affine", [None, "eye", [[1, 0], [0]], object()])
def test_what_is_no_matrix_is_refused(affine: Any) -> None:
    with pytest.raises(BadInputError, match="affine: "):
        Geometry(SHAPE, affine)


@pytest.mark.parametrize("spacing", [1.0, (1, 1), (1, 1, 0), (1, 1, -1), (1, 1, np.nan), ("a", 1, 1), None])
def test_a_spacing_is_three_lengths(spacing: Any) -> None:
    with pytest.raises(BadInputError, match="spacing_mm: "):
        Geometry.from_spacing(SHAPE, spacing)


def test_a_fourth_axis_is_not_dropped() -> None:
    with pytest.raises(BadInputError, match=r"shape: \(1, 4, 3, 2\)"):
        Geometry.from_spacing((1, *SHAPE), (1, 1, 1))


def test_a_grid_is_made_of_what_programs_have() -> None:
    tensor = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    assert Geometry(torch.Size(SHAPE), tensor).spacing_mm == (1, 2, 3)  # type: ignore[arg-type]
    assert Geometry(np.array(SHAPE), np.eye(4).tolist()).shape == SHAPE  # type: ignore[arg-type]


def test_extent_is_that_of_numpys_determinant() -> None:
    rng = np.random.default_rng(0)
    for flat in 10.0 ** -np.arange(0, 9):
        affine = np.eye(4)
        affine[:3, :3] = rng.normal(size=(3, 3))
        affine[:3, 2] = affine[:3, 0] + flat * affine[:3, 2]  # the third axis nears the first
        affine[:3] *= 10.0 ** rng.integers(-100, 100)
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        assert has_extent(affine) == (abs(np.linalg.det(directions)) >= LEAST_DETERMINANT)
