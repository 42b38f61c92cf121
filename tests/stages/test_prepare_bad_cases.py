"""Cases that cannot be prepared: each is left out with its reason, whatever it raises, and the others go on."""

import csv
import errno
import multiprocessing
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.layout_examples import write_example
from torture.write_calls import Fault, WriteCalls
from viscera.core.anatomy import ClassTable
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError, DefectError
from viscera.io.disk.folder_lock import exclusive
from viscera.io.layouts.case_source import CaseSource
from viscera.io.manifest import CaseRecord
from viscera.io.prepared_case import PreparedCase, write_case
from viscera.io.store import Store
from viscera.stages import prepare as stage
from viscera.stages.prepare import prepare

HALF = PrepareConfig(downsample=2)
MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


def quarantined(folder: Path) -> dict[str, str]:
    with (folder / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        return {line["case"]: line["reason"] for line in csv.DictReader(file)}


# ------------------------------------------------------------------------------------------ bad input


def truncate(raw: Path) -> None:
    path = raw / "imagesTr" / "case_2_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])


def replace_by_text(raw: Path) -> None:
    (raw / "imagesTr" / "case_2_0000.nii.gz").write_text("no scan at all, but long enough for a header" * 20)


def drop_a_slice(raw: Path) -> None:
    change(raw / "labelsTr" / "case_2.nii.gz", lambda array: array[..., 1:])


def shift(raw: Path) -> None:
    path = raw / "labelsTr" / "case_2.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[2, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def unknown_label(raw: Path) -> None:
    change(raw / "labelsTr" / "case_2.nii.gz", lambda array: array * 3)


def fractions(raw: Path) -> None:
    change(raw / "labelsTr" / "case_2.nii.gz", lambda array: array.astype(np.float32) / 2)


def nan(raw: Path) -> None:
    change(raw / "imagesTr" / "case_2_0000.nii.gz", lambda array: np.where(array > 0, np.nan, array))


def rgb(raw: Path) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    change(raw / "imagesTr" / "case_2_0000.nii.gz", lambda array: np.zeros(array.shape, dtype=kind))


def complex_numbers(raw: Path) -> None:
    change(raw / "imagesTr" / "case_2_0000.nii.gz", lambda array: array.astype(np.complex64))


def no_scan(raw: Path) -> None:
    (raw / "imagesTr" / "case_2_0000.nii.gz").unlink()


def change(path: Path, how: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(how(np.asarray(image.dataobj)), image.affine), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, r"imagesTr/case_2_0000\.nii\.gz: truncated or damaged"),
        (replace_by_text, r"imagesTr/case_2_0000\.nii\.gz: this is not a NIfTI file"),
        (drop_a_slice, "case_2: labels are 14×12×9 but the scan is 14×12×10. Export both"),
        (shift, "case_2: labels and scan have the same shape but lie at different places"),
        (unknown_label, r"labelsTr/case_2\.nii\.gz: label numbers 9, 12, 15, 18, 21 are not in the table"),
        (fractions, r"labelsTr/case_2\.nii\.gz: the values are not whole numbers"),
        (nan, r"imagesTr/case_2_0000\.nii\.gz: \d+ voxels are NaN"),
        (rgb, r"imagesTr/case_2_0000\.nii\.gz: voxels of type .* plain numbers"),
        (complex_numbers, r"imagesTr/case_2_0000\.nii\.gz: voxels of type complex64"),
        (no_scan, r"case_2: .*case_2_0000\.nii\.gz is missing"),
    ],
)
def test_a_bad_case_is_left_out_with_its_reason_and_the_others_go_on(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(raw)
    monkeypatch.chdir(tmp_path)  # a store named "r" lies in the name of every file of "raw"
    with pytest.raises(BadInputError, match=rf"1 of 5 cases was left out .*quarantine\.csv.*{message}"):
        prepare(Path("raw"), Path("r"), PrepareConfig(downsample=2, test_fraction=0.25))
    store = Store.open(tmp_path / "r")
    assert store.names() == ["case_0", "case_1", "case_3", "case_4"]
    assert len(store.names("test")) == 1
    assert set(quarantined(tmp_path / "r")) == {"case_2"}


def test_a_corrected_case_joins_and_the_quarantine_is_lifted(
    raw: Path, tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    truncate(raw)
    with pytest.raises(BadInputError):
        prepare(raw, tmp_path / "s", HALF)
    make_nnunet(raw, {"case_2": make_case(2)})
    assert len(prepare(raw, tmp_path / "s", HALF).names()) == 5
    assert not (tmp_path / "s" / "quarantine.csv").exists()


def test_what_another_data_set_left_out_stays_on_the_list(
    raw: Path, tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    truncate(raw)
    with pytest.raises(BadInputError):
        prepare(raw, tmp_path / "s", HALF)
    before = quarantined(tmp_path / "s")
    prepare(make_nnunet(tmp_path / "more", {"other_1": make_case(1)}), tmp_path / "s", HALF)
    assert quarantined(tmp_path / "s") == before


@pytest.mark.parametrize("dtype", ["u8", "u4", "u2", "i8", "i1", "f4", "f8", ">u2", ">f4"])
def test_labels_of_any_number_type(
    tmp_path: Path, halved_store: Store, make_nnunet: MakeDataSet, make_case: MakeCase, dtype: str
) -> None:
    hu, labels = make_case(0)
    raw = make_nnunet(tmp_path / "raw", {"case_0": (hu, labels.astype(np.uint8))})
    affine, scaled = nib.load(raw / "labelsTr" / "case_0.nii.gz").affine, dtype == ">f4"
    stored = (labels.astype(float) - 1) / 2 if scaled else labels
    image = nib.Nifti1Image(stored.astype(dtype), affine, dtype=dtype)
    image.header.set_slope_inter(2, 1) if scaled else None
    nib.save(image, raw / "labelsTr" / "case_0.nii.gz")
    assert (prepare(raw, tmp_path / "b", HALF).labels("case_0") == halved_store.labels("case_0")).all()


def _prepare_elsewhere(raw: Path, store: Path) -> None:
    try:
        prepare(raw, store, HALF)
    except BadInputError as error:
        raise SystemExit(0 if "another process is working on it" in str(error) else 1) from error
    raise SystemExit(2)


def test_two_processes_do_not_write_one_store(raw: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "s"):
        other = multiprocessing.get_context("fork").Process(target=_prepare_elsewhere, args=(raw, tmp_path / "s"))
        other.start()
        other.join()
    assert other.exitcode == 0
    assert len(prepare(raw, tmp_path / "s", HALF).names()) == 5


def test_an_empty_folder_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="the folder is empty"):
        prepare(tmp_path / "empty", tmp_path / "s", HALF)
    assert not (tmp_path / "s").exists()


def test_a_folder_of_something_else_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="exists and is not a store"):
        prepare(raw, tmp_path / "s", HALF)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["notes.txt"]
    with pytest.raises(BadInputError, match="exists and is not a store"):
        prepare(raw, tmp_path / "s" / "notes.txt", HALF)
    with pytest.raises(BadInputError, match="cannot be written"):
        prepare(raw, tmp_path / "s" / "notes.txt" / "store", HALF)


def test_a_full_disk_ends_the_command_and_the_next_call_completes(
    raw: Path, tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    make_nnunet(raw, {"case_3": make_case(3, (70, 40, 40))})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(BadInputError, match=r"cases/case_3: the disk is full .*run the same command again"):
            prepare(raw, tmp_path / "s", PrepareConfig(downsample=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert Store.open(tmp_path / "s").names() == ["case_0", "case_1", "case_2"]
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=1))
    store.verify(store.names())
    assert len(store.names()) == 5


def test_a_broken_disk_of_the_store_is_no_fault_of_the_case(raw: Path, tmp_path: Path) -> None:
    """It would be left out, and the split drawn without it."""
    whole = prepare(raw, tmp_path / "whole", HALF).manifest
    with WriteCalls(tmp_path).watching() as calls:
        prepare(raw, tmp_path / "s", HALF)
    at = next(number for number, call in enumerate(calls.calls) if call.path.endswith("case_2/labels.npy"))
    shutil.rmtree(tmp_path / "s")
    said = pytest.raises(BadInputError, match=r"cases/case_2: cannot be written \(Input/output error\)")
    with WriteCalls(tmp_path, Fault(at, "broken")).watching(), said:
        prepare(raw, tmp_path / "s", HALF)
    assert not (tmp_path / "s" / "quarantine.csv").exists()
    assert prepare(raw, tmp_path / "s", HALF).manifest == whole


# ------------------------------------------------------------------------------------------ one barrier per case


def test_whatever_a_case_raises_the_others_are_prepared(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = stage._prepared
    raised = {"case_1": MemoryError("Unable to allocate 21 TiB"), "case_3": ZeroDivisionError("nobody thought of it")}

    def broken(source: CaseSource, config: PrepareConfig) -> PreparedCase:
        if source.name in raised:
            raise raised[source.name]
        return original(source, config)

    monkeypatch.setattr(stage, "_prepared", broken)
    with pytest.raises(DefectError, match=r"2 of 5 cases were left out .*a defect of viscera \(ZeroDivisionError"):
        prepare(raw, tmp_path / "s", HALF)
    assert Store.open(tmp_path / "s").names() == ["case_0", "case_2", "case_4"]
    assert "Traceback" in caplog.text
    assert "out of memory (Unable to allocate 21 TiB)" in quarantined(tmp_path / "s")["case_1"]


def test_a_name_as_long_as_the_file_system_takes_is_prepared(tmp_path: Path) -> None:
    write_example(tmp_path / "raw", "totalsegmentator")
    (tmp_path / "raw" / "s0011").rename(tmp_path / "raw" / ("s" * 250))
    assert prepare(tmp_path / "raw", tmp_path / "s", HALF).names() == ["s0000", "s" * 250]


def test_a_name_that_the_store_cannot_hold_leaves_out_one_case(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = write_case

    def write(path: Path, case: PreparedCase, table: ClassTable, before: CaseRecord | None) -> CaseRecord:
        if case.name == "case_2":
            raise BadInputError("case_2: cannot be written") from OSError(errno.ENAMETOOLONG, "File name too long")
        return original(path, case, table, before)

    monkeypatch.setattr(stage, "write_case", write)
    with pytest.raises(BadInputError, match="1 of 5 cases was left out"):
        prepare(raw, tmp_path / "s", HALF)
    assert len(Store.open(tmp_path / "s").names()) == 4
    assert set(quarantined(tmp_path / "s")) == {"case_2"}
