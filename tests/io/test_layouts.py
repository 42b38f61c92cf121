"""From a folder to the files of its cases."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.errors import BadInputError
from viscera.io.layouts import case_name, dataset_title, find_cases, nnunet_labels, scan_case_name


def rewrite(raw: Path, **values: object) -> None:
    path = raw / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_cases_are_listed_by_name_with_both_files(raw: Path) -> None:
    (raw / "labelsTr" / "._case_0.nii.gz").write_text("of a Mac")
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"case_{n}" for n in range(5)]
    assert cases[2].image == raw / "imagesTr" / "case_2_0000.nii.gz"
    assert cases[2].labels == raw / "labelsTr" / "case_2.nii.gz"
    assert cases[2].mapping == {n: n for n in range(8)}
    assert cases[2].read().label_map.voxel_counts()[1:].all()


def test_other_numbers_and_other_organs_are_mapped_by_name(raw: Path) -> None:
    names = {"background": 0, "aorta": 8, "Portal_Vein_and_Splenic_Vein": 9, "left kidney": 3, "gall bladder": 4}
    rewrite(raw, labels=names | {"liver": 6, "spleen": 1, "stomach": 7, "pancreas": 11})
    expected = {0: 0, 8: 1, 9: 2, 3: 0, 4: 6, 6: 3, 1: 4, 7: 5, 11: 7}
    assert find_cases(raw)[0].mapping == expected


def test_the_older_table_of_numbers_to_names_is_read(raw: Path) -> None:
    rewrite(raw, labels={str(number): name for number, name in enumerate(CLASS_NAMES)})
    assert nnunet_labels(raw) == {name: number for number, name in enumerate(CLASS_NAMES)}


def test_missing_organs_are_listed(raw: Path) -> None:
    rewrite(raw, labels={"background": 0, "liver": 1, "spleen": 2})
    with pytest.raises(BadInputError, match=r"dataset\.json: .*name no artery, portal_vein, stomach, gallbladder"):
        find_cases(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "it has no table `labels`"),
        ("{}", "it has no table `labels`"),
        ('{"labels": {"background": 0, "liver": [1, 2]}}', "region-based"),
        ('{"labels": {"background": 0, "liver": "one"}}', "one whole number"),
        ("{,}", "not valid JSON"),
    ],
)
def test_a_dataset_json_that_is_none_is_named(raw: Path, content: str, message: str) -> None:
    (raw / "dataset.json").write_text(content)
    with pytest.raises(BadInputError, match=rf"dataset\.json: .*{message}"):
        find_cases(raw)


def test_other_file_endings_are_refused(raw: Path) -> None:
    rewrite(raw, file_ending=".nrrd")
    with pytest.raises(BadInputError, match=r"file_ending '\.nrrd'; only"):
        find_cases(raw)


def test_folders_without_a_data_set_are_refused(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"empty: no known layout .* imagesTr/NAME_0000\.nii\.gz"):
        find_cases(tmp_path / "empty")
    with pytest.raises(BadInputError, match="no such folder"):
        find_cases(tmp_path / "missing")
    with pytest.raises(BadInputError, match="There is no layout 'msd'"):
        find_cases(raw, "msd")
    for path in (raw / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(BadInputError, match="without a case in it"):
        find_cases(raw)


def test_a_missing_scan_is_named_when_the_case_is_read(raw: Path) -> None:
    (raw / "imagesTr" / "case_1_0000.nii.gz").unlink()
    with pytest.raises(BadInputError, match=r"case_1: .*case_1_0000\.nii\.gz is missing"):
        find_cases(raw)[1].read()


def test_names_of_cases(tmp_path: Path) -> None:
    assert case_name(Path("a/case.1.nii.gz")) == "case.1"
    assert scan_case_name(Path("a b_0000.nii.gz")) == "a b"
    assert scan_case_name(Path("x_0001.nii")) == "x_0001"
    assert dataset_title(tmp_path) == tmp_path.name


@pytest.mark.parametrize("name", ["case.1", "a case", "Größe", "x_0000"])
def test_names_with_dots_spaces_and_umlauts(
    tmp_path: Path, name: str, make_nnunet: Callable[..., Path], make_case: Callable[..., object]
) -> None:
    (case,) = find_cases(make_nnunet(tmp_path, {name: make_case(0)}))
    assert case.name == name
    assert case.read().name == name
