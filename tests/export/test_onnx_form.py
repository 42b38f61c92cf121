"""What the runner makes of an exported network and a scan, beside what `viscera predict` makes of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.export_temperature import write_temperature
from tests.network_designs import DESIGNS
from tests.oriented_scans import OBLIQUE, STRAIGHT, affine_of
from tests.random_runs import random_run, random_weights
from viscera.core.geometry import Geometry
from viscera.core.resolve import resolve_config
from viscera.core.scan import HuArray, LabelArray, Volume
from viscera.engine import sliding_window
from viscera.engine.predictor import Predictor
from viscera.export.export_stage import export
from viscera.export.portable.portable_nifti import Refused
from viscera.export.portable.portable_segment import Segmenter
from viscera.io.checkpoint import load_checkpoint, save_checkpoint

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
AFFINE = np.diag([2.0, 2.0, 2.5, 1])
SHAPE = (29, 23, 21)
MOST_DIFFERING = 1e-3  # share of the voxels


@pytest.fixture(scope="module")
def hu() -> HuArray:
    """A body of smooth shapes with noise, in air."""
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = (i**2 + j**2) < 0.7
    waves = 250 * np.sin(5 * i + 2 * j) * np.cos(4 * k) + np.random.default_rng(0).normal(0, 40, SHAPE)
    return np.where(body, waves, -1000).astype(np.int16)


def both(run: Path, tmp_path: Path, hu: HuArray, affine: Any = AFFINE) -> tuple[LabelArray, LabelArray]:
    """Labels by viscera, and by the exported model."""
    expected = Predictor.load(run, device="cpu")(Volume(hu, Geometry(hu.shape, affine))).labels
    segmenter = Segmenter(export(run, tmp_path / "out", ["onnx"]), threads=1)
    return expected, segmenter(hu, affine)


def agree(run: Path, tmp_path: Path, hu: HuArray, affine: Any = AFFINE, classes: int = 2) -> None:
    expected, found = both(run, tmp_path, hu, affine)
    assert found.shape == expected.shape
    assert (found != expected).mean() <= MOST_DIFFERING
    assert len(np.unique(expected)) >= classes  # or it would say little


@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_of_a_network(tiny_run: Path, tmp_path: Path, hu: HuArray, name: str) -> None:
    agree(random_run(tiny_run, tmp_path / "run", {"network": DESIGNS[name]}), tmp_path, hu)


@pytest.mark.parametrize(
    "settings",
    [
        {"predict.mode": "sub_volumes"},
        {"predict.mode": "sub_volumes", "predict.overlap": 0.25, "predict.blend": "constant"},
        {"predict.mode": "whole_volume"},
        {"predict.restore": "labels"},
        {"predict.restore": "labels", "predict.cleanup": {"largest_component": ["all"], "fill_holes": ["liver"]}},
        {"predict.cleanup": {"largest_component": ["liver", "spleen"], "fill_holes": ["all"]}},
        {"predict.mirror_axes": ["R", "S"]},
        {"predict.mode": "sub_volumes", "predict.mirror_axes": ["A"]},
        {"predict.mode": "whole_volume", "predict.mirror_axes": ["R", "A", "S"]},
        {"predict.grid": "prepared"},
        {"predict.grid": "spacing"},
        {"prepare.downsample": 1, "patch": 12},
        {"prepare.downsample": (3, 3, 1)},
        {"prepare.downsample": 3},
        {"prepare.downsample": 1, "prepare.spacing_mm": (3.1, 3.7, 1.2)},
        {"patch": 24},  # larger than the scan that is halved
        {"patch": 24, "predict.mirror_axes": ["R", "S"]},
        {"intensity": {"low_hu": -160, "high_hu": 240}},
        {"intensity": {"scaling": "z_score", "mean_hu": 40.0, "sd_hu": 150.0}},
        {"network": {"normalisation": "instance"}, "predict.mode": "whole_volume"},
        {"initialisation": "keras", "memory_layout": "channels_first"},
    ],
    ids=str,
)
def test_every_setting_of_what_is_around_it(
    tiny_run: Path, tmp_path: Path, hu: HuArray, settings: dict[str, Any]
) -> None:
    spacings = ((4.0, 4.0, 5.0),) if "prepare.spacing_mm" not in settings else ((3.1, 3.7, 1.2),)
    agree(random_run(tiny_run, tmp_path / "run", settings, spacings_mm=spacings), tmp_path, hu)


def test_several_large_windows(tiny_run: Path, tmp_path: Path, hu: HuArray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window, "MOST_BYTES", 4e5)
    run = random_run(tiny_run, tmp_path / "run", {"prepare.downsample": 1})
    agree(run, tmp_path, hu)
    said = json.loads((tmp_path / "out" / "model.json").read_text())["sliding_window"]
    assert said["mode"] == "large"
    assert said["large"]["bytes_per_voxel"] * hu.size > said["large"]["most_bytes"]


def test_a_scan_of_other_voxels_than_those_of_training(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    run = random_run(tiny_run, tmp_path / "run", spacings_mm=((5, 5, 5), (5.5, 6, 5.5), (9, 9, 9)))
    agree(run, tmp_path, hu, np.diag([8.0, 8.0, 7.5, 1]))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("place", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_scans_that_lie_in_any_way(
    tiny_run: Path,
    tmp_path: Path,
    hu: HuArray,
    axes: tuple[int, ...],
    place: Any,
) -> None:
    affine = affine_of(axes, (-1, 1, -1), place, hu.shape, (2.0, 2.1, 2.4))
    agree(random_run(tiny_run, tmp_path / "run"), tmp_path, hu, affine)


def test_nothing_but_air(tiny_run: Path, tmp_path: Path) -> None:
    air = np.full(SHAPE, -1024, np.int16)
    for name, settings in {"plain": {}, "mirrored": {"predict.mirror_axes": ["R"]}}.items():
        agree(random_run(tiny_run, tmp_path / name / "run", settings), tmp_path / name, air, classes=1)


def test_the_mean_of_several_runs_each_with_its_temperature_and_moments(
    tiny_run: Path, tmp_path: Path, hu: HuArray
) -> None:
    for seed, design in enumerate(({}, {"normalisation": "instance"}, {"encoder": "residual", "blocks": (1, 1, 1)})):
        moments = {"scaling": "z_score", "mean_hu": 10.0 * seed, "sd_hu": 100.0 + 50 * seed}
        run = random_run(
            tiny_run, tmp_path / "runs" / f"seed_{seed}", {"network": design, "intensity": moments}, seed=seed
        )
        write_temperature(run, 1 + seed)
    agree(tmp_path / "runs", tmp_path, hu)
    made_from = json.loads((tmp_path / "out" / "model.json").read_text())["made_from"]
    assert list(made_from["runs"]) == ["seed_0", "seed_1", "seed_2"]
    assert made_from["run_sha256"] == Predictor.load(tmp_path / "runs").checksum


def test_a_temperature_is_said_and_changes_no_label(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    run = random_run(tiny_run, tmp_path / "run")
    write_temperature(run, 1.7)
    agree(run, tmp_path, hu)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["temperature"] == 1.7


def test_averaged_weights_are_those_that_are_predicted_with(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    run = random_run(tiny_run, tmp_path / "run")
    checkpoint = load_checkpoint(run / "last.pt")
    average = random_weights(checkpoint.config.train, 8, seed=5)
    alone = both(run, tmp_path / "alone", hu)[1]
    save_checkpoint(run / "last.pt", replace(checkpoint, average=average))
    agree(run, tmp_path, hu)
    assert (both(run, tmp_path / "again", hu)[1] != alone).mean() > 0.1


def test_a_network_trained_in_bfloat16_computes_in_float32(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    run = random_run(tiny_run, tmp_path / "run", {"precision": "bfloat16"})
    as_float32 = random_run(tiny_run, tmp_path / "float32")
    segmenter = Segmenter(export(run, tmp_path / "out", ["onnx"]), threads=1)
    assert segmenter.contract["made_from"]["precision_of_training"] == "bfloat16"
    expected = Predictor.load(as_float32, device="cpu")(Volume(hu, Geometry(hu.shape, AFFINE))).labels
    assert (segmenter(hu, AFFINE) != expected).mean() <= MOST_DIFFERING


def test_the_runner_takes_lists_and_refuses_other_shapes(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    segmenter = Segmenter(export(random_run(tiny_run, tmp_path / "run"), tmp_path / "out", ["onnx"]), threads=1)
    listed: Any = AFFINE.tolist()
    assert np.array_equal(segmenter(hu, listed), segmenter(hu, AFFINE))
    for shapes in ((hu, AFFINE[:3]), (hu[None], AFFINE)):
        with pytest.raises(Refused, match=r"\(I, J, K\) and \(4, 4\) were expected"):
            segmenter(*shapes)


def test_the_network_alone_takes_any_size_and_batch(tiny_run: Path, tmp_path: Path) -> None:
    import onnxruntime  # noqa: PLC0415

    run = random_run(tiny_run, tmp_path / "run", {"network": DESIGNS["residual anisotropic"]})
    session = onnxruntime.InferenceSession(export(run, tmp_path / "out", ["onnx"]) / "model.onnx")
    network = Predictor.load(run, device="cpu", folded=False).models["last"].network
    for shape in ((1, 1, 8, 8, 8), (2, 1, 5, 9, 13), (1, 1, 17, 4, 3)):
        x = torch.rand(shape)
        with torch.no_grad():
            expected = network(x).numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, atol=1e-4, rtol=1e-4)


def test_the_contract_has_the_classes_with_colours_and_codes(tiny_run: Path, tmp_path: Path) -> None:
    said = json.loads((export(tiny_run, tmp_path / "out", ["onnx"]) / "model.json").read_text())
    assert [each["name"] for each in said["classes"][:3]] == ["background", "artery", "portal_vein"]
    assert said["classes"][3] == {
        "label": 3, "name": "liver", "title": "liver", "rgb": [0xCC, 0x79, 0xA7], "snomed": "10200004",
    }  # fmt: skip
    assert said["intended_use"] == "For research; not a medical device."


def test_settings_given_with_the_command_are_those_of_the_export(tiny_run: Path, tmp_path: Path) -> None:
    config = resolve_config(options={"predict.overlap": 0.75, "predict.mode": "sub_volumes"}).predict
    said = json.loads((export(tiny_run, tmp_path / "out", ["onnx"], config) / "model.json").read_text())
    assert (said["sliding_window"]["overlap"], said["sliding_window"]["mode"]) == (0.75, "sub_volumes")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "its checksum is not the one in model.json"),
        (lambda folder: (folder / "model.json").write_text("{"), "no exported model, or a damaged one"),
        (lambda folder: (folder / "model.onnx").unlink(), "no exported model, or a damaged one"),
        (lambda folder: (folder / "model.json").write_text('{"format": "other"}'), "viscera-onnx of version 1 was"),
    ],
)
def test_what_is_damaged_is_refused(
    tiny_run: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = export(tiny_run, tmp_path / "out", ["onnx"])
    spoil(folder)
    with pytest.raises(Refused, match=message):
        Segmenter(folder)


def test_files_are_read_and_written_as_viscera_does(tiny_run: Path, tmp_path: Path, hu: HuArray) -> None:
    from viscera.export.portable.portable_segment import main  # noqa: PLC0415
    from viscera.stages.predict import predict  # noqa: PLC0415

    run = random_run(tiny_run, tmp_path / "run")
    nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "scan.nii.gz")
    predict(run, tmp_path / "scan.nii.gz", tmp_path / "theirs.nii.gz", device="cpu")
    folder = export(run, tmp_path / "out", ["onnx"])
    assert main([str(tmp_path / "scan.nii.gz"), str(tmp_path / "ours.nii.gz")], folder) == 0
    theirs, ours = nib.load(tmp_path / "theirs.nii.gz"), nib.load(tmp_path / "ours.nii.gz")
    assert ours.get_data_dtype() == np.uint8
    assert (np.asarray(theirs.dataobj) != np.asarray(ours.dataobj)).mean() <= MOST_DIFFERING
    np.testing.assert_array_equal(theirs.affine, ours.affine)
