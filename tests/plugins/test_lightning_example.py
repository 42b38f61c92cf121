"""The example is run as it stands, and its checkpoint has a network of ours."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import viscera
from viscera.io.store import Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_training.py"


def test_it_trains_on_a_store(tiny_store: Store, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("lightning", reason="lightning is not installed")
    arguments = [tiny_store.path, tmp_path / "out", "--steps", 3, "--patch", 8]
    command = [sys.executable, EXAMPLE, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = torch.load(tmp_path / "out" / "last.ckpt", weights_only=False)
    assert kept["global_step"] == 3
    weights = {
        name.removeprefix("network."): v for name, v in kept["state_dict"].items() if name.startswith("network.")
    }
    viscera.UNet3D(num_classes=8, base_filters=8, levels=3).load_state_dict(weights)
    expected = viscera.class_weights(tiny_store.voxel_counts(), "simple")
    assert kept["hyper_parameters"]["class_weights"] == pytest.approx(expected.tolist())
