"""Maps of class probabilities and entropy beside a label map: whose they are, where they lie, what they cost."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import run
from tests.fused_folder import fused_folder
from tests.label_maps import labels_of
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.engine.predictor import Predictor
from viscera.io.files import sha256
from viscera.io.nifti import read_volume
from viscera.io.references import prediction_files
from viscera.io.store import Store
from viscera.stages.predict import predict, predict_store

MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
ALL = ["nifti", "probabilities", "entropy"]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "AIL", "SLP"])
@pytest.mark.parametrize("restore", ["probabilities", "labels"])
def test_the_most_probable_class_is_that_of_the_label_map_in_any_voxel_order(
    half_run: Path, tmp_path: Path, make_case: MakeCase, codes: str, restore: str
) -> None:
    hu, _ = make_case(3, (15, 11, 9))
    image = nib.Nifti1Image(hu, np.diag([2.0, 2.1, 2.4, 1]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine), tmp_path / "a.nii.gz")
    config = PredictConfig(restore=restore)
    predict(half_run, tmp_path / "a.nii.gz", tmp_path / "out", config, formats=ALL)
    maps, undecided = (nib.load(tmp_path / "out" / f"a.{name}.nii.gz") for name in ALL[1:])
    probabilities = maps.get_fdata()
    labels = labels_of(tmp_path / "out" / "a.nii.gz")
    assert (probabilities.argmax(axis=-1) == labels).all()
    assert len(np.unique(labels)) > 2
    assert maps.shape == (*turned.shape, 8)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=8e-5)
    np.testing.assert_allclose(maps.affine, turned.affine, atol=1e-5)
    np.testing.assert_allclose(undecided.affine, turned.affine, atol=1e-5)
    safe = probabilities.clip(1e-12)
    expected = -(safe * np.log(safe)).sum(axis=-1) / np.log(8)
    np.testing.assert_allclose(undecided.get_fdata(), expected, atol=1 / 255)
    predictor = Predictor.load(half_run, config)
    view, (model,) = predictor.view(read_volume(tmp_path / "a.nii.gz")), predictor.models.values()
    by_plane = [plane.numpy() for plane in model.probabilities(view.scans[0], view.changes[0])]
    back = nib.as_closest_canonical(maps).get_fdata()
    np.testing.assert_allclose(np.moveaxis(back, -1, 0), np.stack(by_plane, axis=-1), atol=2 / 65535)


def test_maps_are_of_the_record_and_no_label_maps(half_run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(half_run, scans, out, formats=ALL)
    said = json.loads((out / "case_1.json").read_text())
    assert said["outputs_sha256"] == {
        f"case_1{e}": sha256(out / f"case_1{e}") for e in (".nii.gz", ".probabilities.nii.gz", ".entropy.nii.gz")
    }
    assert sorted(prediction_files(out, scans)) == [f"case_{n}" for n in range(5)]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    predict(half_run, scans, out, formats=ALL)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    plain = predict(half_run, scans, tmp_path / "plain")
    assert all(path.read_bytes() == (out / path.name).read_bytes() for path in plain)


def test_a_single_map_by_its_name_and_from_a_store(
    half_run: Path, half_store: Store, scans: Path, tmp_path: Path
) -> None:
    (name, *_) = half_store.names()
    predict(half_run, scans / f"{name}_0000.nii.gz", tmp_path / "x.entropy.nii.gz")
    assert sorted(path.name for path in tmp_path.glob("x*")) == [
        "x.entropy.nii.gz",
        "x.json",
        "x.measurements.csv",
        "x.measurements.csv.sha256",
    ]
    predict_store(half_run, half_store, [name], tmp_path / "store", formats=["nifti", "entropy"])
    one, other = (nib.load(tmp_path / path) for path in ("x.entropy.nii.gz", f"store/{name}.entropy.nii.gz"))
    assert (one.get_fdata() == other.get_fdata()).all()


def test_no_map_of_an_organ_by_organ_choice(half_run: Path, scans: Path, tmp_path: Path) -> None:
    fused = fused_folder(tmp_path / "fused", {"a": half_run}, {})
    with pytest.raises(BadInputError, match="no one probability of each class; --format entropy needs one model"):
        predict(fused, scans, tmp_path / "out", formats=["nifti", "entropy"])
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_what_was_written_is_called_by_its_name(half_run: Path, tmp_path: Path, make_case: MakeCase) -> None:
    nib.save(nib.Nifti1Image(make_case(3)[0], np.diag([2.0, 2.1, 2.4, 1])), tmp_path / "a.nii.gz")
    of = {"entropy": "1 map of entropy in", "nifti,entropy": "1 label map in"}
    for formats, said in of.items():
        out = tmp_path / formats
        assert f"{said} {out}" in run("predict", half_run, tmp_path / "a.nii.gz", out, "--format", formats).stderr
