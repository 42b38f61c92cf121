"""The splits that data sets bring along."""

import json
from pathlib import Path

import pytest

from tests.layout_examples import write_example
from viscera.core.errors import BadInputError
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.layouts.split_files import own_split

FOLDS = [
    {"train": ["case_0", "case_1", "case_2"], "val": ["case_3"]},
    {"train": ["case_3"], "val": ["case_0", "case_1", "case_2"]},
]


def split_of(folder: Path) -> dict[str, str]:
    return dict(own_split(folder, find_cases(folder, partial=True)).splits)


def test_fold_0_of_nnunet_gives_validation_and_leaves_the_others_free(raw: Path) -> None:
    (raw / "splits_final.json").write_text(json.dumps(FOLDS))
    assert split_of(raw) == {"case_3": "validation"}


def test_the_split_is_found_where_nnunet_keeps_it(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nnUNet_raw" / "Dataset001_Tiny"
    folder.parent.mkdir()
    raw.rename(folder)
    kept = tmp_path / "nnUNet_preprocessed" / "Dataset001_Tiny" / "splits_final.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(FOLDS))
    assert split_of(folder) == {"case_3": "validation"}
    (folder / "splits_final.json").write_text(json.dumps(FOLDS[1:]))
    assert split_of(folder) == {f"case_{n}": "validation" for n in range(3)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "was expected"),
        ({"train": [], "val": []}, "was expected"),
        ([{"train": ["case_0"]}], "was expected"),
        ([{"train": "case_0", "val": []}], "was expected"),
        ([{"train": [0], "val": []}], "was expected"),
        ([{"train": ["case_0"], "val": ["case_9"]}], "names case_9, no cases here"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(raw: Path, content: object, message: str) -> None:
    (raw / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(BadInputError, match=rf"splits_final\.json: .*{message}.* --split"):
        split_of(raw)


def test_meta_csv_of_totalsegmentator_gives_all_three_parts(tmp_path: Path) -> None:
    write_example(tmp_path, "totalsegmentator")
    meta = "\ufeffimage_id;age;split\ns0000;64;train\ns0011;70;test\ns0404;1;val\n"
    (tmp_path / "meta.csv").write_text(meta, encoding="utf-8")
    assert split_of(tmp_path) == {"s0000": "train", "s0011": "test"}
    (tmp_path / "meta.csv").write_text("image_id;age\ns0000;64\n")
    assert split_of(tmp_path) == {}


def test_test_cases_of_nnunet_with_labels_are_for_testing(raw: Path) -> None:
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (raw / f"{kind}Ts").mkdir()
        (raw / f"{kind}Tr" / f"case_4{ending}").rename(raw / f"{kind}Ts" / f"case_4{ending}")
    assert split_of(raw) == {"case_4": "test"}
    (raw / "splits_final.json").write_text(json.dumps(FOLDS))
    assert split_of(raw) == {"case_4": "test", "case_3": "validation"} | {f"case_{n}": "train" for n in range(3)}
    (raw / "labelsTs" / "case_4.nii.gz").unlink()  # nnU-Net's usual test scans have no labels
    assert split_of(raw) == {"case_3": "validation"}


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_meta_csv_saved_again_by_a_spreadsheet(tmp_path: Path, delimiter: str) -> None:
    write_example(tmp_path, "totalsegmentator")
    meta = tmp_path / "meta.csv"
    meta.write_text("image_id;age;split\ns0000;64;test\n".replace(";", delimiter))
    assert split_of(tmp_path) == {"s0000": "test"}
    meta.write_text("image_id;age;split\ns0000;sechzig £;test\n", encoding="cp1252")
    with pytest.raises(BadInputError, match=r"meta\.csv: this is not UTF-8 text"):
        split_of(tmp_path)


def test_folders_give_the_official_parts(tmp_path: Path) -> None:
    word = {"word_0002": "train", "word_0003": "train", "word_0001": "validation", "word_0014": "test"}
    assert split_of(write_example(tmp_path / "word", "word")) == word
    assert split_of(write_example(tmp_path / "amos", "amos22")) == {"amos_0008": "validation"}
    assert split_of(write_example(tmp_path / "btcv", "btcv")) == {}


def test_word_without_its_test_cases_leaves_the_training_cases_free(tmp_path: Path) -> None:
    write_example(tmp_path, "word")
    (tmp_path / "labelsTs" / "word_0014.nii.gz").unlink()
    assert split_of(tmp_path) == {"word_0001": "validation"}


@pytest.mark.parametrize("form", ["{}.nii.gz", "./imagesTr/{}_0000.nii.gz", "C:\\data\\imagesTr\\{}_0000.nii.gz"])
def test_splits_may_name_files(raw: Path, form: str) -> None:
    folds = [{part: [form.format(name) for name in names] for part, names in FOLDS[0].items()}]
    (raw / "splits_final.json").write_text(json.dumps(folds))
    assert split_of(raw) == {"case_3": "validation"}
