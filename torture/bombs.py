"""Small files that ask for very much: terabytes, years, or that something be run. A few kB to MB."""

import bz2
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from warnings import catch_warnings

import numpy as np
import torch
from pydicom.uid import JPEG2000Lossless

from tests.ct_series import ct_series, save
from torture.hostile_seeds import small_stored
from torture.hostile_targets import each
from viscera.core.resolve import resolve_config
from viscera.engine.trained_model import Model
from viscera.io.checkpoint import _digest, load_checkpoint
from viscera.io.classes import read_class_file
from viscera.io.dicom.source_images import SourceImages
from viscera.io.hub_folder import read_hub_folder
from viscera.io.layouts.split_files import read_split
from viscera.io.nifti import label_numbers_in, read_labels, read_volume
from viscera.io.prepared_case import _npy
from viscera.io.records import read_csv, read_json, read_yaml
from viscera.io.runlog import RunFolder
from viscera.io.scans import list_series
from viscera.io.scans import read_volume as read_scan
from viscera.io.scores import read_scores
from viscera.io.store import Store

_MIB = 2**20
_DEEP = 10_000


@dataclass(frozen=True)
class Bomb:
    """One such file."""

    name: str
    make: Callable[[Path], object]  # into an empty folder
    read: Callable[[Path], object]
    cheap: bool = True  # made and read in a moment


# ------------------------------------------------------------------------------------------ NIfTI


def _nifti(shape: tuple[int, ...], code: int = 64, bits: int = 64, version: int = 1) -> bytes:
    """A header of NIfTI-1 or 2 that promises voxels, and none."""
    if version == 2:
        header = bytearray(544)
        struct.pack_into("<i8s2h", header, 0, 540, b"n+2\0\r\n\x1a\n", code, bits)
        struct.pack_into("<8q", header, 16, len(shape), *shape, *[1] * (7 - len(shape)))
        struct.pack_into("<8d", header, 104, 1, 1, 1, 1, 0, 0, 0, 0)
        struct.pack_into("<q", header, 168, 544)
        return bytes(header)
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _read_nifti(folder: Path) -> None:
    (path,) = folder.iterdir()
    each(lambda: read_volume(path), lambda: read_labels(path), lambda: label_numbers_in(path))


def _written(name: str, content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content())


def _members(pack: Callable[[bytes], bytes], times: int, first: bytes = b"") -> bytes:
    """A head, and so many times 8 MiB of zeros, packed as one stream after another."""
    return pack(first) + pack(bytes(8 * _MIB)) * times


# ------------------------------------------------------------------------------------------ DICOM


def _series(**tags: Any) -> Callable[[Path], object]:  # noqa: ANN401 - of any element
    return lambda folder: save(folder, ct_series(small_stored(), **tags))


def _spoilt_series(spoil: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        save(folder, ct_series(small_stored()))
        first = min(folder.iterdir())
        first.write_bytes(spoil(first.read_bytes()))

    return make


def _read_dicom(folder: Path) -> None:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    each(lambda: read_scan(folder), lambda: list_series(folder), lambda: SourceImages.read(paths))
    each(lambda: read_scan(paths[0]))


def _nested_sequences(depth: int) -> bytes:
    """Sequences of undefined length, one in another."""
    return (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth


def _after_meta(content: bytes, inserted: bytes) -> bytes:
    """Put something before the data set."""
    at = content.index(b"\x08\x00\x08\x00CS")
    return content[:at] + inserted + content[at:]


def _deflated(content: bytes) -> bytes:
    """The same file, deflated, with 4 GiB of zeros behind it."""
    explicit, deflated = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    at = content.index(b"\x08\x00\x08\x00CS")
    meta = content[:at].replace(
        struct.pack("<H", len(explicit)) + explicit, struct.pack("<H", len(deflated)) + deflated
    )
    length = int.from_bytes(meta[140:144], "little") + len(deflated) - len(explicit)
    meta = meta[:140] + length.to_bytes(4, "little") + meta[144:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return meta + packer.compress(content[at:]) + packer.flush(zlib.Z_FULL_FLUSH) + _zeros(256)


def _zeros(times: int) -> bytes:
    """So many times 16 MiB of zeros, deflated: whole blocks can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(16 * _MIB)) + packer.flush(zlib.Z_FULL_FLUSH)) * times + b"\x03\x00"


def _jpeg_2000(folder: Path) -> None:
    """An image whose codestream says 60,000 by 60,000."""
    size = struct.pack(">HHIIIIIIIIHBBB", 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 0, 1, 15, 1, 1)[2:]
    stream = b"\xff\x4f\xff\x51" + struct.pack(">HH", 41, 0) + size + b"\xff\xd9"
    datasets = ct_series(small_stored(), Rows=60000, Columns=60000)
    for each_one in datasets:
        each_one.PixelData = stream
    save(folder, datasets, syntax=JPEG2000Lossless)


def _zip(name: str, *members: tuple[str, int]) -> Callable[[Path], object]:
    """An archive of members of so many times 16 MiB of zeros; their checksums are wrong, as who reads it all sees."""

    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            _write_zip(
                file,
                [
                    (member.encode(), _zeros(times) if times else b"\x03\x00", times * 16 * _MIB)
                    for member, times in members
                ],
            )

    return make


def _write_zip(file: BinaryIO, members: Sequence[tuple[bytes, bytes, int]]) -> None:
    """Members by name, deflated content and the size that is said of it, below 4 GiB."""
    central: list[bytes] = []
    for name, packed, size in members:
        sizes = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, 0, len(packed), size)
        central.append(b"PK\x01\x02" + struct.pack("<H", 20) + sizes)
        central.append(struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, file.tell()) + name)
        file.write(b"PK\x03\x04" + sizes + struct.pack("<HH", len(name), 0) + name + packed)
    begins, many, listed = file.tell(), min(len(members), 65535), b"".join(central)
    file.write(listed + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, many, many, len(listed), begins, 0))


def _read_zip(folder: Path) -> None:
    (path,) = folder.iterdir()
    each(lambda: read_scan(path), lambda: list_series(path))


# ------------------------------------------------------------------------------------------ text


def _read_json(folder: Path) -> None:
    path = folder / "a.json"
    each(lambda: read_json(path), lambda: read_split(path, []))


def _read_yaml(folder: Path) -> None:
    values: dict[str, Any] = {}
    each(lambda: values.update(read_yaml(folder / "a.yaml")), lambda: read_class_file(folder / "a.yaml"))
    each(lambda: resolve_config(file_values=values))


def _read_table(folder: Path) -> None:
    each(lambda: read_csv(folder / "a.csv"), lambda: read_scores(folder / "a.csv"))


def _laughs(levels: int = 9, merge: str = "") -> bytes:
    """Each name stands for ten of the one before: ten to the power of the levels in all."""
    lines = ["a0: &a0 {x: 1}" if merge else "a0: &a0 [x]"]
    for n in range(1, levels + 1):
        ten = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} {{<<: [{ten}]}}" if merge else f"a{n}: &a{n} [{ten}]")
    return "\n".join([*lines, f"train: *a{levels}"]).encode()


def _mappings(levels: int = 20) -> bytes:
    """Mappings that hold the one before twice."""
    lines = ["study: &m0 {weights: {}}"]
    lines += [f"m{n}: &m{n} {{train: *m{n - 1}, study: *m{n - 1}}}" for n in range(1, levels)]
    return "\n".join(lines).encode()


def _many_names(number: int = 50_000) -> bytes:
    """An object of very many names, the last of which stands there twice."""
    return b"{" + b",".join(b'"%d":0' % n for n in range(number)) + b',"%d":1}' % (number - 1)


# ------------------------------------------------------------------------------------------ arrays and checkpoints


class _Canary:
    """What writes a file when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder / "canary"),)


def _pickled(folder: Path) -> bytes:
    return pickle.dumps(_Canary(folder))


def _store_with(content: Callable[[Path], bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        grid = {"shape": [2, 2, 2], "affine": np.eye(4).tolist()}
        case: dict[str, Any] = {
            "prepared": grid,
            "original": grid,
            "volume_change": [None] * 8,
            "sources": {},
            "split": "train",
        }
        case |= {"voxel_counts_prepared": [8] * 8, "voxel_counts_original": [8] * 8}
        case |= {"sha256": {"image.npy": "0", "labels.npy": "0"}}
        (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "cases": {"a": case}}))
        (folder / "cases" / "a").mkdir(parents=True)
        (folder / "cases" / "a" / "labels.npy").write_bytes(_npy(np.zeros((2, 2, 2), np.uint8)))
        (folder / "cases" / "a" / "image.npy").write_bytes(content(folder))

    return make


def _read_store(folder: Path) -> None:
    store = Store.open(folder)
    each(lambda: store.image("a"), lambda: store.volume("a"), lambda: repr(store.volume("a")))


def _array(header: str, body: Callable[[Path], bytes] = lambda _: b"") -> Callable[[Path], object]:
    raw = header.encode()
    return _store_with(lambda folder: b"\x93NUMPY\x02\x00" + struct.pack("<I", len(raw)) + raw + body(folder))


def _npz(_: Path) -> bytes:
    content = io.BytesIO()
    np.savez(content, np.zeros(3))
    return content.getvalue()


def _saved(content: Any, *, summed: bool = True, **options: Any) -> Callable[[Path], object]:  # noqa: ANN401
    """A checkpoint of anything, with its checksum."""

    def make(folder: Path) -> None:
        value = content(folder) if callable(content) else content
        if summed and isinstance(value, dict):
            try:
                value["sha256"] = _digest(value)
            except BaseException:  # noqa: BLE001 - of what cannot be summed
                value["sha256"] = "0" * 64
        torch.save(value, folder / "last.pt", **options)

    return make


def _read_checkpoint(folder: Path) -> None:
    path = folder / "last.pt"
    each(lambda: load_checkpoint(path), lambda: Model.load(path, device="cpu"))


def _whole(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - of any field
    config = resolve_config(file_values={"train": {"filters": 2, "levels": 2, "patch": 8, "batch_size": 2}})
    dumped = config.model_dump(mode="json") | {"classes": ["background", "liver"], "training_spacings_mm": [[1, 1, 1]]}
    whole: dict[str, Any] = {"model": {}, "optimizer": {}, "step": 1, "config": dumped, "format_version": 1}
    whole |= {"class_voxel_counts": torch.ones(2, dtype=torch.int64), "class_weights": torch.ones(2).double()}
    return whole | {"best_validation_dice": 0.0, "seconds": 0.0} | changed


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _itself() -> dict[str, Any]:
    value: dict[str, Any] = _whole()
    value["model"]["loop"] = value["model"]
    return value


def _huge_network() -> dict[str, Any]:
    whole = _whole()
    whole["config"]["train"] |= {"filters": 10**6, "levels": 6, "patch": 10**9}
    return whole


def _quantised(folder: Path) -> None:
    """A checkpoint whose tensor says that its numbers are 2^40 bytes apart, far outside of the process."""
    with catch_warnings(action="ignore"):
        _saved(lambda _: _whole(model={"w": torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, torch.qint8)}))(folder)
    with zipfile.ZipFile(folder / "last.pt") as before:
        members = {info.filename: before.read(info) for info in before.infolist()}
    with zipfile.ZipFile(folder / "last.pt", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, _strided(data) if name.endswith("data.pkl") else data)


def _strided(content: bytes) -> bytes:
    """The pickle with another stride: the tuple of 1 that follows the tuple of 4."""
    at = content.index(b"K\x04\x85")
    then = content.index(b"K\x01\x85", at)
    return content[:then] + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85" + content[then + 3 :]


def _squeezed(folder: Path) -> None:
    """A checkpoint whose zeros are packed: 2 GiB in 2 MB."""
    _saved(_whole(model={"w": torch.zeros(8)}))(folder)
    with zipfile.ZipFile(folder / "last.pt") as before:
        members = {info.filename: before.read(info) for info in before.infolist()}
    with (folder / "last.pt").open("wb") as file:
        _write_zip(file, [_member(name, data) for name, data in members.items()])


def _member(name: str, data: bytes) -> tuple[bytes, bytes, int]:
    if "/data/0" in name:
        return name.encode(), _zeros(128), 128 * 16 * _MIB
    return name.encode(), zlib.compress(data, wbits=-15), len(data)


def _hub(weights: Callable[[Path], bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        content = weights(folder)
        (folder / "model.safetensors").write_bytes(content)
        import hashlib  # noqa: PLC0415

        said = {
            "model_type": "viscera-unet3d",
            "format_version": 1,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
        }
        (folder / "config.json").write_text(json.dumps(said))

    return make


def _read_hub(folder: Path) -> None:
    each(lambda: read_hub_folder(folder / "model.safetensors"))


def _curve(folder: Path) -> None:
    (folder / "curve.jsonl").write_bytes(b'{"step": 1}\n' + b"[" * 200_000 + b"\n" + b'{"step": 1e400}\n')


def _read_curve(folder: Path) -> None:
    run = RunFolder(folder)
    each(run.read_curve, lambda: run.keep_curve_until(3))


_JSON, _YAML = "a.json", "a.yaml"
BOMBS: tuple[Bomb, ...] = (
    Bomb("10 TB of NIfTI", _written("a.nii", lambda: _nifti((32767, 32767, 1290))), _read_nifti),
    Bomb(
        "10 TB of NIfTI, packed", _written("a.nii.gz", lambda: gzip.compress(_nifti((32767, 32767, 1290)))), _read_nifti
    ),
    Bomb("NIfTI-2 of 2^120 voxels", _written("a.nii", lambda: _nifti((2**40,) * 3, version=2)), _read_nifti),
    Bomb("NIfTI-2 of negative sizes", _written("a.nii", lambda: _nifti((-4, 2**62, 4), version=2)), _read_nifti),
    Bomb(
        "NIfTI without voxels, 4 GB",
        _written("a.nii.gz", lambda: gzip.compress(_nifti((1290,) * 3, 4, 16))),
        _read_nifti,
    ),
    Bomb(
        "gzip, 4 GiB behind the voxels",
        _written("a.nii.gz", lambda: _members(gzip.compress, 512, _nifti((2, 2, 2), 4, 16) + bytes(16))),
        _read_nifti,
    ),
    Bomb(
        "bzip2, 16 GB of voxels",
        _written("a.nii.bz2", lambda: _members(bz2.compress, 2048, _nifti((2000,) * 3, 4, 16))),
        _read_nifti,
    ),
    Bomb("DICOM of 65535 by 65535", _series(Rows=65535, Columns=65535), _read_dicom),
    Bomb("DICOM of 2^31 frames", _series(NumberOfFrames="2147483647"), _read_dicom),
    Bomb("DICOM of -1 frames", _series(NumberOfFrames="-1"), _read_dicom),
    Bomb("DICOM of 1e300 frames", _series(NumberOfFrames="1e300"), _read_dicom),
    Bomb(
        "DICOM, sequences 5,000 deep",
        _spoilt_series(lambda content: _after_meta(content, _nested_sequences(5000))),
        _read_dicom,
    ),
    Bomb(
        "DICOM, an element of 4 GiB",
        _spoilt_series(lambda content: _after_meta(content, b"\x08\x00\x05\x00UT\0\0\xfe\xff\xff\xff")),
        _read_dicom,
    ),
    Bomb(
        "DICOM deflated, 4 GiB", _spoilt_series(_deflated), lambda folder: each(lambda: read_scan(folder)), cheap=False
    ),
    Bomb("DICOM, JPEG 2000 of 60,000 by 60,000", _jpeg_2000, _read_dicom),
    Bomb("zip, 31 GiB of zeros", _zip("a.zip", *((f"{n}", 64) for n in range(31))), _read_zip, cheap=False),
    Bomb("zip, 3 GiB of zeros", _zip("a.zip", ("a", 192)), _read_zip),
    Bomb("zip, 100,001 files", _zip("a.zip", *((f"{n}", 0) for n in range(100_001))), _read_zip, cheap=False),
    Bomb("zip, folders 10,000 deep", _zip("a.zip", ("a/" * 10_000 + "x", 0)), _read_zip),
    Bomb("zip, a folder that is a file", _zip("a.zip", ("a", 0), ("a/b", 0)), _read_zip),
    Bomb("JSON 10,000 deep", _written(_JSON, lambda: b"[" * _DEEP + b"]" * _DEEP), _read_json),
    Bomb("JSON 200,000 deep", _written(_JSON, lambda: b'{"a":' * 200_000), _read_json),
    Bomb("JSON of 50,000 names, one twice", _written(_JSON, _many_names), _read_json),
    Bomb("JSON, a number of 1,000,000 digits", _written(_JSON, lambda: b"1" * 10**6), _read_json),
    Bomb("YAML 100,000 deep", _written(_YAML, lambda: b"a: " + b"[" * 10**5), _read_yaml),
    Bomb("YAML 100,000 deep, closed", _written(_YAML, lambda: b"a: " + b"[" * 10**5 + b"]" * 10**5), _read_yaml),
    Bomb("YAML 20,000 deep in lines", _written(_YAML, lambda: b"a:\n  " + b"- " * 20_000 + b"x"), _read_yaml),
    Bomb("YAML, billion laughs", _written(_YAML, _laughs), _read_yaml),
    Bomb("YAML, billion merges", _written(_YAML, lambda: _laughs(merge="<<")), _read_yaml),
    Bomb("YAML, a million mappings", _written(_YAML, _mappings), _read_yaml),
    Bomb("YAML that holds itself", _written(_YAML, lambda: b"train: &a {study: *a, train: *a}"), _read_yaml),
    Bomb(
        "YAML, a number of 10,000 digits",
        _written(_YAML, lambda: b"train: {patch: 0x" + b"f" * 10_000 + b"}"),
        _read_yaml,
    ),
    Bomb(
        "YAML that runs something", _written(_YAML, lambda: b"a: !!python/object/apply:os.mkdir [canary]"), _read_yaml
    ),
    Bomb("table of one cell of 4 MB", _written("a.csv", lambda: b'case,"' + b"x" * 4 * _MIB), _read_table),
    Bomb("table of 200,000 columns", _written("a.csv", lambda: b"a," * 200_000 + b"\n" + b"1," * 200_000), _read_table),
    Bomb(
        "array of objects", _array("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", _pickled), _read_store
    ),
    Bomb(
        "array of 2^100 bytes",
        _array(f"{{'descr': '<i2', 'fortran_order': False, 'shape': ({2**99},), }}\n"),
        _read_store,
    ),
    Bomb("array with a deep header", _array("(" * 9000), _read_store, cheap=False),
    Bomb("array that is an archive", _store_with(_npz), _read_store),
    Bomb("array that is a pickle", _store_with(_pickled), _read_store),
    Bomb(
        "checkpoint that is a pickle",
        lambda folder: (folder / "last.pt").write_bytes(_pickled(folder)),
        _read_checkpoint,
    ),
    Bomb("checkpoint that runs something", _saved(lambda folder: {"a": _Canary(folder)}), _read_checkpoint),
    Bomb(
        "checkpoint of before that runs something",
        _saved(lambda folder: {"a": _Canary(folder)}, _use_new_zipfile_serialization=False),
        _read_checkpoint,
    ),
    Bomb(
        "checkpoint of 2^40 equal numbers",
        _saved(lambda _: _whole(model={"w": torch.zeros(1).expand(2**40)})),
        _read_checkpoint,
    ),
    Bomb(
        "checkpoint, quantised beyond its memory",
        _quantised,
        _read_checkpoint,
    ),
    Bomb("checkpoint, sparse", _saved(lambda _: _whole(model={"w": torch.eye(3).to_sparse()})), _read_checkpoint),
    Bomb(
        "checkpoint, sparse, of 2^60",
        _saved(
            lambda _: _whole(
                model={
                    "w": torch.sparse_coo_tensor(
                        torch.zeros(1, 1).long(), torch.ones(1), (2**60,), check_invariants=False
                    )
                }
            )
        ),
        _read_checkpoint,
    ),
    Bomb(
        "checkpoint on no device",
        _saved(lambda _: _whole(model={"w": torch.zeros(2**40, device="meta")})),
        _read_checkpoint,
    ),
    Bomb(
        "checkpoint, lists 100,000 deep", _saved(lambda _: _whole(optimizer={"a": 1}), summed=False), _read_checkpoint
    ),
    Bomb("checkpoint that holds itself", _saved(lambda _: _itself()), _read_checkpoint),
    Bomb("checkpoint of a huge network", _saved(lambda _: _huge_network()), _read_checkpoint),
    Bomb("checkpoint, 2 GiB packed", _squeezed, _read_checkpoint),
    Bomb("safetensors, a header of 2^63 bytes", _hub(lambda _: (2**63).to_bytes(8, "little") + b"{}"), _read_hub),
    Bomb(
        "safetensors, a header 10,000 deep",
        _hub(lambda _: (2 * _DEEP).to_bytes(8, "little") + b"[" * _DEEP + b"]" * _DEEP),
        _read_hub,
    ),
    Bomb("curve, a line 200,000 deep", _curve, _read_curve),
)


def copied(source: Path, folder: Path) -> Path:
    """A folder, to be spoilt."""
    return Path(shutil.copytree(source, folder / source.name))
