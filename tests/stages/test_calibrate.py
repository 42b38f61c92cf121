"""A run gets the temperature of its validation cases, written beside its weights; or a sentence says why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.fused_folder import fused_folder
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.predictor import Predictor
from viscera.engine.temperature import read_calibrations
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.calibrate import calibrate, calibration_text
from viscera.stages.prepare import prepare
from viscera.stages.train import train


def test_a_run_is_calibrated_on_its_validation_cases(tiny_run: Path, tiny_store: Store, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = {path.name: sha256(path) for path in run.iterdir() if path.is_file() and path.stem != "card"}
    told: list[tuple[int, int]] = []
    found = calibrate(run, tiny_store.path, device="cpu", progress=lambda at: told.append((at.done, at.total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert found.cases == 1
    written = "".join((run / name).read_text() for name in ("calibration.json", "training_data.json", "card.json"))
    said = [*tiny_store.names(), str(tiny_store.path)]  # which the run takes nowhere
    assert [each for each in said if each in written] == []
    assert found.voxels == found.fitted_on == 14 * 12 * 10
    assert found.nll_after < found.nll_before
    assert found.sha256 == sha256(run / "last.pt")
    assert {path.name: sha256(path) for path in run.iterdir() if path.name in before} == before
    assert f"temperature {found.temperature:.3g}" in (run / "card.md").read_text()
    assert read_calibrations(RunFolder(run)) == {"last": found}
    assert Predictor.load(run).provenance["temperature"] == found.temperature
    text = calibration_text(found)
    assert f"temperature {found.temperature:.3f}, fitted on 1,680 of 1,680 voxels of 1 validation case" in text
    shutil.copy(run / "last.pt", run / "best.pt")  # another checkpoint has its own
    config = Predictor.load(run).config.model_copy(update={"checkpoint": "best"})
    calibrate(run, tiny_store.path, config, device="cpu")
    assert set(json.loads((run / "calibration.json").read_text())) == {"last", "best", "checksum"}
    (run / "calibration.json").write_text('{"last": {"temperature": -1}}')
    with pytest.raises(BadInputError, match=r"calibration\.json: damaged"):
        Predictor.load(run)


def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(
    tiny_run: Path, tiny_store: Store, tiny_raw: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    other = prepare(tiny_raw, tmp_path / "other", PrepareConfig(downsample=1, test_fraction=0.4, seed=5))
    none = Path(shutil.copytree(tiny_run, tmp_path / "none"))
    with pytest.raises(BadInputError, match="its training cases are not those of"):
        calibrate(none, other.path)
    train(other.path, tmp_path / "unvalidated", tiny_config(iterations=1))
    with pytest.raises(BadInputError, match=r"no validation cases \(the store has none\).*--validation-fraction 0.1"):
        calibrate(tmp_path / "unvalidated", other.path)
    with pytest.raises(BadInputError, match=r"a folder of 2 runs\. Calibrate each"):
        calibrate(tmp_path, tiny_store.path)
    with pytest.raises(BadInputError, match="several models as one"):
        calibrate(fused_folder(tmp_path / "f" / "fused", {"a": tiny_run}, {}), tiny_store.path)
    with pytest.raises(BadInputError, match="there is no such run"):
        calibrate(tmp_path / "absent", tiny_store.path)
    with pytest.raises(BadInputError, match="this is a store, and a run was expected; the run comes first"):
        calibrate(other.path, tiny_run)
    with exclusive(none), pytest.raises(BadInputError, match="another process is working on it"):
        calibrate(none, tiny_store.path)
    swapped = Store.open(Path(shutil.copytree(tiny_store.path, tmp_path / "swapped")))
    name = swapped.names("train")[0]
    np.save(swapped.path / "cases" / name / "image.npy", swapped.image(name) + 1)  # other HU, the same labels
    ours = {"image.npy": sha256(swapped.path / "cases" / name / "image.npy")}
    manifest = json.loads((swapped.path / "manifest.json").read_text())
    manifest["cases"][name]["sha256"] |= ours
    (swapped.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInputError, match="its training cases are not those of"):
        calibrate(none, swapped.path)
    assert not list(tmp_path.rglob("calibration.json"))
