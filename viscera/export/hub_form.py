"""safetensors: weights, configuration and card as Hugging Face's hub has them; `Predictor.load` takes the folder."""

import shutil
from pathlib import Path

import viscera
from viscera.engine.temperature import read_calibrations, write_calibration
from viscera.export.exported_model import ExportedModel, readme_of
from viscera.io.checkpoint import load_with_checksum
from viscera.io.files import sha256, write_text
from viscera.io.hub_folder import write_hub_folder
from viscera.io.runlog import RunFolder, runs_in
from viscera.io.started_from import trained_on


def write_safetensors(model: ExportedModel, folder: Path) -> None:
    """Write config.json, model.safetensors and README.md, which is the card; of several runs a folder each.

    The card is there already. What predictions are held against, and the temperature, go with the weights.
    """
    for run in runs_in(model.run):
        (folder / run.name).mkdir()
        _write(model, run, folder / run.name)
    if not runs_in(model.run):
        _write(model, model.run, folder)
    card = folder / "card.md"
    write_text(folder / "README.md", card.read_text(encoding="utf-8") + "\n" + readme_of(model, "safetensors"))
    card.unlink()


def _write(model: ExportedModel, run: Path, folder: Path) -> None:
    source = RunFolder(run)
    checkpoint, digest = load_with_checksum(source.last)
    config = model.given or checkpoint.config.predict
    if config.checkpoint == "best":
        checkpoint, digest = load_with_checksum(source.best)
    about = {"viscera": viscera.__version__, "made_from_sha256": digest, "trained_on": trained_on(source)}
    write_hub_folder(folder, checkpoint, config, about)
    if source.training_ranges.exists():
        shutil.copyfile(source.training_ranges, RunFolder(folder).training_ranges)
    calibration = read_calibrations(source).get(config.checkpoint)
    if calibration is not None and calibration.sha256 == digest:
        ours = calibration.model_copy(update={"sha256": sha256(RunFolder(folder).exported)})
        write_calibration(RunFolder(folder), config.checkpoint, ours)
