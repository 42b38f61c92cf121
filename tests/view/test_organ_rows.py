"""The table of organs and the map of differences, of label maps whose answers are worked by hand."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.view.case_images import CaseImages
from viscera.view.gallery import LabelLayer
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery
from viscera.view.organ_rows import difference, organ_table

SaveScan = Callable[[Path, np.ndarray, np.ndarray], Path]


@pytest.fixture
def images(tmp_path: Path, save_scan: SaveScan) -> CaseImages:
    """Voxels of 0.5 mL; a liver of 4 voxels, predicted as 2 of them and 2 beside it; a spleen that was missed."""
    affine = np.diag([10.0, 10.0, 5.0, 1.0])
    truth, found = np.zeros((2, 10, 4, 2), np.uint8)
    truth[0:4, 0, 0] = 3
    truth[6:9, 1, 1] = 4
    found[2:6, 0, 0] = 3
    reference = save_scan(tmp_path / "truth" / "p.nii.gz", truth, affine)
    prediction = save_scan(tmp_path / "out" / "p.nii.gz", found, affine)
    return CaseImages(open_gallery(prediction, Beside(references=reference)))


def test_volumes_and_dice_are_those_of_hand(images: CaseImages) -> None:
    rows = {row["label"]: row for row in organ_table(images, 0, 0)}
    assert rows[3]["volume_ml"] == 2.0
    assert rows[3]["dice"] == 0.5  # 2 · 2 / (4 + 4)
    assert rows[4]["dice"] == 0.0
    assert rows[1]["dice"] is None  # in neither
    truth = {row["label"]: row for row in organ_table(images, 0, 1)}
    assert truth[4]["volume_ml"] == 1.5
    assert {row["dice"] for row in truth.values()} == {None}


def test_volumes_are_of_what_is_labelled_where_nobody_labelled_a_part(
    images: CaseImages, tmp_path: Path, make_nnunet: Callable[..., Path]
) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0], labels[1:] = 1, 2
    names = {"background": 0, "liver": 1, "ignore": 2}
    raw = make_nnunet(tmp_path / "raw", {"c": (labels.astype(np.int16), labels)}, names=names)
    rows = {row["label"]: row for row in organ_table(CaseImages(open_gallery(raw)), 0, 0)}
    assert (rows[3]["volume_ml"], rows[3]["in_part"]) == (0.16, True)  # 16 voxels of 2×2×2.5 mm
    assert not any(row["in_part"] for at in (0, 1) for row in organ_table(images, 0, at))


@pytest.mark.usefixtures("images")
def test_dice_of_a_table_is_that_of_the_label_map_it_was_made_of(tmp_path: Path) -> None:
    """One that was predicted anew is scored anew, where the truth is there."""
    table = tmp_path / "out" / "scores.csv"
    table.write_text("case,organ,grid,metric,value\np,liver,original,dice,0.25\n")
    for newer, dice in ((False, 0.25), (True, 0.5)):
        at = (tmp_path / "out" / "p.nii.gz").stat().st_mtime + (-1 if newer else 1)
        os.utime(table, (at, at))
        opened = CaseImages(open_gallery(tmp_path / "out", Beside(references=tmp_path / "truth")))
        assert {row["label"]: row["dice"] for row in organ_table(opened, 0, 0)}[3] == dice


def test_flags_and_their_reasons_are_those_that_predict_wrote(phantoms: Path, predicted: Path) -> None:
    images = CaseImages(open_gallery(predicted, Beside(references=phantoms)))
    rows = {row["label"]: row for row in organ_table(images, 0, 0)}
    assert rows[6]["reasons"] == ["not found"]
    assert rows[6]["dice"] == 0.0
    assert rows[4]["dice"] == 1.0
    assert rows[4]["reasons"] == []


def test_differences_say_kind_and_organ(images: CaseImages) -> None:
    layer = images.case(0).layers[1]
    codes = difference(images.labels(0, 0), images.labels(0, 1), layer, ABDOMEN)
    assert codes[0:2, 0, 0].tolist() == [3, 3]  # missed liver
    assert codes[2:4, 0, 0].tolist() == [0, 0]
    assert codes[4:6, 0, 0].tolist() == [85 + 3, 85 + 3]  # liver where there is none
    assert codes[6:9, 1, 1].tolist() == [4, 4, 4]
    assert np.count_nonzero(codes) == 7


def test_another_organ_and_unlabelled_voxels_and_organs() -> None:
    grid = Geometry.from_spacing((4, 1, 1), (1, 1, 1))
    found = LabelMap(np.array([3, 4, 3, 5], np.uint8).reshape(4, 1, 1), grid)
    true = LabelMap(np.array([4, 255, 3, 0], np.uint8).reshape(4, 1, 1), grid)
    layer = LabelLayer("reference", "reference", (), lambda: true, unlabelled=("stomach",))
    assert difference(found, true, layer, ABDOMEN).ravel().tolist() == [170 + 3, 0, 0, 0]


def test_of_many_organs_the_kinds_are_told_apart() -> None:
    table = ClassTable.of_names(["background", *(f"organ_{n}" for n in range(120))])
    grid = Geometry.from_spacing((2, 1, 1), (1, 1, 1))
    found = LabelMap(np.array([120, 0], np.uint8).reshape(2, 1, 1), grid)
    true = LabelMap(np.array([0, 100], np.uint8).reshape(2, 1, 1), grid)
    layer = LabelLayer("reference", "reference", (), lambda: true)
    assert difference(found, true, layer, table).ravel().tolist() == [85 + 84, 84]
