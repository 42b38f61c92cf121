"""A fused predictor written by hand: a folder of several models as one, as `viscera study --fuse` makes it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from viscera.core.anatomy import CLASS_NAMES
from viscera.engine.fusion import FusedModel, FusionRecord, OrganChoice
from viscera.engine.trust import TrainingRanges, load_ranges, save_ranges
from viscera.io.checkpoint import load_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder


def fused_folder(folder: Path, runs: Mapping[str, Path], owner: Mapping[str, str]) -> Path:
    """Write one.

    Args:
        folder: new.
        runs: each model's name, and the Run that its last checkpoint comes from.
        owner: organ to the name of its own model; the first model's where it is not said.
    """
    models = {}
    (folder / "models").mkdir(parents=True)
    for name, run in runs.items():
        shutil.copy(run / "last.pt", folder / "models" / f"{name}.pt")
        digest, step = sha256(run / "last.pt"), load_checkpoint(run / "last.pt").step
        models[name] = FusedModel(file=f"models/{name}.pt", sha256=digest, step=step, checkpoint_sha256=digest)
    owners = {organ: owner.get(organ, next(iter(runs))) for organ in CLASS_NAMES[1:]}
    organs = {o: OrganChoice(model=name, arm="a", seed=0, validation_dice=None) for o, name in owners.items()}
    known = {organ: load_ranges(RunFolder(runs[name]).training_ranges) for organ, name in owners.items()}
    save_ranges(RunFolder(folder).training_ranges, TrainingRanges.of_organs(known))
    record = FusionRecord(version="1", chosen_on=("v",), organs=organs, models=models, iterations=1, inputs_sha256="")
    record.write(RunFolder(folder))
    return folder
