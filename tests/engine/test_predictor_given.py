"""What programs give to a predictor: other things than runs and scans, and arrays of every memory layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import viscera
from viscera.core.errors import BadInputError, BadTypeError

SHAPE, AFFINE = (9, 8, 7), np.diag([2.0, 2.0, 2.5, 1.0])
HU = np.random.default_rng(0).integers(-200, 300, SHAPE).astype(np.int16)


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> viscera.Predictor:
    return viscera.Predictor.load(tiny_run)


@pytest.mark.parametrize("name", ["last.pt", "config.yaml"])
def test_a_file_of_a_run_is_not_the_run(tiny_run: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=rf"{name}: this is a file\. Give the folder of the run: {tiny_run}\."):
        viscera.Predictor.load(tiny_run / name)


def test_settings_are_a_predict_config(tiny_run: Path) -> None:
    with pytest.raises(
        BadTypeError, match=r"config: dict, and a PredictConfig was expected, as viscera\.PredictConfig"
    ):
        viscera.Predictor.load(tiny_run, {"overlap": 0.5})  # type: ignore[arg-type]
    assert viscera.Predictor.load(tiny_run, viscera.PredictConfig(overlap=0.25)).config.overlap == 0.25


@pytest.mark.parametrize("ask", ["__call__", "segment", "view"])
def test_only_a_volume_is_segmented(predictor: viscera.Predictor, ask: str) -> None:
    with pytest.raises(
        BadTypeError, match=r"the scan: ndarray, and a Volume was expected\..*viscera\.Geometry\.from_sp"
    ):
        getattr(predictor, ask)(HU)


def read_only(hu: Any) -> Any:
    hu = hu.copy()
    hu.setflags(write=False)
    return hu


def spread_out(hu: Any) -> Any:
    wide = np.zeros((2 * hu.shape[0], hu.shape[1], 3 * hu.shape[2]), hu.dtype)
    wide[::2, :, ::3] = hu
    return wide[::2, :, ::3]


@pytest.mark.parametrize(
    "given",
    [
        read_only,
        spread_out,
        np.asfortranarray,
        lambda hu: hu.astype(">i2"),
        lambda hu: hu.astype(np.float64),
        lambda hu: hu.astype(np.int32)[::-1][::-1],
        lambda hu: np.ascontiguousarray(hu[::-1, ::-1])[::-1, ::-1],  # backwards in memory
        lambda hu: np.frombuffer(hu.tobytes(), np.int16).reshape(hu.shape),
    ],
)
def test_a_scan_is_segmented_alike_however_it_lies_in_memory(predictor: viscera.Predictor, given: Any) -> None:
    grid = viscera.Geometry(SHAPE, AFFINE)
    expected = predictor(viscera.Volume(HU, grid)).labels
    assert len(np.unique(expected)) > 1
    assert (predictor(viscera.Volume(given(HU), grid)).labels == expected).all()


@pytest.mark.parametrize("shape", [(9, 8, 1), (1, 1, 1), (1, 8, 7), (9, 1, 7)])
def test_a_single_slice_is_segmented(predictor: viscera.Predictor, shape: tuple[int, int, int]) -> None:
    volume = viscera.Volume(np.zeros(shape, np.int16), viscera.Geometry(shape, AFFINE))
    found = predictor(volume)
    assert found.labels.shape == shape
    assert viscera.score(found, found, metrics=("dice", "hd95_mm", "surface_dice", "volume_ml"))
