"""ONNX: the network, a contract of everything around it, and a runner that needs NumPy and ONNX Runtime alone."""

import ast
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import viscera
from viscera.core.scan import AIR_HU
from viscera.core.settings import AXES, along_axes
from viscera.engine import sliding_window
from viscera.engine.trained_model import TOLERATED_RATIO
from viscera.export.exported_model import INTENDED_USE, ExportedModel, example_of, needed, readme_of
from viscera.imaging.cleanup import organs_named
from viscera.io.files import sha256, write_text
from viscera.io.records import write_json

FORMAT, FORMAT_VERSION = "viscera-onnx", 1
_OPSET = 17
_INPUT, _OUTPUT = "image", "logits"
_PARTS = ("portable_nifti", "portable_grid", "portable_windows", "portable_cleanup", "portable_segment")  # in order
_RUNNER_HEAD = f'''"""Segment CT scans with the model beside this file, which viscera {viscera.__version__} exported.

    python segment.py scan.nii.gz labels.nii.gz

It needs NumPy and ONNX Runtime, and nothing of viscera. `model.json` says what is done around the network.
{INTENDED_USE}
"""

# SPDX-License-Identifier: Apache-2.0
# Copyright the viscera authors
'''


def write_onnx(model: ExportedModel, folder: Path) -> None:
    """Write model.onnx, model.json, segment.py and README.md into a folder; raises BadInputError without onnx."""
    needed("onnx", "onnx")
    write_network(model, folder / "model.onnx")
    write_text(folder / "segment.py", runner_text())
    write_json(folder / "model.json", contract_of(model, sha256(folder / "model.onnx")))
    write_text(folder / "README.md", readme_of(model, "onnx"))


def write_network(model: ExportedModel, path: Path) -> None:
    """The network with free batch and spatial axes, batch normalisation folded into the convolutions."""
    axes = {0: "batch", 2: "i", 3: "j", 4: "k"}
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing; results are compared by tests
        torch.onnx.export(
            model.network,
            (example_of(model.network),),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_axes={_INPUT: axes, _OUTPUT: axes},
        )


def contract_of(model: ExportedModel, network_sha256: str) -> dict[str, Any]:
    """Everything around the network, as `viscera predict` does it: docs/howto/export.md explains the fields."""
    one, classes = model.model, model.predictor.classes
    train = one.trained_with.train
    intensity, width = train.intensity, train.intensity.high_hu - train.intensity.low_hu
    subtract, multiply = 0.0, 1.0
    if intensity.scaling == "z_score" and intensity.mean_hu is not None and intensity.sd_hu is not None:
        subtract, multiply = (intensity.mean_hu - intensity.low_hu) / width, width / intensity.sd_hu
    is_large = one.config.mode == "auto" and train.network.normalises_batches
    mending = one.config.cleanup
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "viscera": viscera.__version__,
        "intended_use": INTENDED_USE,
        "made_from": {
            "run_sha256": model.predictor.checksum,
            "step": model.predictor.provenance["step"],
            "runs": {name: dict(each) for name, each in model.predictor.members.items()},
            "precision_of_training": model.trained_precision,
        },
        "network": {
            "file": "model.onnx",
            "sha256": network_sha256,
            "opset": _OPSET,
            "input": _INPUT,
            "output": _OUTPUT,
            "axes": "batch, channel, right, front, up",
        },
        "classes": [
            {"label": each.label, "name": each.name, "title": each.title, "rgb": list(each.rgb), "snomed": each.snomed}
            for each in classes.classes
        ],
        "orientation": "RAS",
        "resampling": _resampling(model),
        "intensity": {
            "low_hu": intensity.low_hu,
            "high_hu": intensity.high_hu,
            "subtract": subtract,
            "multiply": multiply,
        },
        "sliding_window": {
            "mode": "large" if is_large else "sub_volumes" if one.config.mode != "whole_volume" else "whole_volume",
            "patch": train.patch,
            "overlap": one.config.overlap,
            "blend": one.config.blend,
            "mirror_axes": [AXES.index(name) for name in one.config.mirror_axes],
            "multiples": list(train.network.scale_of(train.levels - 1, train.levels)),
            "air_hu": AIR_HU,
            "large": _large_windows(model) if is_large else None,
        },
        "restore": one.config.restore,
        "cleanup": {
            "largest_component": organs_named(mending.largest_component, classes, "largest_component"),
            "fill_holes": organs_named(mending.fill_holes, classes, "fill_holes"),
        },
        "temperature": one.temperature,
        "not_included": ["measurements.csv and its reasons not to trust an organ", "maps of probabilities and entropy"],
    }


def _resampling(model: ExportedModel) -> dict[str, Any]:
    """From the scan's voxels to the network's."""
    prepare = model.model.trained_with.prepare
    spacings = np.array(model.model.checkpoint.training_spacings_mm)
    return {
        "downsample": list(along_axes(prepare.downsample)),
        "spacing_mm": None if prepare.spacing_mm is None else list(along_axes(prepare.spacing_mm)),
        "grid": model.model.config.grid,
        "training_spacing_mm": {
            "least": spacings.min(axis=0).tolist(),
            "median": np.median(spacings, axis=0).tolist(),
            "most": spacings.max(axis=0).tolist(),
        },
        "tolerated_ratio": TOLERATED_RATIO,
    }


def _large_windows(model: ExportedModel) -> dict[str, Any]:
    """By what few large windows are chosen, in place of many of the training's size."""
    train = model.model.trained_with.train
    return {
        "above_hu": train.intensity.low_hu,
        "shared": train.patch // sliding_window.SHARED,
        "bytes_per_voxel": model.bytes_per_voxel,
        "most_bytes": sliding_window.MOST_BYTES,
    }


def runner_text() -> str:
    """`segment.py`: the parts one after another, their imports once at the top."""
    modules, names, bodies = set[str](), dict[str, set[str]](), list[str]()
    for part in _PARTS:
        source = (Path(__file__).parent / "portable" / f"{part}.py").read_text(encoding="utf-8")
        tree, lines = ast.parse(source), source.splitlines()
        docstring, *rest = tree.body
        imports = [node for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            if isinstance(node, ast.Import):
                modules.update(ast.unparse(node).removeprefix("import ").split(", "))
            elif not (node.module or "").startswith("viscera."):
                names.setdefault(node.module or "", set()).update(each.name for each in node.names)
        first = (imports[-1] if imports else docstring).end_lineno or 0
        about = " ".join((ast.get_docstring(tree) or "").split())
        bodies.append(f"# ---- {about}\n" + "\n".join(lines[first:]).rstrip() + "\n")
    head = [f"import {each}" for each in sorted(modules)]
    head += [f"from {module} import {', '.join(sorted(each))}" for module, each in sorted(names.items())]
    start = 'if __name__ == "__main__":\n    sys.exit(main(folder=Path(__file__).parent))\n'
    return "\n\n".join([_RUNNER_HEAD, "\n".join(head) + "\n", *bodies, start])
