"""Data sets of several layouts in one store, and the splits that they bring along."""

import csv
import json
from pathlib import Path

import pytest

from tests.layout_examples import EXAMPLES, ORGANS, VOXELS, write_example
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.io.store import Store
from viscera.stages.prepare import prepare

AS_THEY_ARE = PrepareConfig(downsample=1, test_fraction=0.25)
COMPLETE = ("nnunet", "totalsegmentator", "pairs", "btcv", "abdomenatlas1.1")


def test_data_sets_of_several_layouts_make_one_store(tmp_path: Path) -> None:
    for name in COMPLETE:
        store = prepare(write_example(tmp_path / name, name), tmp_path / "store", AS_THEY_ARE)
    assert store.names() == sorted(
        ["a", "b_0000", "s0000", "s0011", "x", "y", "img0001", "img0002", "BDMAP_00000001", "BDMAP_00000002"]
    )
    assert all(store.manifest.cases[name].voxel_counts_prepared[1:] == (VOXELS,) * 7 for name in store.names())
    assert len(store.names("test")) == 2  # a quarter of 10, rounded to even
    before = store.manifest
    for name in COMPLETE:
        assert prepare(tmp_path / name, tmp_path / "store", AS_THEY_ARE).manifest == before


def test_data_sets_that_lack_organs_join_with_what_they_lack(tmp_path: Path) -> None:
    for name in ("btcv", "amos22", "word", "msd", "abdomenatlas1.0 masks"):
        folder = write_example(tmp_path / name, name)
        store = prepare(folder, tmp_path / "store", AS_THEY_ARE, partial=True)
        for case in EXAMPLES[name].cases:
            record = store.manifest.cases[case]
            assert record.unlabelled == EXAMPLES[name].unlabelled
            for organ, voxels in zip(ORGANS, record.voxel_counts_prepared[1:], strict=True):
                assert voxels == (0 if organ in EXAMPLES[name].unlabelled else VOXELS)
        assert prepare(folder, tmp_path / "store", AS_THEY_ARE, partial=True).manifest == store.manifest
    assert (store.manifest.cases["word_0014"].split, store.manifest.cases["amos_0008"].split) == ("test", "validation")


def test_a_case_of_a_name_that_the_store_has_from_elsewhere_is_left_out_with_the_reason(tmp_path: Path) -> None:
    prepare(write_example(tmp_path / "a", "totalsegmentator"), tmp_path / "store", AS_THEY_ARE)
    (write_example(tmp_path / "b", "totalsegmentator") / "s0011").rename(tmp_path / "b" / "s0012")
    scan = tmp_path / "b" / "s0000" / "ct.nii.gz"
    scan.write_bytes((tmp_path / "b" / "s0012" / "ct.nii.gz").read_bytes())
    with pytest.raises(BadInputError, match=r"1 of 2 cases .*s0000: .*not the file .* rename the new case"):
        prepare(tmp_path / "b", tmp_path / "store", AS_THEY_ARE)
    assert Store.open(tmp_path / "store").names() == ["s0000", "s0011", "s0012"]


def test_a_case_that_lacks_a_mask_is_left_out_with_the_reason(tmp_path: Path) -> None:
    write_example(tmp_path / "set", "totalsegmentator")
    (tmp_path / "set" / "s0000" / "segmentations" / "liver.nii.gz").unlink()
    with pytest.raises(BadInputError, match="1 of 2 cases was left out"):
        prepare(tmp_path / "set", tmp_path / "store", AS_THEY_ARE)
    with (tmp_path / "store" / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        ((case, reason),) = [(row["case"], row["reason"]) for row in csv.DictReader(file)]
    assert case == "s0000"
    assert "has no liver" in reason


def test_fold_0_of_nnunet_is_the_validation_set_and_tests_are_drawn_from_the_rest(raw: Path, tmp_path: Path) -> None:
    folds = [{"train": ["case_0", "case_2", "case_4"], "val": ["case_1", "case_3"]}]
    (raw / "splits_final.json").write_text(json.dumps(folds))
    store = prepare(raw, tmp_path / "store", PrepareConfig(downsample=2, test_fraction=0.2))
    assert store.names("validation") == ["case_1", "case_3"]
    assert len(store.names("test")) == 1
    assert len(store.names("train")) == 2


def test_a_split_file_counts_before_the_split_of_the_data_set(raw: Path, tmp_path: Path) -> None:
    (raw / "splits_final.json").write_text("broken")
    (tmp_path / "split.json").write_text(json.dumps({"train": [f"case_{n}" for n in range(5)]}))
    store = prepare(raw, tmp_path / "store", AS_THEY_ARE, split_file=tmp_path / "split.json")
    assert len(store.names("train")) == 5
    with pytest.raises(BadInputError, match=r"splits_final\.json"):
        prepare(raw, tmp_path / "other", AS_THEY_ARE)
    assert not (tmp_path / "other").exists()


def test_an_official_test_set_is_the_test_set(tmp_path: Path) -> None:
    write_example(tmp_path / "set", "totalsegmentator")
    (tmp_path / "set" / "meta.csv").write_text("image_id;split\ns0000;train\ns0011;test\n")
    store = prepare(tmp_path / "set", tmp_path / "store", PrepareConfig(downsample=1, test_fraction=0.9))
    assert store.names("test") == ["s0011"]
    assert store.names("train") == ["s0000"]
