"""What is spoilt, how, and what reads it: each kind of file that viscera takes from a disk.

A reader ends in a result or a `VisceraError`. Where several look at one file, each does, whatever the others said.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import torch

from torture.hostile_seeds import AFFINE, SHAPE, Artifacts
from torture.mutations import (
    Mutation,
    either,
    mutated_bytes,
    mutated_dicom,
    mutated_fields,
    mutated_json,
    mutated_lines,
    mutated_table,
    mutated_value,
    mutated_yaml,
    mutated_zip,
    packed_by,
)
from viscera.core.anatomy import ABDOMEN, CLASS_NAMES
from viscera.core.errors import VisceraError
from viscera.core.geometry import Geometry
from viscera.core.resolve import resolve_config
from viscera.engine.fusion import FusionRecord
from viscera.engine.init_from import Source
from viscera.engine.temperature import read_calibrations
from viscera.engine.trained_model import Model
from viscera.engine.trust import load_ranges
from viscera.export.portable.portable_nifti import Refused
from viscera.export.portable.portable_nifti import read_nifti as read_portable
from viscera.io.checkpoint import _digest, load_checkpoint
from viscera.io.classes import read_class_file
from viscera.io.confusion_table import read_confusion
from viscera.io.dicom.source_images import SourceImages
from viscera.io.disk.file_sets import read_note
from viscera.io.hub_folder import read_hub_folder
from viscera.io.job_parts import read_parts
from viscera.io.layouts.dataset_tables import dataset_title
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.layouts.split_files import own_split, read_split
from viscera.io.nifti import label_numbers_in, read_labels, read_mask, read_volume
from viscera.io.nifti_header import Placement, stores_bytes
from viscera.io.predictions import flags_text, read_measurements
from viscera.io.pseudonyms import Pseudonyms, _all_names_within
from viscera.io.quarantine import left_out_of
from viscera.io.records import read_json, read_yaml
from viscera.io.references import Meaning, classes_beside, read_predictions, reference_file, references_of
from viscera.io.reliability_table import read_reliability
from viscera.io.remote.mirror_index import Index
from viscera.io.runlog import RunFolder, StudyFolder, first_settings, read_config
from viscera.io.scans import list_series
from viscera.io.scans import read_volume as read_scan
from viscera.io.scores import read_scores, scores_table
from viscera.io.splits import split_sizes
from viscera.io.store import Store
from viscera.io.stored_cases import StoredCases
from viscera.io.training_data import TrainingData
from viscera.io.verifying.integrity import checks_of
from viscera.io.verifying.path_kinds import a_run_of, store_of, what_is
from viscera.stages.prepare import grids_text, ignored_text
from viscera.study.analysis_plan import read_analysis_plan
from viscera.study.report.report_stage import make_report, read_study
from viscera.view.corrections import read_upload
from viscera.view.open_gallery import open_gallery

Read = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Target:
    """One kind of file."""

    name: str
    make: Callable[[Artifacts, Path], Sequence[Path]]  # fill an empty folder; the files that are spoilt, one at a time
    read: Read  # of the folder and the spoilt file
    mutate: Mutation | None = None  # None: by the file's name
    weight: int = 4  # how often it has its turn
    most_s: float = 2.0  # of the processor, for one file


REFUSALS: list[str] = []  # what the readers of the last file answered


def each(*reads: Callable[[], object]) -> None:
    """Have every reader look; a refusal is an answer."""
    for read in reads:
        try:
            read()
        except (VisceraError, Refused) as error:
            REFUSALS.append(str(error))


def mutation_of(path: Path) -> Mutation:
    """By a file's name."""
    return next((mutate for ending, mutate in _BY_ENDING.items() if path.name.endswith(ending)), mutated_bytes)


# ------------------------------------------------------------------------------------------ NIfTI

_NIFTI_1 = [(0, "<i"), *((40 + 2 * n, "<h") for n in range(8)), (70, "<h"), (72, "<h"), (123, "<b")]
_NIFTI_1 += [*((76 + 4 * n, "<f") for n in range(8)), (108, "<f"), (112, "<f"), (116, "<f"), (252, "<h"), (254, "<h")]
_NIFTI_1 += [*((256 + 4 * n, "<f") for n in range(18)), (344, "<i"), (348, "<i")]
_NIFTI_2 = [(12, "<h"), (14, "<h"), *((16 + 8 * n, "<q") for n in range(8)), *((104 + 8 * n, "<d") for n in range(8))]
_NIFTI_2 += [(168, "<q"), (176, "<d"), (184, "<d"), (344, "<i"), (348, "<i"), (500, "<i")]
_NIFTI_2 += [*((352 + 8 * n, "<d") for n in range(18))]
of_nifti = either(mutated_fields(_NIFTI_1), mutated_fields(_NIFTI_1), mutated_bytes)
of_nifti_2 = either(mutated_fields(_NIFTI_2), mutated_fields(_NIFTI_2), mutated_bytes)


def _write_nifti(*names: str, kind: Any = nib.Nifti1Image, dtype: Any = np.int16) -> Callable[..., list[Path]]:  # noqa: ANN401
    def make(_: Artifacts, folder: Path) -> list[Path]:
        voxels = np.arange(np.prod((6, 5, 4))).reshape(6, 5, 4) % 8
        for name in names[:1]:
            nib.save(kind(voxels.astype(dtype), AFFINE), folder / name)
        return [folder / name for name in names]

    return make


def _read_nifti(_: Path, path: Path) -> None:
    each(
        lambda: repr(read_volume(path, warn=False).canonical()),
        lambda: repr(read_labels(path)),
        lambda: read_mask(path),
        lambda: label_numbers_in(path),
        lambda: stores_bytes(path),
        lambda: Placement.read(path).affine,
        lambda: read_portable(path),
        lambda: read_scan(path),
    )


# ------------------------------------------------------------------------------------------ DICOM


def _copy_dicom(artifacts: Artifacts, folder: Path) -> list[Path]:
    shutil.copytree(artifacts.dicom, folder / "series")
    return sorted((folder / "series").iterdir())


def _read_series(folder: Path, path: Path) -> None:
    series = folder / "series"
    each(lambda: read_scan(series), lambda: list_series(series), lambda: SourceImages.read(sorted(series.iterdir())))
    each(lambda: read_scan(path))


def _copy_results(*patterns: str) -> Callable[[Artifacts, Path], list[Path]]:
    def make(artifacts: Artifacts, folder: Path) -> list[Path]:
        found = [path for pattern in patterns for path in sorted(artifacts.results.glob(pattern))]
        return [Path(shutil.copy(path, folder / path.name)) for path in found]

    return make


def _read_any(folder: Path, path: Path) -> None:
    """What is no scan, given as one; as a label map; as the truth."""
    each(
        lambda: read_scan(path),
        lambda: list_series(path),
        lambda: list_series(folder),
        lambda: SourceImages.read([path]),
        lambda: read_labels(path),
        lambda: reference_file(path, Meaning(ABDOMEN)).read(),
        lambda: what_is(path),
        lambda: open_gallery(path),
        lambda: list(_all_names_within(path)),
    )


# ------------------------------------------------------------------------------------------ data sets


def _copy_raw(artifacts: Artifacts, folder: Path) -> list[Path]:
    raw = Path(shutil.copytree(artifacts.raw, folder / "raw"))
    first = json.loads((raw / "dataset.json").read_text())
    scans = {f"case_{n}": f"imagesTr/case_{n}_0000.nii.gz" for n in range(2)}
    first["dataset"] = {name: {"images": [at], "label": f"labelsTr/{name}.nii.gz"} for name, at in scans.items()}
    (raw / "dataset.json").write_text(json.dumps(first))
    split = [{"train": ["case_0", "case_1"], "val": ["case_2", "case_3"]}]
    (raw / "splits_final.json").write_text(json.dumps(split))
    return [raw / "dataset.json", raw / "dataset.json", raw / "splits_final.json"]


def _prediction(path: Path) -> object:
    return read_predictions({"case_0": path}, ABDOMEN)["case_0"]()


def _read_raw(folder: Path, _: Path) -> None:
    raw = folder / "raw"
    cases: list[Any] = []
    each(lambda: cases.extend(find_cases(raw, partial=True)))
    each(
        lambda: own_split(raw, cases),
        lambda: own_split(raw, cases, 2),
        lambda: dataset_title(raw),
        lambda: references_of(raw / "labelsTr", None, None, Meaning(ABDOMEN)),
        lambda: _prediction(raw / "labelsTr" / "case_0.nii.gz"),
        lambda: open_gallery(raw),
        lambda: what_is(raw),
        *(case.read for case in cases[:1]),
    )


_NOTE = ".01234567-unfinished.json"


def _other_tables(_: Artifacts, folder: Path) -> list[Path]:
    (folder / "classes.yaml").write_text("classes: [liver, left kidney]\nlabels: {liver: 6, left kidney: 3}\n")
    (folder / "split.json").write_text('{"train": ["a", "b"], "validation": ["c"], "test": ["d"]}')
    (folder / "folds.json").write_text('{"folds": [["a", "b"], ["c"]], "test": ["d"]}')
    (folder / "meta.csv").write_text("image_id;split\ns0001;train\ns0002;test\n")
    (folder / ".predict_parts.json").write_text('{"total": 2, "cases": ["a", "b"], "begun": [1], "done": []}')
    said = {"url": "s3://b/x", "files": {"a.nii.gz": [3, "e", 5]}, "sending": {}, "is_written": False}
    (folder / "index.json").write_text(json.dumps(said))
    (folder / _NOTE).write_text('{"a.json": ".00000000-a.json", "old.md": null}')
    key = {"format": "viscera pseudonyms", "version": 1, "secret": "5" * 64, "cases": {"p_abcdefghij": "a"}}
    (folder / "keys.json").write_text(json.dumps(key))
    (folder / "keys.json").chmod(0o600)
    return sorted(path for path in folder.iterdir() if path.is_file())


def _read_tables(folder: Path, path: Path) -> None:
    each(
        lambda: read_class_file(folder / "classes.yaml"),
        lambda: read_split(folder / "split.json", []),
        lambda: read_split(folder / "folds.json", []),
        lambda: own_split(folder, []),
        lambda: read_parts(folder, "predict"),
        lambda: Index.read(folder),
        lambda: read_note(folder / _NOTE),
        lambda: Pseudonyms.open(folder / "keys.json").of_cases([]),
        lambda: read_yaml(path),
        lambda: read_json(path),
    )


def _settings(_: Artifacts, folder: Path) -> list[Path]:
    (folder / "a.yaml").write_text(
        "train: {iterations: 300, patch: 24, weighting: mine, loss: {epsilon: 1.0, schedule: {to: uniform}}}\n"
        "study:\n  weights: {mine: {power: 2, counts_of: {liver: gallbladder}}}\n  seeds: [0, 1]\n"
        "  variants: {'': {}, b: {train.filters: 8}}\nprepare: {downsample: [4, 4, 1]}\n"
        "evaluate: {tolerance_mm: {liver: 5, other: 2}}\npredict: {cleanup: {fill_holes: [liver]}}\n"
    )
    return [folder / "a.yaml"]


def _read_settings(_: Path, path: Path) -> None:
    values: dict[str, Any] = {}
    each(lambda: values.update(read_yaml(path)), lambda: read_config(path))
    each(lambda: resolve_config(file_values=values), lambda: resolve_config("strong", base=values))


# ------------------------------------------------------------------------------------------ stores


def _copy_store(*patterns: str) -> Callable[[Artifacts, Path], list[Path]]:
    def make(artifacts: Artifacts, folder: Path) -> list[Path]:
        store = Path(shutil.copytree(artifacts.store, folder / "store"))
        return [path for pattern in patterns for path in sorted(store.glob(pattern))[:2]]

    return make


def _read_store(folder: Path, _: Path) -> None:
    path = folder / "store"
    each(
        lambda: _look_at(Store.open(path)),
        lambda: what_is(path),
        lambda: [check.run() for check in checks_of(path)],
        lambda: left_out_of(path),
        lambda: open_gallery(path),
    )


def _look_at(store: Store) -> None:
    names = store.names()
    each(
        lambda: repr(store),
        store.voxel_counts,
        lambda: store.voxel_counts("original"),
        lambda: store.labelled(names),
        lambda: store.fingerprint,
        lambda: TrainingData.of(store) if store.names("train") else None,
        lambda: split_sizes(store),
        lambda: store.of_fold("all"),
        lambda: store.verify(names),
        lambda: (grids_text(store), ignored_text(store)) if names else None,
        lambda: list(StoredCases(store, names)),
    )
    for name in names[:3]:
        _look_at_case(store, name)


def _look_at_case(store: Store, name: str) -> None:
    each(
        lambda: repr(store.volume(name)),
        lambda: repr(store.label_map(name)),
        lambda: store.original_labels(name),
        lambda: store.original_geometry(name).text,
    )


def of_npy(chance: Random, content: bytes) -> bytes:
    """Another header of the array, or other bytes."""
    if chance.random() < 0.3:
        return mutated_bytes(chance, content)
    length = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + length].decode("latin1")
    shape = chance.choice(("()", "(0, 0, 0)", "(-1, 2, 3)", f"({2**40}, 2, 2)", "(2**9,)", "(14, 12, 10, 1)", "(1e3,)"))
    kind = chance.choice(("|O", "<f8", "<i8", "|S3", "<U1000000000", "<M8[s]", "|V5", "<c16", ">i2", "|b1", "<u2", "x"))
    header = chance.choice(
        (
            header.replace("<i2", kind).replace("|u1", kind),
            header.replace(str(SHAPE), shape),
            header.replace("False", chance.choice(("True", "None", "1"))),
            "{" * chance.choice((1, 90, 9000)),
            "(" * 5000,
            header[: chance.randrange(len(header))],
            str({"descr": [("a", "<i2"), ("b", "O")], "fortran_order": False, "shape": SHAPE}),
            mutated_bytes(chance, header.encode()).decode("latin1"),
        )
    )
    raw = header.encode("latin1", errors="replace")
    version = chance.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = struct.pack("<H", len(raw) % 65536) if version[0] < 2 else struct.pack("<I", len(raw))
    return content[:6] + version + size + raw + content[10 + length :]


# ------------------------------------------------------------------------------------------ runs and models


def _copy_run(artifacts: Artifacts, folder: Path) -> list[Path]:
    run = Path(shutil.copytree(artifacts.run, folder / "run"))
    taken = {"run": "../other", "sha256": "0" * 64, "step": 3, "classes": ["background"], "new": [], "left": []}
    (run / "started_from.json").write_text(json.dumps(taken))
    shutil.copy(artifacts.predictions / "scores.csv", run / "scores.csv")
    return sorted(path for path in run.iterdir() if path.suffix in {".json", ".jsonl", ".yaml", ".csv"})


def _read_run(folder: Path, path: Path) -> None:
    run = RunFolder(folder / "run")
    each(
        lambda: repr(run),
        run.read_status,
        run.read_curve,
        lambda: read_config(run.config_path),
        lambda: first_settings(run.path),
        lambda: TrainingData.read(run.training_data),
        lambda: load_ranges(run.training_ranges),
        lambda: read_calibrations(run),
        lambda: read_scores(run.scores),
        lambda: Source.of(None, run),
        lambda: what_is(run.path),
        lambda: [check.run() for check in checks_of(run.path)],
        lambda: run.keep_curve_until(4) if path.name == "curve.jsonl" else None,
    )


def _copy_checkpoint(artifacts: Artifacts, folder: Path) -> list[Path]:
    return [Path(shutil.copy(artifacts.run / "last.pt", folder / "last.pt"))]


def _read_checkpoint(_: Path, path: Path) -> None:
    each(lambda: load_checkpoint(path), lambda: Model.load(path, device="cpu"))
    each(lambda: [check.run() for check in checks_of(path.parent)])


def of_checkpoint(chance: Random, content: bytes) -> bytes:
    """Values replaced, with a checksum that fits: whoever writes a file can write that, too."""
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(chance.choice((1, 1, 2))):
        key = chance.choice(list(loaded))
        loaded = _with_odd_tensors(chance, {**loaded, key: mutated_value(chance, loaded[key])})
    if chance.random() < 0.9:
        loaded.pop("sha256", None)
        with suppress(Exception):  # what cannot be summed is refused for that
            loaded["sha256"] = _digest(loaded)
    result = io.BytesIO()
    torch.save(loaded, result)
    return result.getvalue()


def _with_odd_tensors(chance: Random, value: dict[str, Any]) -> dict[str, Any]:
    if chance.random() < 0.6:
        return value
    odd = (
        torch.zeros(0),
        torch.tensor(1.0),
        torch.full((2, 3), torch.nan),
        torch.zeros(1).expand(2**20),
        torch.ones(3, dtype=torch.bool),
        torch.ones(2, 2, dtype=torch.complex64),
        torch.eye(3).to_sparse(),
        torch.ones(8, dtype=torch.bfloat16),
    )
    key = chance.choice(("model", "average", "class_voxel_counts", "class_weights"))
    if isinstance(value.get(key), dict) and value[key]:
        return {**value, key: {**value[key], chance.choice(list(value[key])): chance.choice(odd)}}
    return {**value, key: chance.choice(odd)}


def _copy_export(artifacts: Artifacts, folder: Path) -> list[Path]:
    if artifacts.export is None:
        return []
    export = Path(shutil.copytree(artifacts.export, folder / "export"))
    return [export / name for name in ("config.json", "config.json", "model.safetensors", "export.json")]


def _read_export(folder: Path, path: Path) -> None:
    export, weights = folder / "export", folder / "export" / "model.safetensors"
    if path.name == "model.safetensors" and hashlib.sha256(path.read_bytes()).digest()[0] % 4:
        said = json.loads((export / "config.json").read_text())  # the checksum is no secret
        said["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        said.pop("checksum", None)
        (export / "config.json").write_text(json.dumps(said))
    each(
        lambda: read_hub_folder(weights),
        lambda: Model.load(weights, device="cpu"),
        lambda: [check.run() for check in checks_of(export)],
        lambda: what_is(export),
    )


def of_safetensors(chance: Random, content: bytes) -> bytes:
    """Another header, or another length of it."""
    if chance.random() < 0.3:
        return mutated_bytes(chance, content)
    length = int.from_bytes(content[:8], "little")
    if chance.random() < 0.2:
        return chance.choice((0, 1, length + 1, 2**32, 2**63, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    header = mutated_json(chance, content[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


# ------------------------------------------------------------------------------------------ predictions and scores


def _copy_predictions(artifacts: Artifacts, folder: Path) -> list[Path]:
    out = Path(shutil.copytree(artifacts.predictions, folder / "out"))
    (out / "reliability.csv").write_text(
        "case,organ,lower,upper,voxels,correct,probability,fraction\nc,liver,0.00,0.10,5,1,0.05,0.2\n"
    )
    (out / "quarantine.csv").write_text('case,reason\nc,"c: why, and what to do"\n')
    records = sorted(out.glob("case_*.json"))[:1]
    return [*records * 2, *sorted(out.glob("*.csv")), *sorted(out.glob("*.sha256"))[:1]]


def _read_out(folder: Path, _: Path) -> None:
    out = folder / "out"
    maps = sorted(out.glob("*.nii.gz"))
    each(
        lambda: scores_table(read_scores(out / "scores.csv")),
        lambda: read_confusion(out / "confusion.csv", CLASS_NAMES),
        lambda: read_reliability(out / "reliability.csv"),
        lambda: left_out_of(out),
        lambda: flags_text(out),
        lambda: read_measurements(maps[0].with_name("case_0.json")),
        lambda: classes_beside(maps[0]),
        lambda: _prediction(maps[0]),
        lambda: [check.run() for check in checks_of(out)],
        lambda: [len(case.flagged) for case in open_gallery(out).cases],
        lambda: what_is(out),
    )


def _upload(_: Artifacts, folder: Path) -> list[Path]:
    said = json.dumps({"who": "me", "note": "a note"}).encode()
    (folder / "upload.bin").write_bytes(len(said).to_bytes(4, "little") + said + bytes(int(np.prod(SHAPE))))
    return [folder / "upload.bin"]


def _read_upload(_: Path, path: Path) -> None:
    each(lambda: read_upload(path.read_bytes(), Geometry(SHAPE, AFFINE)))


# ------------------------------------------------------------------------------------------ studies


def _copy_study(*patterns: str) -> Callable[[Artifacts, Path], list[Path]]:
    def make(artifacts: Artifacts, folder: Path) -> list[Path]:
        if artifacts.study is None:
            return []
        study = Path(shutil.copytree(artifacts.study, folder / "study"))
        return [path for pattern in patterns for path in sorted(study.glob(pattern))]

    return make


_OF_A_STUDY = ("study.yaml", "*.json", "arms/*/seed_0/*.json", "arms/*/seed_0/curve.jsonl", "arms/*/seed_0/scores.csv")


def _read_study(folder: Path, _: Path) -> None:
    study = folder / "study"
    each(
        StudyFolder(study).read_record,
        lambda: read_study(study),
        lambda: read_analysis_plan(StudyFolder(study)),
        lambda: store_of(study),
        lambda: a_run_of(study),
        lambda: what_is(study),
        lambda: open_gallery(study),
        lambda: [check.run() for check in checks_of(study)],
        lambda: FusionRecord.read(StudyFolder(study).fused),
    )


def _report(folder: Path, _: Path) -> None:
    each(lambda: make_report(folder / "study"))


# ------------------------------------------------------------------------------------------ all


def _xz(artifacts: Artifacts, folder: Path) -> list[Path]:
    (plain,) = _write_nifti("scan.nii")(artifacts, folder)
    (folder / "scan.nii.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    return [folder / "scan.nii.xz"]


_GZIPPED = packed_by(gzip.compress, gzip.decompress, of_nifti)
_BY_ENDING: dict[str, Mutation] = {
    ".jsonl": mutated_lines,
    ".json": mutated_json,
    ".yaml": mutated_yaml,
    ".csv": mutated_table,
    ".npy": of_npy,
    ".pt": either(of_checkpoint, of_checkpoint, mutated_bytes, mutated_zip),
    ".safetensors": of_safetensors,
    ".zip": mutated_zip,
    ".nii.gz": _GZIPPED,
    ".dcm": mutated_dicom,
}
TARGETS: tuple[Target, ...] = (
    Target("nifti", _write_nifti("scan.nii"), _read_nifti, of_nifti, 6),
    Target("nifti floats", _write_nifti("scan.nii", dtype=np.float32), _read_nifti, of_nifti, 3),
    Target("nifti 2", _write_nifti("scan.nii", kind=nib.Nifti2Image), _read_nifti, of_nifti_2, 3),
    Target("nifti gzip", _write_nifti("scan.nii.gz", dtype=np.uint8), _read_nifti, _GZIPPED, 6),
    Target(
        "nifti bzip2",
        _write_nifti("scan.nii.bz2"),
        _read_nifti,
        packed_by(bz2.compress, bz2.decompress, of_nifti),
        1,
    ),
    Target("nifti xz", _xz, _read_nifti, packed_by(lzma.compress, lzma.decompress, of_nifti), 1),
    Target("nifti pair", _write_nifti("scan.hdr", "scan.img", kind=nib.Nifti1Pair), _read_nifti, of_nifti, 3),
    Target("dicom series", _copy_dicom, _read_series, mutated_dicom, 6),
    Target("dicom frames", _copy_results("enhanced.dcm"), _read_any, mutated_dicom, 4),
    Target("dicom results", _copy_results("*seg.dcm", "*rtstruct.dcm"), _read_any, mutated_dicom, 2),
    Target("nrrd", _copy_results("*.nrrd"), _read_any, mutated_bytes, 1),
    Target("zip", _copy_results("*.zip"), _read_any, mutated_zip, 3),
    Target("data set", _copy_raw, _read_raw, weight=2),
    Target("tables", _other_tables, _read_tables, weight=6),
    Target("settings", _settings, _read_settings, weight=6),
    Target("manifest", _copy_store("manifest.json"), _read_store, weight=4),
    Target("arrays", _copy_store("cases/*/image.npy", "cases/*/labels.npy"), _read_store, weight=2),
    Target("run", _copy_run, _read_run, weight=6),
    Target("checkpoint", _copy_checkpoint, _read_checkpoint, weight=4),
    Target("safetensors", _copy_export, _read_export, weight=3),
    Target("predictions", _copy_predictions, _read_out, weight=4),
    Target("upload", _upload, _read_upload, mutated_bytes, 1),
    Target("study", _copy_study(*_OF_A_STUDY), _read_study, weight=3),
    Target("report", _copy_study(*_OF_A_STUDY), _report, weight=0, most_s=10.0),  # a whole one takes a second
)
