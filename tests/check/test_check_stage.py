"""A check of a data set on disk: tables, page, bad cases, and what it leaves alone."""

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from viscera.check import check_stage as stage
from viscera.check.case_facts import measure_case
from viscera.check.check_page import MOST_OF_A_CASE
from viscera.check.check_stage import check, refuse_unread
from viscera.check.check_tables import check_text
from viscera.check.findings import DataSetCheck
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError, DefectError
from viscera.core.scan import Case
from viscera.io.classes import read_class_file
from viscera.io.layouts.case_source import CaseSource
from viscera.stages.phantom import make_phantoms
from viscera.stages.prepare import prepare


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj).copy()), image.affine), path)


def scan_of(folder: Path, number: int) -> Path:
    return folder / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz"


def labels_of(folder: Path, number: int) -> Path:
    return folder / "labelsTr" / f"phantom_{number:03d}.nii.gz"


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of something else: every tiny case of slabs is suspicious in many ways."""
    monkeypatch.setattr(stage, "MOST_PICTURES", 0)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven phantoms: 1 mirrored labels, 2 unscaled, 3 a duplicate of 0, 4 labels of another grid, 5 unknown numbers,
    6 truncated.
    """
    folder = tmp_path_factory.mktemp("spoilt") / "raw"
    make_phantoms(folder, 7, seed=3, shape=(64, 48, 48))
    edit(labels_of(folder, 1), lambda labels: labels[::-1])
    edit(scan_of(folder, 2), lambda hu: (hu + 1024).astype(np.int16))
    scan_of(folder, 3).write_bytes(scan_of(folder, 0).read_bytes())
    labels_of(folder, 3).write_bytes(labels_of(folder, 0).read_bytes())
    edit(labels_of(folder, 4), lambda labels: labels[:-1])
    edit(labels_of(folder, 5), lambda labels: np.where(labels == 3, 99, labels).astype(np.uint8))
    scan_of(folder, 6).write_bytes(scan_of(folder, 6).read_bytes()[:20_000])
    return folder


@pytest.fixture(scope="module")
def checked(spoilt: Path) -> tuple[DataSetCheck, Path]:
    out = spoilt.parent / "check"
    return check(spoilt, out), out


def test_every_case_has_its_verdict_and_the_bad_ones_their_reason(checked: tuple[DataSetCheck, Path]) -> None:
    found, out = checked
    rows = {row["case"]: row for row in table(out / "check.csv")}
    assert [rows[f"phantom_{n:03d}"]["verdict"] for n in range(7)] == [*["suspicious"] * 4, *["not read"] * 3]
    assert "labels are 63×48×48 but the scan is 64×48×48" in rows["phantom_004"]["reason"]
    assert "label numbers 99" in rows["phantom_005"]["reason"]
    assert "truncated" in rows["phantom_006"]["reason"]
    assert rows["phantom_006"]["orientation"] == ""
    with pytest.raises(BadInputError, match=r"3 of 7 cases could not be read .*check\.csv.*The first: phantom_004"):
        refuse_unread(found, out)


def test_a_row_holds_what_was_measured(checked: tuple[DataSetCheck, Path], spoilt: Path) -> None:
    row = table(checked[1] / "check.csv")[0]
    image = nib.load(labels_of(spoilt, 0))
    liver = np.asarray(image.dataobj) == 3
    assert float(row["liver_volume_ml"]) == pytest.approx(liver.sum() * 6.0**3 / 1000, abs=1e-3)
    assert float(row["liver_mean_hu"]) == pytest.approx(
        np.asarray(nib.load(scan_of(spoilt, 0)).dataobj)[liver].mean(), abs=0.1
    )
    assert [row[f"voxels_{axis}"] for axis in "ijk"] == ["64", "48", "48"]
    assert [row[f"spacing_{axis}_mm"] for axis in "ijk"] == ["6", "6", "6"]
    assert (row["orientation"], row["organs"]) == ("RAS", "7")


def test_findings_are_a_line_each(checked: tuple[DataSetCheck, Path]) -> None:
    rows = table(checked[1] / "findings.csv")
    assert list(rows[0])[:5] == ["case", "organ", "finding", "value", "expected"]
    suspicious = {(row["case"], row["organ"], row["finding"]) for row in rows if row["level"] != "note"}
    assert suspicious >= {
        ("phantom_001", "liver", "left_right"),
        ("phantom_002", "", "hu_scale"),
        ("phantom_000", "", "same_image"),
        ("phantom_003", "", "same_image"),
        ("phantom_006", "", "not_read"),
    }


def test_the_page_stands_alone_and_shows_the_suspicious_ones(checked: tuple[DataSetCheck, Path]) -> None:
    page = (checked[1] / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|@import|(?:src|href)=\"(?!data:|#)", page)
    assert "procedural phantoms" in page
    text = unescape(page)
    assert "phantom_001, liver: left and right swapped: axial slice" in re.sub("Liver", "liver", text)
    places = [len({f.at_mm for f in case.findings if f.at_mm is not None}) for case in checked[0].cases]
    assert text.count("data:image/png;base64,") == 3 * sum(min(number, MOST_OF_A_CASE) for number in places)
    assert "labels are 63×48×48" in text


def test_the_same_data_give_the_same_files(checked: tuple[DataSetCheck, Path], spoilt: Path, tmp_path: Path) -> None:
    check(spoilt, tmp_path / "again")
    for path in checked[1].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.usefixtures("no_pictures")
def test_every_case_is_read_once_and_nothing_is_written_to_the_data(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = CaseSource.read

    def counted(self: CaseSource) -> object:
        read.append(self.name)
        return original(self)

    monkeypatch.setattr(CaseSource, "read", counted)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    seen: list[tuple[int, int]] = []
    check(raw, tmp_path / "check", progress=lambda at: seen.append((at.done, at.total)))
    assert read == [f"case_{n}" for n in range(5)]
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before
    assert seen == [(n, 5) for n in range(6)]


@pytest.mark.usefixtures("no_pictures")
def test_a_folder_of_something_else_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(BadInputError, match=r"site: holds something that no check wrote.*--out"):
        check(raw, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
    check(raw, tmp_path / "own")
    check(raw, tmp_path / "own")  # of an earlier check


def test_a_data_set_of_which_nothing_can_be_read(raw: Path, tmp_path: Path) -> None:
    for path in (raw / "imagesTr").iterdir():
        path.unlink()
    found = check(raw, tmp_path / "check")
    assert {case.verdict for case in found.cases} == {"not read"}
    assert "0000.nii.gz is missing" in (tmp_path / "check" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(BadInputError, match="5 of 5 cases"):
        refuse_unread(found, tmp_path / "check")


def test_pictures_have_a_limit(spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MOST_PICTURES", 1)
    check(spoilt, tmp_path / "check")
    page = (tmp_path / "check" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "more places are not shown" in page


def test_names_of_cases_are_escaped(
    tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    raw = make_nnunet(tmp_path / "raw", {"<b>&x": make_case(0)})
    check(raw, tmp_path / "check")
    page = (tmp_path / "check" / "index.html").read_text(encoding="utf-8")
    assert "<b>&x" not in page
    assert "&lt;b&gt;&amp;x" in page


def test_other_classes_and_organs_that_the_data_set_does_not_label(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    make_phantoms(raw, 2, seed=3, shape=(64, 48, 48))
    names = {"background": 0, "liver": 3, "left kidney": 4, "a": 1, "b": 2, "c": 5, "d": 6, "e": 7}
    (raw / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
    (tmp_path / "classes.yaml").write_text("classes: [left_kidney, liver, pancreas]")
    found = check(raw, tmp_path / "check", classes=read_class_file(tmp_path / "classes.yaml"))
    assert found.classes == ("left_kidney", "liver", "pancreas")
    assert [(f.organ, f.kind) for f in found.findings] == [("", "no_class"), ("pancreas", "not_labelled")]
    row = table(tmp_path / "check" / "check.csv")[0]
    assert float(row["left_kidney_volume_ml"]) > 0
    assert (row["pancreas_volume_ml"], row["organs"]) == ("", "2")


@pytest.mark.usefixtures("no_pictures")
def test_a_name_that_is_not_known_comes_first_because_prepare_refuses_it(raw: Path, tmp_path: Path) -> None:
    described = json.loads((raw / "dataset.json").read_text())
    described["labels"] = {{"spleen": "Milz"}.get(name, name): number for name, number in described["labels"].items()}
    described["labels"] |= {"kidney": 40, "ignore": 41}
    (raw / "dataset.json").write_text(json.dumps(described))
    found = check(raw, tmp_path / "out")
    said = check_text(found)
    assert said.index("Names of labels that mean none of the classes.") < said.index("(expected: ")
    finding = found.findings[0]
    assert (finding.kind, finding.level) == ("no_class", "suspicious")
    assert (finding.value, finding.expected) == ("'Milz', 'kidney' would be background", "a name that means spleen")
    with pytest.raises(BadInputError, match="name no spleen"):
        prepare(raw, tmp_path / "store", PrepareConfig())


@pytest.mark.usefixtures("no_pictures")
def test_further_organs_are_no_finding_where_no_class_lacks(raw: Path, tmp_path: Path) -> None:
    described = json.loads((raw / "dataset.json").read_text())
    described["labels"]["kidney"] = 40
    (raw / "dataset.json").write_text(json.dumps(described))
    assert "no_class" not in {finding.kind for finding in check(raw, tmp_path / "out").findings}


@pytest.mark.usefixtures("no_pictures")
def test_a_defect_leaves_out_one_case_and_ends_as_a_defect(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(case: Case, *rest: Any) -> Any:
        if case.name == "case_2":
            raise IndexError("nobody thought of it")
        return measure_case(case, *rest)

    monkeypatch.setattr(stage, "measure_case", broken)
    found = check(raw, tmp_path / "check")
    assert [case.verdict == "not read" for case in found.cases] == [False, False, True, False, False]
    assert "Traceback" in caplog.text
    with pytest.raises(DefectError, match=r"1 of 5 cases .*case_2: a defect of viscera \(IndexError"):
        refuse_unread(found, tmp_path / "check")


def test_real_scans(real_data: Path, tmp_path: Path) -> None:
    """What is known of them: ts_example's pancreas is thin and in pieces, two have no gallbladder, one is a slab."""
    found = check(real_data / "nnunet_real", tmp_path / "check")
    suspicious = {(f.case, f.organ, f.kind) for f in found.all_findings() if f.level == "suspicious"}
    assert suspicious == {("ts_example", "pancreas", "volume"), ("ts_example", "pancreas", "fragments")}
    notes = {(f.case, f.organ, f.kind) for f in found.all_findings() if f.level == "note"}
    assert {
        ("lidc0001", "gallbladder", "missing"),
        ("ts_slab", "gallbladder", "missing"),
        ("ts_slab", "liver", "cut_off"),
        ("ts_slab", "", "spacing_unlike"),
    } <= notes
    volumes = {row["case"]: float(row["liver_volume_ml"]) for row in table(tmp_path / "check" / "check.csv")}
    assert volumes["ts_example"] == pytest.approx(1126, abs=1)
    assert volumes["lidc0001"] == pytest.approx(1023, abs=2)
