"""From labelled scans to a Store: the grid and what it costs, the split, the classes, and what a second call does."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.anatomy import CLASS_NAMES, ClassTable
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.io.classes import ClassFile
from viscera.io.layouts.case_source import CaseSource
from viscera.io.manifest import Split
from viscera.io.prepared_case import PreparedCase
from viscera.io.splits import draw_split
from viscera.io.store import Store
from viscera.stages import prepare as stage
from viscera.stages.prepare import grids_text, prepare

HALF = PrepareConfig(downsample=2)
MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# ------------------------------------------------------------------------------------------ the grid


def test_a_case_is_stored_coarser_with_its_geometry_and_counts(raw: Path, tmp_path: Path, make_case: MakeCase) -> None:
    store = prepare(raw, tmp_path / "store", HALF)
    hu, labels = make_case(3)
    assert store.image("case_3").shape == (7, 6, 5)
    # every coarse voxel is the mean of 2³; its label that at its centre, of the eight the one with the highest indices
    means = hu.reshape(7, 2, 6, 2, 5, 2).astype(float).mean(axis=(1, 3, 5))
    assert np.abs(store.image("case_3") - means).max() <= 0.5 + 1e-3
    assert (store.labels("case_3") == labels[1::2, 1::2, 1::2]).all()
    record = store.manifest.cases["case_3"]
    assert record.voxel_counts_original == tuple(np.bincount(labels.ravel(), minlength=8))
    assert record.voxel_counts_prepared == tuple(np.bincount(labels[1::2, 1::2, 1::2].ravel(), minlength=8))
    assert store.geometry("case_3").spacing_mm == pytest.approx((4, 4, 5))
    # the first coarse voxel's centre lies half a fine voxel further in
    assert store.geometry("case_3").affine[:3, 3] == pytest.approx([-13, -11, -28.75])
    for before, after, change in zip(
        record.voxel_counts_original, record.voxel_counts_prepared, record.volume_change, strict=True
    ):
        assert change == pytest.approx(8 * after / before - 1)


@pytest.mark.parametrize("codes", ["LPS", "RPI", "AIL", "SLP", "IRA"])
def test_the_store_is_the_same_whatever_the_orientation_of_the_files(
    raw: Path, halved_store: Store, tmp_path: Path, codes: str
) -> None:
    for path in raw.rglob("*.nii.gz"):
        image = nib.load(path)
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        turned = image.as_reoriented(turn)
        nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    store = prepare(raw, tmp_path / codes, HALF)
    assert len(store.names()) == 5
    for name in store.names():
        assert (store.image(name) == halved_store.image(name)).all()
        assert (store.labels(name) == halved_store.labels(name)).all()
        assert store.geometry(name).same_grid(halved_store.geometry(name))
        assert nib.aff2axcodes(store.original_geometry(name).affine) == tuple(codes)
        counts, expected = (each.manifest.cases[name].voxel_counts_original for each in (store, halved_store))
        assert counts == expected


def test_other_label_numbers_give_the_same_store(tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase) -> None:
    hu, labels = make_case(0)
    plain = prepare(make_nnunet(tmp_path / "a", {"x": (hu, labels)}), tmp_path / "sa", HALF)
    numbers = np.array([0, 9, 8, 7, 6, 5, 4, 2], dtype=np.uint8)
    other = numbers[labels]
    other[0, 0, 0], other[0, 0, 1] = 1, 3  # organs that are none of ours
    names = {name: int(numbers[label]) for label, name in enumerate(CLASS_NAMES)} | {"kidney": 1, "colon": 3}
    mapped = prepare(make_nnunet(tmp_path / "b", {"x": (hu, other)}, names=names), tmp_path / "sb", HALF)
    assert (mapped.labels("x") == plain.labels("x")).all()
    assert (mapped.original_labels("x").labels == labels).all()


def test_to_a_spacing(raw: Path, tmp_path: Path) -> None:
    store = prepare(raw, tmp_path / "store", PrepareConfig(spacing_mm=5))
    assert store.geometry("case_0").spacing_mm == pytest.approx((5, 5, 5))


# ------------------------------------------------------------------------------------------ the split


@given(st.integers(1, 60), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 3))
def test_the_split_comes_close_to_the_fractions(cases: int, test: float, validation: float, seed: int) -> None:
    config = PrepareConfig(test_fraction=test, validation_fraction=validation, seed=seed)
    split = list(draw_split([f"c{n}" for n in range(cases)], {}, config).values())
    assert len(split) == cases
    tests = split.count("test")
    assert tests == (max(1, round(test * cases)) if test > 0 else 0)
    wanted = max(1, round(validation * cases)) if validation > 0 else 0
    assert split.count("validation") == min(wanted, cases - tests)


def test_the_default_is_the_papers_37_of_377() -> None:
    split = draw_split([f"c{n}" for n in range(377)], {}, PrepareConfig())
    assert list(split.values()).count("test") == 37
    assert list(split.values()).count("train") == 340


def test_the_split_depends_on_names_and_seed_alone() -> None:
    names = [f"c{n}" for n in range(20)]
    config = PrepareConfig(test_fraction=0.5)
    assert draw_split(names, {}, config) == draw_split(names[::-1], {}, config)
    assert draw_split(names, {}, config) != draw_split(names, {}, PrepareConfig(test_fraction=0.5, seed=1))


def test_more_cases_move_none_of_the_earlier() -> None:
    config = PrepareConfig(test_fraction=0.3, validation_fraction=0.2)
    first = draw_split([f"c{n}" for n in range(10)], {}, config)
    more = draw_split([f"d{n}" for n in range(10)], first, config)
    assert not set(first) & set(more)
    assert [*first.values(), *more.values()].count("test") == 6


def test_no_test_case_where_none_is_wanted(raw: Path, tmp_path: Path) -> None:
    assert prepare(raw, tmp_path / "s", PrepareConfig(downsample=2, test_fraction=0)).names("train") == [
        f"case_{n}" for n in range(5)
    ]


def test_counts_are_of_training_cases_only(raw: Path, tmp_path: Path) -> None:
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=2, test_fraction=0.4))
    assert len(store.names("test")) == 2
    rows = [store.manifest.cases[name].voxel_counts_prepared for name in store.names("train")]
    assert store.voxel_counts().tolist() == np.sum(rows, axis=0).tolist()


def test_a_split_file_is_followed(raw: Path, tmp_path: Path) -> None:
    split: dict[Split, list[str]] = {
        "train": ["case_4", "case_0"],
        "validation": ["case_1"],
        "test": ["case_2", "case_3"],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    store = prepare(raw, tmp_path / "s", HALF, split_file=tmp_path / "split.json")
    assert {part: store.names(part) for part in split} == {part: sorted(names) for part, names in split.items()}


def test_a_split_file_may_name_files(raw: Path, tmp_path: Path) -> None:
    split = {"test": ["imagesTr\\case_0_0000.nii.gz"], "train": [f"./labelsTr/case_{n}.nii.gz" for n in range(1, 5)]}
    (tmp_path / "split.json").write_text(json.dumps(split), encoding="utf-8-sig")
    assert prepare(raw, tmp_path / "s", HALF, split_file=tmp_path / "split.json").names("test") == ["case_0"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["case_0"], "test": ["case_1", "case_2", "case_3"]}, r"split\.json: names no split for case_4"),
        ({"train": ["case_0"], "test": ["case_0"]}, "case_0 is in train and in test"),
        ({"training": []}, "was expected"),
        ({"train": "case_0"}, "was expected"),
        ({"train": [0, 1]}, "was expected"),
        ({"train": 5}, "was expected"),
        ([["case_0"]], "was expected"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused_before_anything_is_prepared(
    raw: Path, tmp_path: Path, split: object, message: str
) -> None:
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(BadInputError, match=message):
        prepare(raw, tmp_path / "s", HALF, split_file=tmp_path / "split.json")
    assert not (tmp_path / "s" / "cases").exists()


def test_a_split_file_moves_no_case(raw: Path, tmp_path: Path) -> None:
    store = prepare(raw, tmp_path / "s", HALF)
    names = store.names()
    (tmp_path / "split.json").write_text(json.dumps({"train": names}))
    with pytest.raises(BadInputError, match="Prepare a new store"):
        prepare(raw, tmp_path / "s", HALF, split_file=tmp_path / "split.json")
    assert Store.open(tmp_path / "s").manifest == store.manifest


# ------------------------------------------------------------------------------------------ again


def test_a_second_call_adds_what_is_new_and_touches_nothing_else(
    raw: Path, tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    first = prepare(raw, tmp_path / "s", HALF)
    before = contents(tmp_path / "s" / "cases")
    make_nnunet(raw, {f"more_{n}": make_case(n) for n in range(15)})
    second = prepare(raw, tmp_path / "s", HALF)
    assert contents(tmp_path / "s" / "cases").items() >= before.items()
    assert len(second.names()) == 20
    assert all(second.manifest.cases[name] == record for name, record in first.manifest.cases.items())
    assert len(second.names("test")) == 2  # of 20


def test_other_settings_are_refused(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "s", HALF)
    with pytest.raises(BadInputError, match=r"prepared with downsample 2 \(now 3\)"):
        prepare(raw, tmp_path / "s", PrepareConfig(downsample=3))


def test_killed_between_cases_a_second_call_completes(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PrepareConfig(downsample=2, test_fraction=0.4, validation_fraction=0.2)
    whole = prepare(raw, tmp_path / "whole", config)

    def killed(at: Progress) -> None:
        if at.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "s", config, progress=killed)
    (tmp_path / "s" / "cases" / ".00000000-case_3").mkdir()  # as a kill -9 leaves it
    stored = contents(tmp_path / "s" / "cases")
    read: list[str] = []
    original = stage._prepared

    def watched(source: CaseSource, config: PrepareConfig) -> PreparedCase:
        read.append(source.name)
        return original(source, config)

    monkeypatch.setattr(stage, "_prepared", watched)
    again = prepare(raw, tmp_path / "s", config)
    assert read == ["case_3", "case_4"]
    assert contents(tmp_path / "s" / "cases").items() >= stored.items()
    assert again.manifest.cases == whole.manifest.cases
    assert sorted(path.name for path in (tmp_path / "s" / "cases").iterdir()) == again.names()


def test_a_deleted_case_is_restored_into_its_split(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(
        json.dumps({"test": ["case_0", "case_1", "case_2"], "train": ["case_3", "case_4"]})
    )
    first = prepare(raw, tmp_path / "s", HALF, split_file=tmp_path / "split.json")
    shutil.rmtree(tmp_path / "s" / "cases" / "case_1")
    assert prepare(raw, tmp_path / "s", HALF).manifest.cases == first.manifest.cases


def test_another_patient_of_the_same_name_is_left_out_even_if_the_files_are_as_long(raw: Path, tmp_path: Path) -> None:
    first = prepare(raw, tmp_path / "s", HALF)
    scan = raw / "imagesTr" / "case_1_0000.nii.gz"
    content = bytearray(scan.read_bytes())
    content[-9] ^= 1
    scan.write_bytes(content)
    with pytest.raises(BadInputError, match="not the file that the store's case was made from"):
        prepare(raw, tmp_path / "s", HALF)
    assert Store.open(tmp_path / "s").manifest == first.manifest


# ------------------------------------------------------------------------------------------ the classes


def class_file(*names: str) -> ClassFile:
    return ClassFile(ClassTable.of_names(["background", *names]), {})


def test_only_the_classes_asked_for_are_kept(raw: Path, tmp_path: Path, make_case: MakeCase) -> None:
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0), classes=class_file("spleen"))
    expected = sum(int((make_case(n)[1] == 4).sum()) for n in range(5))
    assert store.voxel_counts().tolist() == [5 * 14 * 12 * 10 - expected, expected]
    assert Store.open(tmp_path / "s").classes.names == ("background", "spleen")


def test_a_store_keeps_its_classes(raw: Path, tmp_path: Path) -> None:
    config = PrepareConfig(downsample=2)
    prepare(raw, tmp_path / "s", config, classes=class_file("liver", "spleen"))
    assert len(prepare(raw, tmp_path / "s", config).classes) == 3  # its own, where none are given
    with pytest.raises(BadInputError, match=r"the classes background, liver, spleen \(now background, liver\)"):
        prepare(raw, tmp_path / "s", config, classes=class_file("liver"))


def test_a_class_that_the_data_set_lacks_is_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="name no kidney"):
        prepare(raw, tmp_path / "s", PrepareConfig(), classes=class_file("liver", "kidney"))


def without(organ: str) -> dict[str, int]:
    """The table of a data set that calls this organ something else."""
    return {f"not_{name}" if name == organ else name: number for number, name in enumerate(CLASS_NAMES)}


def test_a_data_set_that_lacks_an_organ_joins_a_store(
    raw: Path, tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    other = {f"other_{n}": make_case(n) for n in range(2)}
    partial = make_nnunet(tmp_path / "partial", other, names=without("liver"))
    config = PrepareConfig(downsample=1, test_fraction=0)
    prepare(raw, tmp_path / "s", config)
    with pytest.raises(BadInputError, match=r"name no liver.*--partial"):
        prepare(partial, tmp_path / "s", config)
    store = prepare(partial, tmp_path / "s", config, partial=True)
    assert store.manifest.cases["other_1"].unlabelled == ("liver",)
    assert store.manifest.cases["case_1"].unlabelled == ()
    names = store.names("train")
    assert store.labelled(names)[:, 3].tolist() == [name.startswith("case") for name in names]
    assert store.labelled(names)[:, [0, 1, 2, 4, 5, 6, 7]].all()
    # R_l: livers of the five cases that label it, spleens of all seven, background of all with the two livers in it
    voxels = [np.bincount(make_case(n)[1].ravel(), minlength=8) for n in (0, 1, 2, 3, 4, 0, 1)]
    counts, lost = np.sum(voxels, axis=0), sum(int(v[3]) for v in voxels[5:])
    counts[[0, 3]] += [lost, -lost]
    assert store.voxel_counts().tolist() == counts.tolist()


def test_a_store_without_cases_takes_other_settings(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(json.dumps({"train": ["case_0"]}))
    with pytest.raises(BadInputError, match="names no split for"):
        prepare(raw, tmp_path / "s", PrepareConfig(), split_file=tmp_path / "split.json")
    assert prepare(raw, tmp_path / "s", PrepareConfig(downsample=2)).manifest.prepare.downsample == 2


def test_a_store_without_a_case_to_train_on_is_warned_of(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1))
    assert not caplog.text
    prepare(raw, tmp_path / "t", PrepareConfig(downsample=1, test_fraction=0.99))
    assert "no case is for training. Give --test-fraction 0" in caplog.text


def test_a_table_corrected_after_the_case_was_stored_is_noticed(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=2))
    path = raw / "dataset.json"
    table = json.loads(path.read_text())
    swapped = {"liver": "spleen", "spleen": "liver"}
    table["labels"] = {swapped.get(name, name): number for name, number in table["labels"].items()}
    path.write_text(json.dumps(table))
    with pytest.raises(BadInputError, match=r"mean .*spleen 3, liver 4.*; when it was stored, .*liver 3, spleen 4"):
        prepare(raw, tmp_path / "s", PrepareConfig(downsample=2))


def test_a_case_whose_labels_mean_something_else_now_is_left_out(raw: Path, tmp_path: Path) -> None:
    config = PrepareConfig(downsample=2)
    prepare(raw, tmp_path / "s", config)
    table = json.loads((raw / "dataset.json").read_text())
    table["labels"] = without("liver")
    (raw / "dataset.json").write_text(json.dumps(table))
    with pytest.raises(BadInputError):
        prepare(raw, tmp_path / "s", config, partial=True)
    assert "labels everything, now not liver" in (tmp_path / "s" / "quarantine.csv").read_text()


# ------------------------------------------------------------------------------------------ what the grid costs


def test_an_organ_that_the_grid_loses_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make_nnunet: MakeDataSet
) -> None:
    labels = np.zeros((48, 48, 36), dtype=np.uint8)
    labels[8:32, 8:32, 8:28] = 3  # whole blocks of 4: nothing is lost
    labels[5:6, 5:40, 30:31] = 2  # a vein between the sampled voxels
    hu = np.zeros(labels.shape, dtype=np.int16)
    raw = make_nnunet(tmp_path / "raw", {"a": (hu, labels)}, affine=np.diag([8.0, 8.0, 8.0, 1.0]))
    store = prepare(raw, tmp_path / "s", PrepareConfig(test_fraction=0))
    assert grids_text(store) == "48×48×36 voxels of 8×8×8 mm become 12×12×9 of 32×32×32 mm"
    assert re.search(r"^portal vein +1  1 \(a\) +–$", caplog.text, re.MULTILINE)
    assert "liver" not in caplog.text
    assert "--spacing-mm 8" in caplog.text
    caplog.clear()
    prepare(raw, tmp_path / "fine", PrepareConfig(spacing_mm=8, test_fraction=0))
    assert not caplog.text


def test_a_fifth_of_an_organ_is_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make_nnunet: MakeDataSet
) -> None:
    # of every two voxels along I the second is sampled; an organ of 2n + 1 that begins at one keeps n of them
    labels = np.zeros((40, 4, 4), dtype=np.uint8)
    labels[0:5], labels[8:19], labels[20:24] = 3, 4, 7  # 5 voxels long: 2 stay (-20 %); 11: 5 (-9 %); 4: 2 (0)
    hu = np.zeros(labels.shape, dtype=np.int16)
    raw = make_nnunet(tmp_path / "raw", {"a": (hu, labels)})
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=2, test_fraction=0))
    assert re.search(r"^liver +1  – +1 \(a\)$", caplog.text, re.MULTILINE)
