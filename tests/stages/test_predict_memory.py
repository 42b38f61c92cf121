"""What a large scan costs in memory, in kind: a few bytes a voxel, and what a slab or a window takes."""

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.label_maps import labels_of
from viscera.core import regions
from viscera.core.config import CleanupConfig, PredictConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import HuArray, Volume
from viscera.engine import trained_model
from viscera.io.nifti import write_nifti
from viscera.io.scans import Scan
from viscera.stages import predict as stage
from viscera.stages.predict import predict

PLANE, SLICES = (80, 80), 100
BYTES_PER_VOXEL = 3.5  # HU 2, label 1; the rest is what is smaller by the factor of downsampling
CLEANED_BYTES_PER_VOXEL = 5  # and one more label map


def scan(path: Path, slices: int) -> Path:
    """Stripes along I of all HU that organs have, thicker than the slices that are looked at together."""
    hu = np.empty((*PLANE, slices), dtype=np.int16, order="F")
    hu[:] = np.linspace(-200, 300, PLANE[0], dtype=np.int16)[:, None, None]
    write_nifti(path, Volume(hu, Geometry.from_spacing(hu.shape, (2, 2, 2.5))))
    return path


def by_level(_: nn.Module, hu: HuArray, *__: object) -> Iterator[Tensor]:
    """What stands in for the network, plane by plane: an organ is certain where HU are nearest to its level."""
    for k in range(hu.shape[2]):
        levels = torch.from_numpy(np.rint((hu[:, :, k] + 200) / 500 * 7).astype(np.int64))
        yield nn.functional.one_hot(levels.clamp(0, 7), 8).movedim(-1, 0).float()


def traced_peak(
    run: Path, source: Path, output: Path, config: PredictConfig | None = None, formats: Sequence[str] = ("nifti",)
) -> int:
    tracemalloc.start()
    try:
        predict(run, source, output, config, formats=formats)
        peak: int = tracemalloc.get_traced_memory()[1]
        return peak
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cleanup", [(), ("all",)])
def test_memory_grows_by_a_few_bytes_a_voxel(
    half_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: tuple[str, ...]
) -> None:
    monkeypatch.setattr(regions, "_SLAB_VOXELS", PLANE[0] * PLANE[1] * 4)
    monkeypatch.setattr(trained_model, "probability_planes", by_level)
    config = PredictConfig(cleanup=CleanupConfig(largest_component=cleanup, fill_holes=cleanup))
    short, long = scan(tmp_path / "short.nii.gz", SLICES), scan(tmp_path / "long.nii.gz", 2 * SLICES)
    predict(half_run, scan(tmp_path / "first.nii.gz", 8), tmp_path / "out", config)  # what is loaded once
    grown = traced_peak(half_run, long, tmp_path / "out", config) - traced_peak(
        half_run, short, tmp_path / "out", config
    )
    assert grown / (SLICES * PLANE[0] * PLANE[1]) <= (CLEANED_BYTES_PER_VOXEL if cleanup else BYTES_PER_VOXEL)


def test_maps_take_place_on_the_disk_and_not_in_memory(
    half_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_model, "probability_planes", by_level)
    names, out = ("nifti", "probabilities", "entropy"), tmp_path / "out"
    short, long = scan(tmp_path / "short.nii.gz", SLICES), scan(tmp_path / "long.nii.gz", 2 * SLICES)
    predict(half_run, scan(tmp_path / "first.nii.gz", 8), out, formats=names)
    peaks = [traced_peak(half_run, source, out, formats=names) for source in (long, short)]
    assert (peaks[0] - peaks[1]) / (SLICES * PLANE[0] * PLANE[1]) <= CLEANED_BYTES_PER_VOXEL  # all classes take 16


def test_a_scan_that_was_let_go_of_is_measured_all_the_same_and_its_warnings_are_heard_once(
    half_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source, read = scans / "case_1_0000.nii.gz", Scan.read
    placeless = tmp_path / "case_1.nii"
    write_nifti(placeless, Scan("case_1", source).read())
    content = bytearray(placeless.read_bytes())
    content[252:256] = bytes(4)  # neither qform nor sform, which is warned of
    placeless.write_bytes(content)
    (plain,) = predict(half_run, placeless, tmp_path / "plain", PredictConfig(grid="prepared"))
    warned, times = len(caplog.records), []

    def counted(scan: Scan, *, again: bool = False) -> Volume:
        times.append(again)
        return read(scan, again=again)

    monkeypatch.setattr(Scan, "read", counted)
    monkeypatch.setattr(stage, "_BESIDE_BYTES", 0)
    caplog.clear()
    (found,) = predict(half_run, placeless, tmp_path / "found", PredictConfig(grid="prepared"))
    assert times == [False, True]
    assert len(caplog.records) == warned > 0
    assert (labels_of(found) == labels_of(plain)).all()
    tables = [(path.parent / "measurements.csv").read_text(encoding="utf-8") for path in (plain, found)]
    assert tables[0] == tables[1]
