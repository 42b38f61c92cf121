"""From a scan to a label map on its own grid, by `model.onnx` and what `model.json` says of it."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.export.portable.portable_cleanup import cleaned
from viscera.export.portable.portable_grid import AxisOrder, GridChange, coarsened, restored
from viscera.export.portable.portable_nifti import Refused, read_nifti, refuse, write_labels
from viscera.export.portable.portable_windows import probability_planes

Array = npt.NDArray[Any]
_FORMAT, _VERSION = "viscera-onnx", 1


class Segmenter:
    """An exported model: `segmenter(hu, affine)`."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        """From the folder that `viscera export` wrote; raises Refused where it is not whole, or of another version.

        `threads` 0: as many as ONNX Runtime takes.
        """
        import onnxruntime  # noqa: PLC0415 - slow to load

        contract, network = folder / "model.json", folder / "model.onnx"
        try:
            self.contract = json.loads(contract.read_text(encoding="utf-8"))
            digest = hashlib.sha256(network.read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            refuse(folder, f"no exported model, or a damaged one ({error}). Give the folder that holds model.onnx.")
        if (self.contract.get("format"), self.contract.get("format_version")) != (_FORMAT, _VERSION):
            refuse(contract, f"{_FORMAT} of version {_VERSION} was expected. Take the segment.py that came with it.")
        if digest != self.contract["network"]["sha256"]:
            refuse(network, "its checksum is not the one in model.json. Export the model again.")
        onnxruntime.disable_telemetry_events()  # which its builds for Windows would send
        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False  # memory that a window took is given back
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])

    def __call__(self, hu: Array, affine: Array) -> Array:
        """A scan (I, J, K) of HU and its voxel index to RAS+ in mm (4, 4): uint8 labels in the same voxel order.

        Raises Refused for other shapes.
        """
        hu, affine = np.asarray(hu), np.asarray(affine, dtype=np.float64)
        if hu.ndim != 3 or affine.shape != (4, 4):
            raise Refused(f"hu of shape {hu.shape}, affine of {affine.shape}: (I, J, K) and (4, 4) were expected.")
        said, order = self.contract, AxisOrder.of(affine)
        canonical = order.apply(hu)
        spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[list(order.axes)]
        change = GridChange.of(canonical.shape, spacing_mm, said["resampling"])
        planes = probability_planes(coarsened(canonical, change), self._probabilities, said["sliding_window"])
        labels = restored(map(_finite, planes), change, said["restore"])
        return order.undo(cleaned(labels, **said["cleanup"]))

    def _probabilities(self, window: Array) -> Array:
        """(L, I, J, K) float32 of HU (I, J, K) int16."""
        said = self.contract["intensity"]
        width = np.float32(said["high_hu"] - said["low_hu"])
        unit = ((window.astype(np.float32) - np.float32(said["low_hu"])) / width).clip(0, 1)
        x = (unit - np.float32(said["subtract"])) * np.float32(said["multiply"])
        names = self.contract["network"]
        logits = self._session.run([names["output"]], {names["input"]: x[None, None]})[0][0]
        shifted = np.exp(logits - logits.max(axis=0))
        shifted /= shifted.sum(axis=0)
        return np.asarray(shifted)


def _finite(plane: Array) -> Array:
    if not np.isfinite(plane.sum()):
        raise Refused("The network's output is not finite: its weights are damaged.")
    return plane


def main(arguments: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Segment a CT scan with the exported model beside this file.")
    parser.add_argument("scan", type=Path, metavar="SCAN", help="NIfTI-1: .nii or .nii.gz")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="label map to write: .nii or .nii.gz")
    parser.add_argument("--model", type=Path, default=folder, help="folder of model.onnx and model.json")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as ONNX Runtime takes")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    given = parser.parse_args(arguments)
    try:
        if not given.output.name.lower().endswith((".nii", ".nii.gz")):
            refuse(given.output, "a name that ends in .nii or .nii.gz was expected.")
        if given.output.exists() and not given.overwrite:
            refuse(given.output, "exists. Give another name, or --overwrite.")
        scan = read_nifti(given.scan)
        segmenter = Segmenter(given.model, given.threads)
        labels = segmenter(scan.hu, scan.affine)
        write_labels(given.output, labels, scan.header)
    except Refused as error:
        sys.stderr.write(f"segment.py: {error}\n")
        return 3
    return 0
