"""A MONAI bundle: TorchScript and a configuration without expressions, which MONAI's own runner executes.

Its transforms are MONAI's. Where they cannot do what `viscera predict` does, the nearest stands in their place, and
the bundle's page says so (docs/decisions/0043-export.md).
"""

import json
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import viscera
from viscera.core.settings import along_axes
from viscera.engine.sliding_window import SHARED
from viscera.engine.trained_model import TOLERATED_RATIO
from viscera.export.exported_model import INTENDED_USE, ExportedModel, example_of, readme_of
from viscera.imaging.cleanup import organs_named
from viscera.io.files import write_bytes, write_text
from viscera.io.records import read_json, write_json

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"  # its
)
_MONAI, _IGNITE, _PANDAS = "1.5.0", "0.5.0", "2.2.0"  # from which on it is known to run
_LARGER = 2  # times the edge of a window of training, of networks whose answer does not depend on the window
_ROUNDING = 1e-6  # so that a third of 99 voxels is 33 of them
Transform = dict[str, Any]


def write_monai_bundle(model: ExportedModel, folder: Path) -> None:
    """Write configs/, models/model.ts, docs/README.md and LICENSE."""
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    write_torchscript(model, folder / "models" / "model.ts")
    write_json(folder / "configs" / "inference.json", inference_of(model))
    write_json(folder / "configs" / "metadata.json", metadata_of(model))
    licence = read_json(folder / "card.json")["model_details"]["licence"] or "not stated; ask who trained them"
    write_text(folder / "LICENSE", f"{_LICENCE}{licence}.\n")
    differing = "\n".join(f"- {each}" for each in differences_of(model))
    write_text(folder / "docs" / "README.md", readme_of(model, "monai_bundle").replace("{differing}", differing))


def write_torchscript(model: ExportedModel, path: Path) -> None:
    """The network of any size, whose output are probabilities: MONAI's inferer blends what windows say as it is."""
    network = nn.Sequential(model.network, nn.Softmax(dim=1)).eval()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing; results are compared by tests
        traced = torch.jit.trace(network, example_of(model.network), check_trace=False)  # type: ignore[no-untyped-call]
        write_bytes(path, traced.save_to_buffer())


def inference_of(model: ExportedModel) -> dict[str, Any]:
    """`inference.json`, from the scans on: all by names of MONAI's and plain values."""
    scans = {"_target_": "glob.glob", "pathname": "@scans"}
    table = {"_target_": "pandas.DataFrame", "data": {"image": scans}}
    datalist = {"_target_": "pandas.DataFrame.to_dict", "self": table, "orient": "records"}
    return {
        "bundle_root": ".",
        "dataset_dir": "data",
        "scans": "data/*.nii.gz",
        "output_dir": "eval",
        "device": {"_target_": "torch.device", "type": "cpu"},
        "network_def": {"_target_": "torch.jit.load", "f": "models/model.ts", "map_location": "@device"},
        "preprocessing": {"_target_": "Compose", "transforms": list(_preprocessing(model))},
        "dataset": {"_target_": "Dataset", "data": datalist, "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0,
        },
        "inferer": _inferer(model),
        "postprocessing": {"_target_": "Compose", "transforms": list(_postprocessing(model))},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "run": [{"_target_": "monai.engines.SupervisedEvaluator.run", "self": "@evaluator"}],
    }  # fmt: skip


def _spacing_mm(model: ExportedModel) -> list[float] | None:
    """To which scans are resampled; None where they are made coarser by a factor."""
    if model.model.config.grid == "spacing":
        median: list[float] = np.median(model.model.checkpoint.training_spacings_mm, axis=0).tolist()
        return median
    spacing_mm = model.model.trained_with.prepare.spacing_mm
    return None if spacing_mm is None else list(along_axes(spacing_mm))


def _preprocessing(model: ExportedModel) -> Iterator[Transform]:
    yield {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}
    yield {"_target_": "CopyItemsd", "keys": "image", "names": "original"}
    yield {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
    spacing_mm, factors = _spacing_mm(model), along_axes(model.model.trained_with.prepare.downsample)
    if spacing_mm is not None:
        yield {
            "_target_": "Spacingd", "keys": "image", "pixdim": spacing_mm, "mode": "bilinear", "padding_mode": "border",
            "scale_extent": True,
        }  # fmt: skip
    elif factors != (1, 1, 1):
        yield {
            "_target_": "DivisiblePadd", "keys": "image", "k": list(map(int, factors)), "method": "end", "mode": "edge",
        }  # fmt: skip
        zoom = [1 / factor + _ROUNDING * (factor > 1) for factor in factors]
        yield {"_target_": "Zoomd", "keys": "image", "zoom": zoom, "mode": "area", "keep_size": False}
    if spacing_mm is None and model.model.config.grid == "auto":
        spacings = np.array(model.model.checkpoint.training_spacings_mm)
        yield {
            "_target_": "Spacingd", "keys": "image", "pixdim": np.median(spacings, axis=0).tolist(),
            "min_pixdim": (spacings.min(axis=0) / TOLERATED_RATIO).tolist(),
            "max_pixdim": (spacings.max(axis=0) * TOLERATED_RATIO).tolist(),
            "mode": "bilinear", "padding_mode": "border", "scale_extent": True,
        }  # fmt: skip
    low, high = _input_range(model)
    intensity = model.model.trained_with.train.intensity
    yield {
        "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": intensity.low_hu, "a_max": intensity.high_hu,
        "b_min": low, "b_max": high, "clip": True,
    }  # fmt: skip


def _input_range(model: ExportedModel) -> tuple[float, float]:
    """What the network is given for the least and for the most HU."""
    intensity = model.model.trained_with.train.intensity
    if intensity.scaling == "unit" or intensity.mean_hu is None or intensity.sd_hu is None:
        return 0.0, 1.0
    low, high = ((hu - intensity.mean_hu) / intensity.sd_hu for hu in (intensity.low_hu, intensity.high_hu))
    return low, high


def _takes_large_windows(model: ExportedModel) -> bool:
    return model.model.config.mode == "auto" and model.model.trained_with.train.network.normalises_batches


def _inferer(model: ExportedModel) -> Transform:
    config, patch = model.model.config, model.model.trained_with.train.patch
    if config.mode == "whole_volume":
        return {"_target_": "SimpleInferer"}
    is_large = _takes_large_windows(model)
    return {
        "_target_": "SlidingWindowInferer",
        "roi_size": [_LARGER * patch if is_large else patch] * 3,
        "sw_batch_size": 1 if is_large else config.batch_windows,
        "overlap": 1 / (SHARED * _LARGER) if is_large else config.overlap,
        "mode": config.blend,
        "sigma_scale": 0.125,
        "padding_mode": "constant",
        "cval": _input_range(model)[0],
    }


def _postprocessing(model: ExportedModel) -> Iterator[Transform]:
    is_blocks = model.model.config.restore == "labels"
    mode = "nearest" if is_blocks else "bilinear"
    as_labels = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    to_scan = {
        "_target_": "ResampleToMatchd", "keys": "pred", "key_dst": "original", "mode": mode, "padding_mode": "border",
    }  # fmt: skip
    yield from (as_labels, to_scan) if is_blocks else (to_scan, as_labels)
    classes, cleanup = model.predictor.classes, model.predictor.config.cleanup
    for label in organs_named(cleanup.largest_component, classes, "largest_component"):
        yield {
            "_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": label, "connectivity": 3,
        }  # fmt: skip
    for label in organs_named(cleanup.fill_holes, classes, "fill_holes"):
        yield {"_target_": "FillHolesd", "keys": "pred", "applied_labels": label, "connectivity": 1}
    yield {
        "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg",
        "output_dtype": "uint8", "resample": False, "separate_folder": False,
    }  # fmt: skip


def differences_of(model: ExportedModel) -> Iterator[str]:
    """Where this bundle does not do what `viscera predict` does with the same model, but what is nearest to it."""
    config, train = model.model.config, model.model.trained_with.train
    if config.mode != "whole_volume":
        size = f"twice the edge of those of training ({_LARGER * train.patch} voxels)"
        of_auto = f", {size}; `viscera predict` takes as few and large ones as memory allows"
        yield f"patches at fixed steps{of_auto if _takes_large_windows(model) else '; there they are spread evenly'}"
        if not train.network.normalises_batches:
            how = f"{train.network.normalisation} normalisation"
            yield (
                f"the network normalises each patch by itself ({how}), so that labels depend on where patches lie; "
                "exported with `--set predict.overlap=0.75` they depend less on it"
            )
    if config.mirror_axes:
        yield f"no means over mirror images ({', '.join(config.mirror_axes)})"
    if _spacing_mm(model) is not None:
        yield "where voxels get larger, there and back, they are interpolated linearly, and no means of what they cover"
    elif config.grid == "auto":
        yield "scans much finer or coarser than those of training are resampled to these after the factor, axis by axis"
    if along_axes(model.model.trained_with.prepare.downsample) != (1, 1, 1):
        yield "the last voxels of an axis that the factor does not divide are means with the edge repeated"
    yield "probabilities of the whole scan are held in memory at its own grid: 4 bytes per voxel and class"
    yield "no measurements, and no reasons not to trust an organ"


def metadata_of(model: ExportedModel) -> dict[str, Any]:
    """`metadata.json`, with names of the labels where MONAI's programs look for them."""
    names = {str(each.label): each.title for each in model.predictor.classes.classes}
    low, high = _input_range(model)
    size = {"spatial_shape": ["*", "*", "*"], "dtype": "float32", "is_patch_data": True}
    image = {
        "type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1, **size,
        "value_range": [low, high], "channel_def": {"0": "image"},
    }  # fmt: skip
    pred = {
        "type": "probabilities", "format": "segmentation", "num_channels": len(names), **size,
        "value_range": [0.0, 1.0], "channel_def": names,
    }  # fmt: skip
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by viscera {viscera.__version__}"},
        "monai_version": _MONAI,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {
            "pytorch-ignite": _IGNITE,
            "fire": "0.7.0",
            "nibabel": metadata.version("nibabel"),
            "pandas": _PANDAS,
            "scikit-image": metadata.version("scikit-image"),
        },
        "supported_apps": {},
        "name": model.name,
        "task": "Segmentation of organs in abdominal CT",
        "description": "A 3D U-Net, trained with viscera; see docs/README.md and card.md.",
        "authors": "not stated",
        "copyright": "not stated; see LICENSE",
        "data_type": "NIfTI",
        "image_classes": "CT in Hounsfield units, one channel",
        "label_classes": json.dumps(names),
        "pred_classes": f"{len(names)} channels: {', '.join(names.values())}",
        "intended_use": INTENDED_USE,
        "references": [],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


_LICENCE = """The configuration files of this bundle are under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

The weights (models/model.ts) are under: """
