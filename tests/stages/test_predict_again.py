"""What a second call keeps, replaces and refuses to touch."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.label_maps import labels_of, state
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.io import predictions
from viscera.io.files import sha256
from viscera.stages.predict import predict


def test_a_second_call_keeps_what_is_done(half_run: Path, scans: Path, tmp_path: Path) -> None:
    predict(half_run, scans, tmp_path / "out")
    before = state(tmp_path / "out")
    (tmp_path / "out" / "case_2.nii.gz").unlink()
    predict(half_run, scans, tmp_path / "out")
    after = state(tmp_path / "out")
    assert after["case_2.nii.gz"][0] == before["case_2.nii.gz"][0]
    redone = {name for name in before if after[name] != before[name]}
    assert redone == {"case_2.nii.gz", "case_2.json"}


def test_another_model_or_setting_replaces_its_own_label_maps(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path
) -> None:
    scan = scans / "case_2_0000.nii.gz"
    predict(half_run, scan, tmp_path)
    first = labels_of(tmp_path / "case_2.nii.gz")
    predict(half_run, scan, tmp_path, PredictConfig(overlap=0.25))
    assert json.loads((tmp_path / "case_2.json").read_text())["settings"]["overlap"] == 0.25
    predict(tiny_run, scan, tmp_path)
    assert (labels_of(tmp_path / "case_2.nii.gz") != first).any()


def test_how_many_label_maps_of_another_model_are_replaced_is_said(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number = len(predict(half_run, scans, tmp_path / "out"))
    predict(half_run, scans, tmp_path / "out")
    assert "replaced" not in caplog.text
    predict(tiny_run, scans, tmp_path / "out")
    assert f"out: {number} label maps of another model are replaced. To keep what is there, give another" in caplog.text
    caplog.clear()
    predict(tiny_run, scans / "case_2_0000.nii.gz", tmp_path / "out", PredictConfig(overlap=0.25))
    assert "out: 1 label map that this model made with other settings is replaced." in caplog.text


def test_scans_of_one_name_from_several_folders_do_not_replace_each_other(
    half_run: Path, scans: Path, tmp_path: Path
) -> None:
    """As in a loop over TotalSegmentator's folders, each of which holds a `ct.nii.gz`."""
    for n in (1, 2):
        (tmp_path / f"s{n}").mkdir()
        shutil.copy(scans / f"case_{n}_0000.nii.gz", tmp_path / f"s{n}" / "ct.nii.gz")
    first, second, out = tmp_path / "s1" / "ct.nii.gz", tmp_path / "s2" / "ct.nii.gz", tmp_path / "out"
    predict(half_run, first, out)
    before = state(out)
    for formats in (None, ["seg-nrrd"]):  # neither the label map nor what is known about it
        with pytest.raises(BadInputError, match=r"another scan called ct\.nii\.gz.*Give another name.*--overwrite"):
            predict(half_run, second, out, formats=formats)
        assert before.items() <= state(out).items()
    predict(half_run, first, out)
    assert before.items() <= state(out).items()
    predict(half_run, second, out, overwrite=True)
    assert json.loads((out / "ct.json").read_text())["input_sha256"] == sha256(second)
    (out / "ct.nii.gz").unlink()
    predict(half_run, first, out)  # nothing is lost


def test_a_scan_that_was_mended_is_predicted_again_on_request(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_1_0000.nii.gz"
    predict(half_run, scan, tmp_path / "out")
    shutil.copy(scans / "case_2_0000.nii.gz", scan)
    with pytest.raises(BadInputError, match="or from this one before it was changed"):
        predict(half_run, scan, tmp_path / "out")
    (written,) = predict(half_run, scan, tmp_path / "out", overwrite=True)
    (expected,) = predict(half_run, scans / "case_2_0000.nii.gz", tmp_path / "expected")
    assert written.read_bytes() == expected.read_bytes()


def test_a_label_map_edited_by_hand_is_kept_unless_told_otherwise(half_run: Path, scans: Path, tmp_path: Path) -> None:
    predict(half_run, scans, tmp_path / "out")
    path = tmp_path / "out" / "case_3.nii.gz"
    image = nib.load(path)
    edited = np.full(image.shape, 5, dtype=np.uint8)
    nib.save(nib.Nifti1Image(edited, image.affine), path)
    with pytest.raises(BadInputError, match=r"case_3\.nii\.gz: exists, and is not as viscera wrote it"):
        predict(half_run, scans, tmp_path / "out")
    assert (labels_of(path) == 5).all()
    predict(half_run, scans, tmp_path / "out", overwrite=True)
    assert (labels_of(path) != 5).any()


def test_files_of_others_are_not_overwritten(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan = scans / "case_3_0000.nii.gz"
    for name in ("case_3.nii.gz", "case_3.json"):
        (tmp_path / name).write_text("[1]")
        with pytest.raises(BadInputError, match="Move it away, or add --overwrite"):
            predict(half_run, scan, tmp_path / "case_3.nii.gz")
        assert (tmp_path / name).read_text() == "[1]"
        (tmp_path / name).unlink()
    (tmp_path / "case_3.json").write_text("{")
    (tmp_path / "case_3.nii.gz").write_text("no")
    predict(half_run, scan, tmp_path / "case_3.nii.gz", overwrite=True)
    assert labels_of(tmp_path / "case_3.nii.gz").shape == (14, 12, 10)


@pytest.mark.parametrize("record", ["{", '{"run_sha256": "x", "outputs_sha256": [1], "replaces_sha256": {"a": {}}}'])
def test_a_damaged_record_is_a_sentence_and_is_replaced_on_request(
    half_run: Path, scans: Path, tmp_path: Path, record: str
) -> None:
    scan, out = scans / "case_0_0000.nii.gz", tmp_path / "out"
    (written,) = predict(half_run, scan, out)
    content = written.read_bytes()
    (out / "case_0.json").write_text(record)
    with pytest.raises(BadInputError, match="add --overwrite"):
        predict(half_run, scan, out)
    predict(half_run, scan, out, overwrite=True)
    assert written.read_bytes() == content


def test_another_format_is_added_and_an_edited_one_is_kept(half_run: Path, scans: Path, tmp_path: Path) -> None:
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(half_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert (out / "case_3.seg.nrrd").exists()
    (out / "case_3.seg.nrrd").write_bytes(b"edited by hand")
    with pytest.raises(BadInputError, match="not as viscera wrote it"):
        predict(half_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert (out / "case_3.seg.nrrd").read_bytes() == b"edited by hand"
    predict(half_run, scan, out, formats=["nifti", "seg-nrrd"], overwrite=True)
    assert (out / "case_3.seg.nrrd").read_bytes() != b"edited by hand"


def test_a_format_of_an_earlier_model_is_made_anew_when_it_is_asked_for(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The NIfTI of the first model stays while the second writes another format; then it is replaced."""
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    assert "case_3.nii.gz: made by another model" in caplog.text
    predict(tiny_run, scan, out)
    (expected,) = predict(tiny_run, scan, tmp_path / "expected")
    assert (out / "case_3.nii.gz").read_bytes() == expected.read_bytes()
    before = state(out)
    predict(tiny_run, scan, out, formats=["nifti", "seg-nrrd"])
    assert state(out) == before  # both formats are of one model now


def test_what_two_models_left_is_still_known_as_our_own(
    half_run: Path, tiny_run: Path, scans: Path, tmp_path: Path
) -> None:
    scan, out = scans / "case_3_0000.nii.gz", tmp_path / "out"
    predict(half_run, scan, out)
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    predict(tiny_run, scan, out, PredictConfig(overlap=0.25), formats=["seg-nrrd"])
    predict(half_run, scan, out, PredictConfig(overlap=0.25))  # no refusal: nobody edited the NIfTI
    image = nib.load(out / "case_3.nii.gz")
    nib.save(nib.Nifti1Image(np.full(image.shape, 5, dtype=np.uint8), image.affine), out / "case_3.nii.gz")
    predict(tiny_run, scan, out, formats=["seg-nrrd"])
    with pytest.raises(BadInputError, match="not as viscera wrote it"):
        predict(tiny_run, scan, out)


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("dies_at", ["write_record", "write_bytes"])
def test_killed_between_its_two_files_a_second_call_completes(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str, replacing: bool
) -> None:
    scan, config = scans / "case_3_0000.nii.gz", PredictConfig(overlap=0.25)
    if replacing:
        predict(half_run, scan, tmp_path / "out")

    def dying(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predictions, dies_at, dying)
        with pytest.raises(KeyboardInterrupt):
            predict(half_run, scan, tmp_path / "out", config)
    predict(half_run, scan, tmp_path / "out", config)
    said = json.loads((tmp_path / "out" / "case_3.json").read_text())
    assert said["output_sha256"] == sha256(tmp_path / "out" / "case_3.nii.gz")
    before = state(tmp_path / "out")
    predict(half_run, scan, tmp_path / "out", config)
    assert state(tmp_path / "out") == before


def test_scans_are_never_overwritten(half_run: Path, scans: Path) -> None:
    scan = (scans / "case_3_0000.nii.gz").rename(scans / "case_3.nii.gz")
    content = scan.read_bytes()
    for output in (scans, scan):
        with pytest.raises(BadInputError, match="the label map would replace a scan"):
            predict(half_run, scan, output, overwrite=True)
    assert scan.read_bytes() == content


def test_two_scans_of_one_name_are_refused(half_run: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copy(scans / "case_3_0000.nii.gz", scans / "case_3.nii.gz")
    with pytest.raises(BadInputError, match=r"would both become case_3\.nii\.gz"):
        predict(half_run, scans, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "output"),
    [("quarantine.csv", "out"), ("measurements.csv", "out"), ("x.measurements.csv", "out/x.nii.gz")],
)
@pytest.mark.parametrize("content", [b"patient;since\n7;May\n", b"M\xfcller", b""])
def test_tables_of_others_are_kept(
    half_run: Path, scans: Path, tmp_path: Path, table: str, output: str, content: bytes
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / table).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{table}: exists, and viscera did not write it. Move it away, or choose"):
        predict(half_run, scans / "case_0_0000.nii.gz", tmp_path / output, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [table]
    assert (tmp_path / "out" / table).read_bytes() == content
