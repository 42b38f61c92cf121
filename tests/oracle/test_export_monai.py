"""An exported bundle, run by MONAI's own runner, beside `viscera predict`."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.random_runs import random_run
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelArray, Volume
from viscera.engine.predictor import Predictor
from viscera.export.export_stage import export

monai_bundle = pytest.importorskip("monai.bundle", reason="the extra `oracle` is not installed")
with warnings.catch_warnings(action="ignore"):  # it loads what PyTorch calls deprecated
    pytest.importorskip("ignite.engine", reason="pytorch-ignite of the extra `oracle` is not installed")
SHAPE = (28, 24, 20)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2.0, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])  # I runs to the left


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Smooth waves in a body in air, saved."""
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    waves = 250 * np.sin(5 * i + 2 * j) * np.cos(4 * k) + np.random.default_rng(0).normal(0, 20, SHAPE)
    hu = np.where((i**2 + j**2) < 0.7, waves, -1000).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def by_monai(bundle: Path, scan: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> LabelArray:
    """Labels that the bundle writes, run in its folder."""
    monkeypatch.chdir(bundle)
    with warnings.catch_warnings(action="ignore"):
        monai_bundle.run(config_file="configs/inference.json", scans=str(scan), output_dir=str(out))
    return labels_in(out)


def labels_in(out: Path) -> LabelArray:
    written = nib.load(out / "scan_seg.nii.gz")
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-4)
    return np.asarray(written.dataobj).astype(np.uint8)


def by_viscera(run: Path, scan: Path) -> LabelArray:
    hu = np.asarray(nib.load(scan).dataobj)
    return Predictor.load(run, device="cpu")(Volume(hu, Geometry(SHAPE, AFFINE))).labels


@pytest.mark.parametrize(
    ("settings", "most_differing"),
    [
        ({"predict.mode": "whole_volume"}, 0.003),
        ({"predict.mode": "whole_volume", "predict.restore": "labels"}, 0.003),
        ({"predict.mode": "whole_volume", "intensity": {"scaling": "z_score", "mean_hu": 40, "sd_hu": 150}}, 0.003),
        ({"predict.mode": "whole_volume", "predict.grid": "prepared", "prepare.downsample": (2, 4, 1)}, 0.003),
        ({"predict.mode": "whole_volume", "prepare.downsample": 3}, 0.05),  # edges that it does not divide
        ({"predict.mode": "whole_volume", "prepare.downsample": 1, "prepare.spacing_mm": (1.6, 1.5, 2)}, 0.1),
        (
            {
                "predict.mode": "whole_volume",
                "predict.cleanup": {"largest_component": ["all"], "fill_holes": ["liver", "spleen"]},
            },
            0.003,
        ),
        ({"predict.mode": "sub_volumes", "predict.overlap": 0.75}, 0.1),  # windows lie elsewhere
        ({}, 0.2),
        ({"network": {"normalisation": "instance"}}, 0.2),
    ],
    ids=str,
)
def test_labels_are_those_of_viscera_but_for_what_the_page_says(
    tiny_run: Path,
    tmp_path: Path,
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    most_differing: float,
) -> None:
    spacings = ((4.0, 4.0, 5.0),) if "prepare.spacing_mm" not in settings else ((1.6, 1.5, 2.0),)
    run = random_run(tiny_run, tmp_path / "run", settings, spacings_mm=spacings)
    bundle = export(run, tmp_path / "bundle", ["monai-bundle"])
    ours, theirs = by_viscera(run, scan), by_monai(bundle, scan, tmp_path / "eval", monkeypatch)
    assert (ours != theirs).mean() <= most_differing
    assert len(np.unique(ours)) > 1


def test_a_scan_of_other_voxels_than_those_of_training_is_resampled(
    tiny_run: Path, tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it half of the voxels differ."""
    spacings = ((8.0, 8.0, 10.0),)
    run = random_run(tiny_run, tmp_path / "run", {"predict.mode": "whole_volume"}, spacings_mm=spacings)
    bundle = export(run, tmp_path / "bundle", ["monai-bundle"])
    ours, theirs = by_viscera(run, scan), by_monai(bundle, scan, tmp_path / "eval", monkeypatch)
    assert (ours != theirs).mean() <= 0.1


def test_the_mean_of_several_runs(tiny_run: Path, tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        random_run(tiny_run, tmp_path / "runs" / f"seed_{seed}", {"predict.mode": "whole_volume"}, seed=seed)
    bundle = export(tmp_path / "runs", tmp_path / "bundle", ["monai-bundle"])
    ours, theirs = by_viscera(tmp_path / "runs", scan), by_monai(bundle, scan, tmp_path / "eval", monkeypatch)
    assert (ours != theirs).mean() <= 0.003


def test_nothing_in_it_is_an_expression(tiny_run: Path, tmp_path: Path) -> None:
    bundle = export(tiny_run, tmp_path / "bundle", ["monai-bundle"])
    for name in ("inference.json", "metadata.json"):
        assert "$" not in (bundle / "configs" / name).read_text()
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    configs = {"configs/inference.json", "configs/metadata.json", "models/model.ts", "docs/README.md", "LICENSE"}
    assert names == configs | {"card.md", "card.json", "export.json"}


def test_labels_have_their_names_where_monai_looks_for_them(tiny_run: Path, tmp_path: Path) -> None:
    bundle = export(tiny_run, tmp_path / "bundle", ["monai-bundle"])
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert said["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == "portal vein"
    assert said["network_data_format"]["inputs"]["image"]["modality"] == "CT"
    assert said["intended_use"] == "For research; not a medical device."


def test_the_page_says_what_differs(tiny_run: Path, tmp_path: Path) -> None:
    run = random_run(tiny_run, tmp_path / "run", {"predict.mirror_axes": ["R"]})
    page = (export(run, tmp_path / "bundle", ["monai-bundle"]) / "docs" / "README.md").read_text()
    assert "no means over mirror images (R)" in page
    assert "patches at fixed steps, twice the edge of those of training (16 voxels)" in page


def test_of_a_network_that_normalises_patches_it_says_what_follows(tiny_run: Path, tmp_path: Path) -> None:
    runs = [
        random_run(tiny_run, tmp_path / kind, {"network": {"normalisation": kind}}) for kind in ("instance", "batch")
    ]
    instance, batch = (
        (export(run, run / "bundle", ["monai-bundle"]) / "docs" / "README.md").read_text() for run in runs
    )
    assert "normalises each patch by itself (instance normalisation), so that labels depend on where" in instance
    assert "--set predict.overlap=0.75" in instance
    assert "normalises each patch" not in batch


@pytest.mark.slow
def test_monais_own_command_runs_it(tiny_run: Path, tmp_path: Path, scan: Path) -> None:
    pytest.importorskip("fire", reason="fire of the extra `oracle` is not installed")
    run = random_run(tiny_run, tmp_path / "run", {"predict.mode": "whole_volume"})
    bundle = export(run, tmp_path / "bundle", ["monai-bundle"])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--meta_file", "configs/metadata.json", "--scans", str(scan), "--output_dir", str(tmp_path / "eval")]
    subprocess.run(command, cwd=bundle, check=True, capture_output=True)
    assert (by_viscera(run, scan) != labels_in(tmp_path / "eval")).mean() <= 0.003
