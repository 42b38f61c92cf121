"""nnU-Net's `ignore` in the tables and label maps of data sets and stores; its regions."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.layout_examples import save
from viscera.core.anatomy import CLASS_NAMES, IGNORED
from viscera.core.errors import BadInputError
from viscera.io.layouts.labelled_cases import detect_layout, find_cases


def rewrite(raw: Path, **values: object) -> None:
    path = raw / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("number", [8, 9, 255, 300])
def test_nnunets_ignore_is_read_as_voxels_of_no_class(raw: Path, number: int) -> None:
    rewrite(raw, labels={name: number for number, name in enumerate(CLASS_NAMES)} | {"ignore": number})
    cases = find_cases(raw)
    assert cases[0].read().label_map.labels.max() == 7
    labels = np.zeros((14, 12, 10), dtype=np.uint16)
    labels[0, :3], labels[1, 0, :5] = number, 3
    save(cases[1].labels, labels)
    found = cases[1].read_labels()
    assert np.array_equal(found.labels == IGNORED, labels == number)
    assert (found.ignored, found.voxel_counts().tolist()) == (30, [14 * 12 * 10 - 35, 0, 0, 5, 0, 0, 0, 0])
    assert cases[1].meaning_with(ignored=True) == {**cases[1].meaning, str(number): IGNORED}


def test_nnunets_ignore_beside_files_that_are_called_as_a_data_sets(tmp_path: Path) -> None:
    for name in ("0001", "0002"):
        save(tmp_path / "img" / f"img{name}.nii.gz", np.zeros((4, 4, 4), dtype=np.int16))
        save(tmp_path / "label" / f"label{name}.nii.gz", np.full((4, 4, 4), 14, dtype=np.uint8))
    (tmp_path / "labels.json").write_text('{"ignore": 14}')
    case = find_cases(tmp_path, "btcv", partial=True)[0]
    assert case.read().label_map.ignored == 64


def test_what_is_ignored_does_not_tell_data_sets_apart(tmp_path: Path) -> None:
    for name, number in (("1", 9), ("2", 25)):  # AbdomenAtlas 1.0 has numbers up to 9, 1.1 up to 25
        folder = tmp_path / name / "BDMAP_00000001"
        save(folder / "ct.nii.gz", np.zeros((4, 4, 4), dtype=np.int16))
        labels = np.full((4, 4, 4), number, dtype=np.uint8)
        labels[0] = 30
        save(folder / "combined_labels.nii.gz", labels)
        (tmp_path / name / "labels.json").write_text('{"ignore": 30}')
    assert [detect_layout(tmp_path / name).name for name in "12"] == ["abdomenatlas1.0", "abdomenatlas1.1"]
    assert find_cases(tmp_path / "2", partial=True)[0].read_labels().ignored == 16


@pytest.mark.parametrize("others", [{"ignore": 3}, {"ignore": 0}])
def test_what_is_ignored_has_a_number_of_its_own(raw: Path, others: dict[str, int]) -> None:
    rewrite(raw, labels={name: number for number, name in enumerate(CLASS_NAMES)} | others)
    with pytest.raises(BadInputError, match=r"'\w+' and '\w+' both have the number [03]"):
        find_cases(raw)


def test_a_tumour_beside_what_is_ignored_still_counts_to_the_organ(raw: Path) -> None:
    rewrite(raw, labels={"background": 0, "liver": 1, "cancer": 2, "ignore": 3})
    numbers = find_cases(raw, partial=True)[0].numbers
    assert (numbers.mapping, numbers.ignored) == ({0: 0, 1: 3, 2: 3}, 3)


def test_a_region_of_nnunet_is_refused_with_the_classes_that_could_stand_for_it(raw: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "liver": [3], "ignore": 4}
    rewrite(raw, labels=labels, regions_class_order=[1, 2, 3])
    table = r'\{"background": 0, "part_1": 1, "part_2": 2, "liver": 3, "ignore": 4\}'
    with pytest.raises(BadInputError, match=rf"'whole' is a region of the numbers 1, 2, 3; .* for example {table}"):
        find_cases(raw, partial=True)
    rewrite(raw, labels={"background": 0, "liver": 1, "ignore": [8, 9]})
    one = r"'ignore' has the numbers 8, 9, and one was expected: give .* one number"
    with pytest.raises(BadInputError, match=one):
        find_cases(raw, partial=True)
    rewrite(raw, labels={"background": [0], "liver": [3], "rest": 1})  # plain numbers, as nnU-Net takes them
    assert find_cases(raw, partial=True)[0].numbers.mapping == {0: 0, 3: 3, 1: 0}
