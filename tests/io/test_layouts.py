"""From a folder to the files of its cases."""

import bz2
import gzip
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.layout_examples import save
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.errors import BadInputError
from viscera.io.layouts.dataset_tables import case_name, dataset_title, read_label_file, scan_case_name
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.layouts.split_files import own_split


def rewrite(raw: Path, **values: object) -> None:
    path = raw / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_cases_are_listed_by_name_with_both_files(raw: Path) -> None:
    (raw / "labelsTr" / "._case_0.nii.gz").write_text("of a Mac")
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"case_{n}" for n in range(5)]
    assert cases[2].image == raw / "imagesTr" / "case_2_0000.nii.gz"
    assert cases[2].labels == raw / "labelsTr" / "case_2.nii.gz"
    assert cases[2].numbers.mapping == {n: n for n in range(8)}
    assert cases[2].read().label_map.voxel_counts()[1:].all()


def test_other_numbers_and_other_organs_are_mapped_by_name(raw: Path) -> None:
    names = {"background": 0, "aorta": 8, "Portal_Vein_and_Splenic_Vein": 9, "left kidney": 3, "gall bladder": 4}
    rewrite(raw, labels=names | {"liver": 6, "spleen": 1, "stomach": 7, "pancreas": 11})
    expected = {0: 0, 8: 1, 9: 2, 3: 0, 4: 6, 6: 3, 1: 4, 7: 5, 11: 7}
    assert find_cases(raw)[0].numbers.mapping == expected


def test_the_older_table_of_numbers_to_names_is_read(raw: Path) -> None:
    rewrite(raw, labels={str(number): name for number, name in enumerate(CLASS_NAMES)})
    assert read_label_file(raw / "dataset.json") == {name: number for number, name in enumerate(CLASS_NAMES)}


@pytest.mark.parametrize("write", [str, float, lambda number: f" {number}"])
def test_numbers_may_be_written_as_text(raw: Path, write: Callable[[int], object]) -> None:
    expected = {name: number for number, name in enumerate(CLASS_NAMES)}
    rewrite(raw, labels={name: write(number) for name, number in expected.items()})
    assert read_label_file(raw / "dataset.json") == expected
    assert find_cases(raw)[0].numbers.mapping[3] == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_in_front(raw: Path, encoding: str) -> None:
    for name in ("dataset.json",):
        text = (raw / name).read_text()
        (raw / name).write_text(text, encoding=encoding)
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["case_0"], "val": ["case_1"]}]), encoding=encoding)
    assert own_split(raw, find_cases(raw)).splits == {"case_1": "validation"}
    assert dataset_title(raw) == "tiny"


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
        ('{"labels": {"background": 0, "whole tumour": [1, 2]}}', "'whole tumour' is a region of the numbers 1, 2"),
        ('{"labels": {"background": 0, "liver": 3.7}}', "liver: 3.7; a name and a whole number"),
        ('{"labels": {"background": 0, "liver": "one"}}', "liver: one; a name and a whole number"),
        ('{"labels": {"background": 0, "liver": true}}', "liver: True; a name and a whole number"),
        ('{"labels": {"background": 0, "liver": null}}', "liver: None; a name and a whole number"),
        ('{"labels": {"0": "background", "1": "liver", "2": "liver"}}', "'liver' has the numbers 1 and 2"),
        ('{"labels": {"background": 0, "liver": 1, "liver": 2}}', "'liver' is there twice"),
        ('{"labels": {"background": 0, "liver": 1, "Liver ": 2}}', "'liver' and 'Liver ' both mean liver"),
        ("{,}", "not valid JSON"),
    ],
)
def test_a_dataset_json_that_is_none_is_named(raw: Path, content: str, message: str) -> None:
    (raw / "dataset.json").write_text(content)
    with pytest.raises(BadInputError, match=rf"dataset\.json: .*{message}"):
        find_cases(raw)


def test_endings_in_capitals(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        save(tmp_path / kind / "p.nii.gz", np.ones((4, 4, 4), dtype=np.uint8)).rename(tmp_path / kind / "p.NII.GZ")
        save(tmp_path / kind / "q.nii", np.ones((4, 4, 4), dtype=np.uint8)).rename(tmp_path / kind / "q.NII")
    (tmp_path / "labels.json").write_text(json.dumps({name: n for n, name in enumerate(CLASS_NAMES)}))
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == ["p", "q"]
    assert all(case.read().label_map.labels.all() for case in cases)


def test_a_case_may_be_called_as_a_channel(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        save(tmp_path / kind / "p_0000.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
        save(tmp_path / kind / "p_0001.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
    save(tmp_path / "images" / "q_0000.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
    save(tmp_path / "labels" / "q.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
    (tmp_path / "labels.json").write_text(json.dumps({name: n for n, name in enumerate(CLASS_NAMES)}))
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == ["p_0000", "p_0001", "q"]
    assert all(case.image.exists() and case.labels.exists() for case in cases)


@pytest.mark.parametrize("kind", ["imagesTr", "images"])
def test_further_channels_are_no_patients(raw: Path, kind: str) -> None:
    if kind == "images":
        (raw / "imagesTr").rename(raw / "images")
        (raw / "labelsTr").rename(raw / "labels")
    rewrite(raw, channel_names={"0": "CT", "1": "PET"})
    for number in range(5):
        for channel in ("0001", "0002"):
            shutil.copy(raw / kind / f"case_{number}_0000.nii.gz", raw / kind / f"case_{number}_{channel}.nii.gz")
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"case_{n}" for n in range(5)]
    assert all(case.image.name.endswith("_0000.nii.gz") for case in cases)


def test_a_name_that_merely_ends_like_a_channel_is_a_patient(tmp_path: Path) -> None:
    for name in ("p_0001", "p_0002", "q_0001"):
        for kind in ("images", "labels"):
            save(tmp_path / kind / f"{name}.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8))
    (tmp_path / "labels" / "q_0001.nii.gz").unlink()
    (tmp_path / "labels.json").write_text(json.dumps({name: n for n, name in enumerate(CLASS_NAMES)}))
    assert [case.name for case in find_cases(tmp_path)] == ["p_0001", "p_0002", "q_0001"]


@pytest.mark.parametrize(
    "channels",
    [
        {"channel_names": ["MRI", "CT"]},
        {"channel_names": {"0": "PET", "1": "CT"}},
        {"channel_names": {"0": "MRI"}},
        {"modality": {"0": "T1"}},
        {"modality": {"0000": "FLAIR", "0001": "CT"}},
        {"modality": {"0": "MR-T2"}},
    ],
)
def test_channels_other_than_ct_are_refused(raw: Path, channels: dict[str, object]) -> None:
    rewrite(raw, **channels)
    with pytest.raises(BadInputError, match=r"dataset\.json: channel 0 is \S+, and viscera reads CT from it"):
        find_cases(raw)


@pytest.mark.parametrize("name", ["CT", "ct", "CTA", "noNorm", "venous CT", "image"])
def test_what_may_be_ct_is_taken(raw: Path, name: str) -> None:
    rewrite(raw, channel_names={"0": name})
    assert find_cases(raw)


@pytest.mark.parametrize("ending", ["nii.gz", ".NII.GZ", ".nii"])
def test_file_endings_as_people_write_them(raw: Path, ending: str) -> None:
    rewrite(raw, file_ending=ending, numTraining=99, channel_names=["CT"])
    assert len(find_cases(raw)) == 5


def test_other_file_endings_are_refused(raw: Path) -> None:
    rewrite(raw, file_ending=".nrrd")
    with pytest.raises(BadInputError, match=r"file_ending '\.nrrd'; only"):
        find_cases(raw)


def test_the_misspelt_aorta_of_amos22_is_the_aorta(raw: Path) -> None:
    numbers = {name: number for number, name in enumerate(CLASS_NAMES) if name != "artery"}
    rewrite(raw, labels=numbers | {"arota": 1})
    assert find_cases(raw)[0].numbers.mapping[1] == 1


def test_folders_without_a_data_set_are_refused(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"empty: the folder is empty\."):
        find_cases(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(BadInputError, match=r"empty: no known layout .* imagesTr/CASE_0000\.nii\.gz"):
        find_cases(tmp_path / "empty")
    with pytest.raises(BadInputError, match="no such folder"):
        find_cases(tmp_path / "missing")
    with pytest.raises(BadInputError, match=r"There is no layout 'lits'\. There are: auto, nnunet, msd, .*word"):
        find_cases(raw, "lits")
    with pytest.raises(BadInputError, match=r"no known layout .*raw is one; give that folder"):
        find_cases(tmp_path)
    for path in (raw / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(BadInputError, match=r"nnunet without a case in it\. It needs imagesTr/CASE_0000"):
        find_cases(raw, "nnunet")


def test_label_maps_that_nothing_explains_are_refused_with_the_presets(raw: Path) -> None:
    (raw / "dataset.json").unlink()
    with pytest.raises(
        BadInputError, match=r"nothing says which organs .*dataset\.json .*btcv, synapse8, .*amos22, word"
    ):
        find_cases(raw)
    (raw / "imagesTr").rename(raw / "images")
    (raw / "labelsTr").rename(raw / "labels")
    with pytest.raises(BadInputError, match=r"Add labels\.json or dataset\.json .* one of btcv"):
        find_cases(raw)
    assert find_cases(raw, numbers={name: n for n, name in enumerate(CLASS_NAMES)})[0].numbers.mapping[7] == 7
    (raw / "labels.json").write_text(json.dumps({name: 7 - n for n, name in enumerate(CLASS_NAMES[1:])}))
    assert find_cases(raw)[0].numbers.mapping[7] == 1


def test_the_table_of_a_data_set_counts_before_the_numbers_of_a_classes_file(raw: Path) -> None:
    other = {name: 20 - n for n, name in enumerate(CLASS_NAMES)}
    assert find_cases(raw, numbers=other)[0].numbers.mapping == {n: n for n in range(8)}


def test_scans_without_labels_are_named_when_the_case_is_read(raw: Path) -> None:
    (raw / "labelsTr" / "case_3.nii.gz").unlink()
    with pytest.raises(BadInputError, match=r"case_3: .*labelsTr/case_3\.nii\.gz is missing"):
        find_cases(raw)[3].read()


def test_a_case_of_two_files_is_refused_and_the_others_are_not(raw: Path) -> None:
    (raw / "labelsTr" / "case_1.nii").touch()
    shutil.copy(raw / "imagesTr" / "case_3_0000.nii.gz", raw / "imagesTr" / "case_3_0000.NII.GZ")
    cases = find_cases(raw)
    for number in (1, 3):
        with pytest.raises(BadInputError, match=rf"case_{number}\S+: case_{number}\S+ is of the same case\. Keep one"):
            cases[number].read()
    assert cases[2].read().name == "case_2"


def test_what_is_no_file_is_not_waited_for(raw: Path) -> None:
    (raw / "imagesTr" / "case_1_0000.nii.gz").unlink()
    os.mkfifo(raw / "imagesTr" / "case_1_0000.nii.gz")
    (raw / "labelsTr" / "case_2.nii.gz").unlink()
    (raw / "labelsTr" / "case_2.nii.gz").mkdir()
    cases = find_cases(raw)
    for number in (1, 2):
        with pytest.raises(BadInputError, match=rf"case_{number}: .*nii\.gz is not a file"):
            cases[number].read()


def test_packed_otherwise(raw: Path) -> None:
    for path in [*raw.glob("*Tr/*.nii.gz")]:
        path.with_suffix(".bz2").write_bytes(bz2.compress(gzip.decompress(path.read_bytes())))
        path.unlink()
    rewrite(raw, file_ending=".nii.bz2")
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"case_{n}" for n in range(5)]
    assert cases[0].read().label_map.labels.max() == 7


def test_labels_of_another_scan_and_unknown_numbers_are_refused_by_the_case(raw: Path) -> None:
    cases = find_cases(raw)
    save(cases[0].labels, np.zeros((9, 9, 9), dtype=np.uint8))
    save(cases[1].labels, np.full((14, 12, 10), 9, dtype=np.uint8))
    with pytest.raises(BadInputError, match="case_0: labels are 9×9×9 but the scan is 14×12×10"):
        cases[0].read()
    with pytest.raises(BadInputError, match=r"case_1\.nii\.gz: label numbers 9 are not in the table"):
        cases[1].read()


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


def test_what_a_mac_or_windows_leaves_in_folders_is_no_case(raw: Path) -> None:
    for folder in (raw, raw / "imagesTr", raw / "labelsTr"):
        for name in (
            ".DS_Store",
            "Thumbs.db",
            "desktop.ini",
            "._case_0_0000.nii.gz",
            "._case_0.nii.gz",
            "._dataset.json",
        ):
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "._case_0.nii.gz").write_bytes(b"\0\5\x16\7")
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"case_{n}" for n in range(5)]
    assert cases[0].read().name == "case_0"


def test_links_are_followed_and_broken_ones_are_named_when_the_case_is_read(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "linked" / "imagesTr").mkdir(parents=True)
    (tmp_path / "linked" / "labelsTr").symlink_to(raw / "labelsTr")
    for path in (raw / "imagesTr").iterdir():
        (tmp_path / "linked" / "imagesTr" / path.name).symlink_to(path)
    shutil.copy(raw / "dataset.json", tmp_path / "linked" / "dataset.json")
    (raw / "imagesTr" / "case_3_0000.nii.gz").unlink()
    cases = find_cases(tmp_path / "linked")
    assert cases[2].read().name == "case_2"
    with pytest.raises(BadInputError, match=r"case_3: .*case_3_0000\.nii\.gz is missing"):
        cases[3].read()


def test_accented_names_written_by_a_mac_on_one_side(tmp_path: Path, make_nnunet: Callable[..., Path]) -> None:
    hu = np.zeros((4, 4, 4), dtype=np.uint8)
    raw = make_nnunet(tmp_path, {unicodedata.normalize("NFC", "Größe é"): (hu, hu)})
    (path,) = (raw / "imagesTr").iterdir()
    path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    (case,) = find_cases(raw)
    assert case.name == unicodedata.normalize("NFC", "Größe é")
    assert case.read().name == case.name


@pytest.mark.parametrize("absolute", [False, True])
def test_nnunet_may_list_its_files_wherever_they_lie(raw: Path, tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    listed = {}
    for number in range(5):
        for kind, name in (("imagesTr", f"case_{number}_0000.nii.gz"), ("labelsTr", f"case_{number}.nii.gz")):
            (raw / kind / name).rename(tmp_path / "elsewhere" / f"{kind}{name}")
        images, label = f"imagesTrcase_{number}_0000.nii.gz", f"labelsTrcase_{number}.nii.gz"
        place = f"{tmp_path}/elsewhere/" if absolute else "..\\elsewhere\\"
        listed[f"c{number}"] = {"images": [f"{place}{images}", "pet.nii.gz"], "label": f"{place}{label}"}
    (raw / "imagesTr").rmdir()
    (raw / "labelsTr").rmdir()
    rewrite(raw, dataset=listed)
    cases = find_cases(raw)
    assert [case.name for case in cases] == [f"c{n}" for n in range(5)]
    assert cases[3].read().label_map.voxel_counts()[1:].all()
    for damaged in ({"images": [], "label": "x"}, {"images": ["x"]}, ["x", "y"], "x", 5):
        rewrite(raw, dataset={"c0": damaged})
        with pytest.raises(
            BadInputError, match=r"dataset\.json: `dataset`: c0: `images` \(a list of paths\) and `label`"
        ):
            find_cases(raw)
