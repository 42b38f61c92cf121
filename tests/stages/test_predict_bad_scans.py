"""One scan never stops the others: what is left out, with its reason, and what ends a command."""

import csv
import errno
import json
import logging
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.label_maps import rows_of
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, DefectError
from viscera.core.scan import Volume
from viscera.io import predictions
from viscera.io.nifti import read_volume
from viscera.io.store import Store
from viscera.stages.predict import predict, predict_store

MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


def test_bad_scans_are_left_out_with_their_reasons_and_the_others_go_on(
    half_run: Path, scans: Path, tmp_path: Path
) -> None:
    (scans / "case_0_0000.nii.gz").write_bytes((scans / "case_0_0000.nii.gz").read_bytes()[:-30])
    (scans / "case_1_0000.nii.gz").write_text("not a scan")
    nan = np.full((4, 4, 4), np.nan, dtype=np.float32)
    nib.save(nib.Nifti1Image(nan, np.eye(4)), scans / "case_2_0000.nii.gz")
    (scans / "gone.nii.gz").symlink_to(scans / "nowhere.nii.gz")
    (scans / "folder.nii.gz").mkdir()
    (scans / "circle.nii.gz").symlink_to("circle.nii.gz")
    with pytest.raises(BadInputError, match=r"6 of 8 cases were left out \(reasons in .*out/quarantine\.csv\)"):
        predict(half_run, scans, tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        reasons = {line["case"]: line["reason"] for line in csv.DictReader(file)}
    assert "truncated" in reasons["case_0_0000.nii.gz"]
    assert "not a NIfTI" in reasons["case_1_0000.nii.gz"]
    assert "64 voxels are NaN" in reasons["case_2_0000.nii.gz"]
    assert "there is no such file" in reasons["gone.nii.gz"]
    assert "cannot be read" in reasons["folder.nii.gz"]
    assert "cannot be read" in reasons["circle.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["case_3.nii.gz", "case_4.nii.gz"]
    mended = tmp_path / "mended"
    mended.mkdir()
    for name in reasons:
        shutil.copy(scans / "case_3_0000.nii.gz", mended / name)
    predict(half_run, mended, tmp_path / "out")
    assert not (tmp_path / "out" / "quarantine.csv").exists()


def test_one_scan_never_stops_the_others_whatever_it_raises(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(path: Path, *, warn: bool) -> Volume:
        number = int(path.name[5])
        if number == 0:
            raise ZeroDivisionError("nobody thought of it")
        if number == 1:
            raise MemoryError("Unable to allocate 21 TiB")
        if number == 2:
            (scans / "case_3_0000.nii.gz").unlink()
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_volume(path, warn=warn)

    monkeypatch.setattr("viscera.io.scans.read_nifti", read)
    with pytest.raises(DefectError, match=r"4 of 5 cases were left out .*case_0.*ZeroDivisionError: nobody"):
        predict(half_run, scans, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["case_4.nii.gz"]
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        reasons = [line["reason"] for line in csv.DictReader(file)]
    for reason, part in zip(reasons, ("a defect", "out of memory", "Permission denied", "no such file"), strict=True):
        assert part in reason
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_what_other_calls_left_out_stays_on_the_list(half_run: Path, scans: Path, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.nii.gz", tmp_path / "out"
    bad.write_text("not a scan")
    with pytest.raises(BadInputError, match="not a NIfTI"):
        predict(half_run, bad, out)
    before = (out / "quarantine.csv").read_bytes()
    predict(half_run, scans, out)
    assert (out / "quarantine.csv").read_bytes() == before
    shutil.copy(scans / "case_3_0000.nii.gz", bad)
    predict(half_run, bad, out)
    assert not (out / "quarantine.csv").exists()


def test_one_bad_scan_is_said_in_one_sentence(half_run: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "case_0_0000.nii.gz").write_text("not a scan")
    with pytest.raises(BadInputError, match=r"case_0_0000\.nii\.gz: this is not a NIfTI file"):
        predict(half_run, scans / "case_0_0000.nii.gz", tmp_path / "x.nii.gz")


def test_what_cannot_be_predicted_from_or_to(half_run: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    scan = scans / "case_0_0000.nii.gz"
    for arguments, message in (
        (
            (half_run, tmp_path / "empty", tmp_path / "out"),
            "the folder is empty. Give a scan, a folder of scans or that of a CT series",
        ),
        ((half_run, tmp_path / "missing", tmp_path / "out"), "there is no such file or folder"),
        ((tmp_path / "empty", scan, tmp_path / "out"), "there is no such checkpoint"),
        ((half_run, scan, tmp_path / "out.dcm"), "not a DICOM series, which dicom-seg needs"),
        ((half_run, scan, tmp_path / "file"), "this is a file. Give a folder"),
        ((half_run, scan, tmp_path / "file" / "x.nii.gz"), "cannot be written"),
    ):
        with pytest.raises(BadInputError, match=message):
            predict(*arguments)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("output", ["out", "out/x.nii.gz"])
def test_no_run_leaves_no_folder(half_run: Path, scans: Path, tmp_path: Path, output: str) -> None:
    scan = scans / "case_0_0000.nii.gz"
    runs = Path(shutil.copytree(half_run, tmp_path / "runs" / "a")).parent
    shutil.copytree(runs / "a", runs / "b")
    (runs / "b" / "last.pt").write_bytes(b"damaged")
    for run in (tmp_path / "nothing", tmp_path, runs):
        with pytest.raises(BadInputError):
            predict(run, scan, tmp_path / output)
        assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_command_and_keeps_what_was_there(
    half_run: Path, tmp_path: Path, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(make_case(0, (42, 40, 40))[0], np.eye(4) * 2), tmp_path / "a.nii")
    predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii")
    before = (tmp_path / "out" / "a.nii").read_bytes()
    segmented: list[int] = []

    def watched(path: Path, *, warn: bool) -> Volume:
        segmented.append(1)
        return read_volume(path, warn=warn)

    monkeypatch.setattr("viscera.io.scans.read_nifti", watched)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(BadInputError, match=r"a\.nii: the disk is full .*Free some space"):
            predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii", PredictConfig(overlap=0.1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(segmented) == 1
    assert (tmp_path / "out" / "a.nii").read_bytes() == before
    predict(half_run, tmp_path / "a.nii", tmp_path / "out" / "a.nii", PredictConfig(overlap=0.1))  # still its own


def test_a_damaged_case_of_the_store_is_left_out(half_run: Path, half_store: Store, tmp_path: Path) -> None:
    shutil.copytree(half_store.path, tmp_path / "s")
    name = half_store.names("test")[0]
    path = tmp_path / "s" / "cases" / name / "image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"1 of 2 .*quarantine\.csv.*{name}/image\.npy: changed since"):
        predict_store(half_run, Store.open(tmp_path / "s"), half_store.names("test"), tmp_path / "out")
    assert (tmp_path / "out" / "quarantine.csv").exists()


def test_the_first_error_is_the_one_to_hear_of(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_args: object) -> None:
        raise BadInputError("the table")

    def full(*_args: object) -> None:
        raise BadInputError("the disk is full")

    monkeypatch.setattr("viscera.engine.prediction_tasks.write_tables", failing)
    with pytest.raises(BadInputError, match="the table"):
        predict(half_run, scans, tmp_path / "out")
    monkeypatch.setattr(predictions, "write_bytes", full)
    with pytest.raises(BadInputError, match="the disk is full"):
        predict(half_run, scans, tmp_path / "other")


def test_odd_files_in_the_folder_stop_nobody(
    half_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a file that should be JSON and is not, or a damaged record, is worth a word."""
    out = tmp_path / "out"
    predict(half_run, scans / "case_0_0000.nii.gz", out)
    record = json.loads((out / "case_0.json").read_text())
    (out / "._old.json").write_bytes(b"\x00\x05\x16\x07 a Mac's own file")
    (out / ".0123abcd-case_9.json").write_text('{"run_sha')  # of a power cut
    (out / "dataset.json").write_text('{"measurements": "of others"}')
    (out / "folder.json").mkdir()
    (out / "half.json").write_text("{")
    (out / "spoilt.json").write_text(json.dumps({**record, "measurements": {"liver": 3}}))
    (out / "deep.json").write_text("[" * 100_000)
    predict(half_run, scans / "case_1_0000.nii.gz", out)
    assert {case for case, _ in rows_of(out / "measurements.csv")} == {"case_0", "case_1"}
    said = [message.split("/")[-1].split(":")[0] for message in caplog.messages if "measurements.csv" in message]
    assert said == ["deep.json", "folder.json", "half.json", "spoilt.json"]


def test_formats_that_cannot_be_written(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_3_0000.nii.gz"
    for output, formats, message in (
        (
            "out",
            ["stl"],
            "there is no such format. There are: nifti, dicom-seg, dicom-seg-labelmap, rtstruct, seg-nrrd",
        ),
        ("out", ["rtstruct"], "which rtstruct needs"),
        ("x.nii.gz", ["nifti", "seg-nrrd"], "one file, and --format nifti, seg-nrrd"),
        ("x.nii.gz", ["seg-nrrd"], "one file, and --format seg-nrrd"),
        ("x.rtstruct.dcm", ["dicom-seg"], "one file, and --format dicom-seg"),
    ):
        with pytest.raises(BadInputError, match=message):
            predict(half_run, scan, tmp_path / output, formats=formats)
    predict(half_run, scan, tmp_path / "x.seg.nrrd")  # the name asks for it
    assert (tmp_path / "x.json").exists()
