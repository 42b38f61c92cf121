"""Weights as Hugging Face's hub keeps them: `model.safetensors` with `config.json`; the one door to safetensors.

The two say all that a checkpoint says, but for the optimiser's state. Of averaged weights they have those that are
predicted with.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from viscera.core.anatomy import ClassTable
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, first_line
from viscera.core.resolve import as_recorded, resolve_config
from viscera.io.checkpoint import Checkpoint
from viscera.io.files import sha256, write_bytes
from viscera.io.format_versions import refuse_newer
from viscera.io.records import read_json, write_record

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_MODEL_TYPE, _FORMAT_VERSION = "viscera-unet3d", 1
_RESTORE = "Export the run again, or restore it."


def safetensors() -> ModuleType:
    """The library; raises BadInputError where it is not installed."""
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        raise BadInputError(
            f"safetensors is not installed ({error}). Install it: pip install 'viscera[export]'."
        ) from error


def write_hub_folder(folder: Path, checkpoint: Checkpoint, predict: PredictConfig, about: Mapping[str, Any]) -> None:
    """Write a checkpoint into a folder that is there, with how it shall predict, and what else there is to say."""
    weights = {name: tensor.detach().contiguous() for name, tensor in checkpoint.applied.items()}
    write_bytes(folder / WEIGHTS, safetensors().save(weights, metadata={"format": "pt"}))
    config = checkpoint.config.model_copy(update={"predict": predict})
    said: dict[str, Any] = {
        "model_type": _MODEL_TYPE,
        "architectures": ["UNet3D"],
        "library_name": "viscera",
        "format_version": _FORMAT_VERSION,
        **about,
        "weights_sha256": sha256(folder / WEIGHTS),
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "best_validation_dice": checkpoint.best_validation_dice,
        "classes": list(checkpoint.classes.names),
        "class_voxel_counts": checkpoint.class_voxel_counts.tolist(),
        "class_weights": checkpoint.class_weights.tolist(),
        "training_spacings_mm": [list(spacing) for spacing in checkpoint.training_spacings_mm],
        "config": config.model_dump(mode="json"),
    }
    write_record(folder / CONFIG, said)


def read_hub_folder(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """A checkpoint of `model.safetensors` at a path and `config.json` beside it; has no optimiser's state.

    Raises BadInputError where one is missing, damaged, does not fit the other, or is of something else.
    """
    config = path.with_name(CONFIG)
    if not path.exists():
        raise BadInputError(f"{path}: there is no such file. {_RESTORE}")
    said = read_json(config)
    if not isinstance(said, dict) or said.get("model_type") != _MODEL_TYPE:
        raise BadInputError(f"{config}: this is not a model of viscera (model_type {_MODEL_TYPE} was expected).")
    refuse_newer(config, said.get("format_version"), _FORMAT_VERSION)
    if said.get("format_version") != _FORMAT_VERSION:
        raise BadInputError(f"{config}: format version {_FORMAT_VERSION} was expected. {_RESTORE}")
    if said.get("weights_sha256") != sha256(path):
        raise BadInputError(f"{path}: its checksum is not the one in {CONFIG}. {_RESTORE}")
    try:
        weights = safetensors().load_file(path, device=str(device))
        return Checkpoint(
            model=weights,
            optimizer={},
            step=int(said["step"]),
            class_voxel_counts=torch.tensor(said["class_voxel_counts"], dtype=torch.int64),
            class_weights=torch.tensor(said["class_weights"], dtype=torch.float64),
            config=resolve_config(file_values=as_recorded(said["config"]), found_in=str(config)),
            classes=ClassTable.of_names(said["classes"]),
            training_spacings_mm=tuple((s[0], s[1], s[2]) for s in said["training_spacings_mm"]),
            best_validation_dice=float(said["best_validation_dice"]),
            seconds=float(said["seconds"]),
        )
    except BadInputError:
        raise
    except Exception as error:  # a file that is damaged raises almost anything
        raise BadInputError(f"{config}: damaged ({first_line(error)}). {_RESTORE}") from error
