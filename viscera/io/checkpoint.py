"""Checkpoints: the one door to `torch.save` and `torch.load`. Tensors and JSON values only, pickle off.

A file holds the fields of `Checkpoint` by their names, two of them within `config`, and `format_version`; and `sha256`
over all of them. The file itself, a zip archive, has its own checksum as its comment.
"""

import hashlib
import math
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from viscera.core.anatomy import ClassTable
from viscera.core.config import Config
from viscera.core.errors import BadInputError, RunFailedError, VisceraError
from viscera.core.machine_errors import lacking
from viscera.core.resolve import as_recorded, resolve_config
from viscera.io.files import atomic_path, open_file, reading, sha256
from viscera.io.format_versions import refuse_newer
from viscera.io.seals import Seal


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training state that says what it optimised."""

    model: dict[str, Tensor]  # state dict
    optimizer: dict[str, Any]
    step: int  # optimiser steps done
    class_voxel_counts: Tensor  # (L,) int64, R_l of the training set
    class_weights: Tensor  # (L,) float64, as the loss used them
    config: Config  # resolved; in a file with the next two in it
    classes: ClassTable  # what its outputs stand for
    training_spacings_mm: tuple[tuple[float, float, float], ...]  # prepared voxel size of each training scan
    best_validation_dice: float = -1.0  # of `best.pt` so far
    seconds: float = 0.0  # training time so far
    average: dict[str, Tensor] = field(default_factory=dict)  # state dict of averaged weights, where there are any

    def __repr__(self) -> str:
        return f"Checkpoint(step {self.step}, {len(self.classes)} classes, {self.config.train.weighting} weights)"

    @property
    def applied(self) -> dict[str, Tensor]:
        """State dict of the network that is predicted with."""
        return self.average or self.model

    def without_values(self) -> "Checkpoint":
        """What it says of itself, with the shapes of its weights alone: they are on the device `meta`."""
        shapes = ({name: tensor.to("meta") for name, tensor in state.items()} for state in (self.model, self.average))
        model, average = shapes
        return replace(self, model=model, average=average, optimizer={}, class_weights=self.class_weights.clone())


_MOST_LEVELS = 16  # of values in values
_SEAL_SIZE = len("sha256:") + 64
_COMMENT, _NO_COMMENT = _SEAL_SIZE.to_bytes(2, "little"), bytes(2)  # its length, the end of an archive without one
_BLOCK = 2**22  # bytes
_VERSION_KEY, _FORMAT_VERSION = "format_version", 1  # version 0.1 wrote none
_IN_CONFIG = ("classes", "training_spacings_mm")
_AS_THEY_ARE = [each.name for each in fields(Checkpoint) if each.name not in {"config", *_IN_CONFIG, "average"}]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> str:
    """Write a checkpoint, atomically; the SHA-256 of its file.

    Raises BadInputError where the disk is full or the folder not writable.
    """
    config = checkpoint.config.model_dump(mode="json") | {
        "classes": list(checkpoint.classes.names),
        "training_spacings_mm": [list(spacing) for spacing in checkpoint.training_spacings_mm],
    }
    content = {name: getattr(checkpoint, name) for name in _AS_THEY_ARE} | {"config": config}
    content[_VERSION_KEY] = _FORMAT_VERSION
    if checkpoint.average:
        content["average"] = checkpoint.average
    content["sha256"] = _digest(content)
    content = _plain(content)
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:  # of a path PyTorch would write the name into the file
                torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # it is of its zip writer, on top of what went wrong
                raise error.__context__ from None
            raise
        return _add_seal(temporary)


def _plain(value: Any) -> Any:  # noqa: ANN401 - the nested values of a state dict
    """The same with each text once: pickle tells equals from the same, and a run that was resumed has more of those."""
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return sys.intern(value) if type(value) is str else value


def _add_seal(path: Path) -> str:
    """Say the checksum of a file of `torch.save`, which is a zip archive, in the comment at its end; that of it all."""
    with path.open("r+b") as file:
        digest = _digest_of(file, file.seek(0, 2) - len(_NO_COMMENT))
        whole, end = digest.copy(), file.read()
        digest.update(end)
        if end != _NO_COMMENT:
            return digest.hexdigest()  # another way of writing archives: its values have their checksum all the same
        comment = _COMMENT + f"sha256:{digest.hexdigest()}".encode()
        file.seek(-len(_NO_COMMENT), 2)
        file.write(comment)
        whole.update(comment)
        return whole.hexdigest()


def _digest_of(file: BinaryIO, size: int) -> "hashlib._Hash":
    """Of the first bytes of a file, which is read up to there."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest


def file_seal(path: Path) -> Seal:
    """Whether all bytes of a checkpoint's file are as they were written, also those that hold no values."""
    with open_file(path) as file, reading(path):
        size = file.seek(0, 2)
        file.seek(max(size - _SEAL_SIZE - len(_COMMENT), 0))
        length, said = file.read(len(_COMMENT)), file.read()
        if length != _COMMENT and not said.startswith(b"sha256:"):
            return Seal.NONE
        digest = _digest_of(file, size - _SEAL_SIZE - len(_COMMENT))
    digest.update(_NO_COMMENT)
    return Seal.FITS if length == _COMMENT and said == f"sha256:{digest.hexdigest()}".encode() else Seal.BROKEN


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Read and verify a checkpoint, or an exported `model.safetensors`.

    Raises BadInputError where it is missing, damaged, or none of viscera.
    """
    if path.suffix == ".safetensors":
        from viscera.io.hub_folder import read_hub_folder  # noqa: PLC0415 - which makes a `Checkpoint`

        return read_hub_folder(path, device)
    return _read(path, path, device)


def load_with_checksum(path: Path, device: str | torch.device = "cpu") -> tuple[Checkpoint, str]:
    """As `load_checkpoint`, with the SHA-256 of the file: of one state, also while a training replaces it."""
    if path.suffix == ".safetensors" or not path.exists():
        return load_checkpoint(path, device), sha256(path)
    with open_file(path) as file, reading(path):
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return _read(path, file, device), digest


def _read(path: Path, opened: Path | BinaryIO, device: str | torch.device) -> Checkpoint:
    content = _loaded(path, opened)
    if not isinstance(content, dict) or "sha256" not in content or "config" not in content:
        raise BadInputError(f"{path}: this is not a checkpoint of viscera. Give a run made with `viscera train`.")
    refuse_newer(path, content.get(_VERSION_KEY), _FORMAT_VERSION)
    with _refused_if_damaged(path):
        if content.pop("sha256") != _digest(content):
            raise BadInputError(f"{path}: its checksum does not fit its content. Restore it or train again.")
        return _checkpoint_of(content, path, device)


class _OddError(ValueError):
    """What is wrong with values, in words for users."""


def _loaded(path: Path, opened: Path | BinaryIO) -> Any:  # noqa: ANN401 - whatever a file can hold
    """What `torch.load` makes of a file, which is an archive that holds as much as it takes."""
    with _refused_if_damaged(path):
        with zipfile.ZipFile(opened) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if archive.fp is None or unpacked > archive.fp.seek(0, 2):
                raise _OddError(f"its members say that they have {unpacked} bytes")
        if not isinstance(opened, Path):
            opened.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of other pickle protocols: those files are refused
            return torch.load(opened, map_location="cpu", weights_only=True)


@contextmanager
def _refused_if_damaged(path: Path) -> Iterator[None]:
    """A flipped byte makes `torch.load` raise almost anything, and so do values that are not what they should be."""
    try:
        yield
    except VisceraError as error:
        if str(path) in str(error):
            raise
        found = str(error).rstrip(".")  # of what is checked wherever it is made: class names, grids
        raise BadInputError(f"{path}: damaged, or no checkpoint ({found}). Restore it or train again.") from error
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: there is no such checkpoint. Train the run first.") from error
    except Exception as error:
        if too_little := lacking(error):
            raise RunFailedError(f"{path}: {too_little}") from error
        said = error.strerror if isinstance(error, PermissionError) else str(error) if type(error) is _OddError else ""
        why = f" ({said})" if said else ""
        raise BadInputError(f"{path}: damaged, or no checkpoint{why}. Restore it or train again.") from error


def _checkpoint_of(content: Mapping[str, Any], path: Path, device: str | torch.device) -> Checkpoint:
    """Of values that are as they were written, whoever wrote them; raises anything where they are none of ours."""
    config = dict(content["config"])
    names, spacings = (config.pop(key) for key in _IN_CONFIG)
    classes = ClassTable.of_names(names)
    networks = {each: content.get(each, {}) for each in ("model", "average")}
    for name in ("class_voxel_counts", "class_weights"):
        if content[name].shape != (len(classes),):
            raise _OddError(f"{name} of shape {tuple(content[name].shape)} for {len(classes)} classes")
    if not isinstance(content["step"], int) or not isinstance(content["optimizer"], dict):
        raise TypeError("step and optimizer are not what they should be")
    return Checkpoint(
        **{name: content[name] for name in _AS_THEY_ARE}
        | {each: {name: tensor.to(device) for name, tensor in state.items()} for each, state in networks.items()}
        | {name: float(content[name]) for name in ("best_validation_dice", "seconds")},
        config=resolve_config(file_values=as_recorded(config), found_in=str(path)),
        classes=classes,
        training_spacings_mm=tuple(_spacing(each) for each in spacings),
    )


def _spacing(values: Sequence[float]) -> tuple[float, float, float]:
    i, j, k = map(float, values)
    if not all(0 < each < math.inf for each in (i, j, k)):
        raise _OddError("a voxel size of a training scan is none")
    return i, j, k


def _digest(content: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", value: Any, depth: int = 0) -> None:  # noqa: ANN401 - the nested values of a state dict
    if depth > _MOST_LEVELS:
        raise _OddError("values within values without end")
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode(errors="surrogatepass"))
            _feed(digest, value[key], depth + 1)
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}]".encode())
        for item in value:
            _feed(digest, item, depth + 1)
    elif isinstance(value, Tensor):
        _refuse_odd(value)
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().data if plain.numel() else b"")
    else:
        digest.update(repr(value).encode(errors="surrogatepass"))


def _refuse_odd(tensor: Tensor) -> None:
    """Raise ValueError for a tensor that has not its numbers in its memory one by one: sparse, quantised, expanded.

    PyTorch loads those with no more than weights, too, and looks at what they say of themselves when they are used:
    where that is far beyond the file's memory, the process ends.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta":
        raise _OddError("a tensor that is not plain numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _OddError(f"a tensor of shape {tuple(tensor.shape)} in {tensor.untyped_storage().nbytes()} bytes")
