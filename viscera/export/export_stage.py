"""`viscera export`: from a Run to a folder that other programs can use."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import viscera
from viscera.card.card_stage import write_card
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, UsageError
from viscera.core.settings import PathWithin, Settings
from viscera.export.exported_model import ExportedModel, needed
from viscera.export.hub_form import write_safetensors
from viscera.export.monai_form import write_monai_bundle
from viscera.export.onnx_form import write_onnx
from viscera.export.slicer_form import write_slicer
from viscera.io.disk.folder_lock import alone_with
from viscera.io.files import is_occupied, make_folder, put_folder, remove_leftovers, sha256, temporary_beside, writing
from viscera.io.format_versions import EXPORT_VERSION, refuse_newer
from viscera.io.records import read_json, validated, write_record
from viscera.io.runlog import RunFolder, runs_in

RECORD = "export.json"


@dataclass(frozen=True)
class Form:
    """One way to write a model."""

    write: Callable[[ExportedModel, Path], None]
    use: str  # how the folder is used: a command, or what to do
    needs: tuple[str, ...] = ()  # libraries of the extra `export`


FORMS: Mapping[str, Form] = {
    "onnx": Form(write_onnx, "run it with `python {folder}/segment.py SCAN LABELS`", ("onnx",)),
    "monai-bundle": Form(
        write_monai_bundle,
        "run it with `cd {folder} && python -m monai.bundle run --config_file configs/inference.json "
        "--scans 'SCANS/*.nii.gz' --output_dir LABELS`",
    ),
    "safetensors": Form(write_safetensors, "run it with `viscera predict {folder} SCAN LABELS`", ("safetensors",)),
    "slicer": Form(write_slicer, "load viscera.ctbl in 3D Slicer beside label maps of this model"),
}


class ExportRecord(Settings):
    """`export.json`: what an export wrote, by which the next one knows that it may replace it."""

    format_version: int = EXPORT_VERSION
    viscera: str  # version
    run_sha256: str  # of the checkpoint, or of those of several runs together
    forms: tuple[str, ...]
    files: dict[PathWithin, str]  # to SHA-256


def export(
    run: Path,
    out: Path,
    forms: Sequence[str],
    config: PredictConfig | None = None,
    *,
    overwrite: bool = False,  # files of an earlier export that were edited
) -> Path:
    """Write a model in one form, whose files stand in `out`, or in several, each in a folder of its name.

    `out` is whole, or as it was. Without `config` the model predicts as its own configuration says.

    Raises:
        UsageError: no such form.
        BadInputError: no run, or one that has no single network; a library that is not installed; something in `out`
            that viscera did not write, or that was edited since.
    """
    wanted = list(dict.fromkeys(forms))
    unknown = [name for name in wanted if name not in FORMS]
    if unknown or not wanted:
        raise UsageError(
            f"--to {', '.join(unknown) or 'none'}: there is no such format. There are: {', '.join(FORMS)}."
        )
    for name in wanted:
        for module in FORMS[name].needs:
            needed(module, name)
    with alone_with(out):
        _refuse_others(out, overwrite=overwrite)
        before = _weights_of(run)
        _write(ExportedModel.read(run, config), wanted, out, before)
    return out


def written_text(out: Path) -> str:
    """What an export wrote, and how each format is used; a line each."""
    record = validated(ExportRecord, read_json(out / RECORD), out / RECORD, "Export again.")
    lines = []
    for name in record.forms:
        folder = out / name if len(record.forms) > 1 else out
        inside = folder.relative_to(out).as_posix()
        files = [path for path in record.files if inside == "." or path.startswith(f"{inside}/")]
        own = [path if inside == "." else path.removeprefix(f"{inside}/") for path in files]
        lines.append(f"{folder}: {', '.join(own)}\n{folder}: {FORMS[name].use.format(folder=folder)}")
    return "\n".join(lines)


def _weights_of(run: Path) -> dict[Path, str]:
    """Checksums of the checkpoints of a run, or of several."""
    folders = [RunFolder(each) for each in (run, *runs_in(run))]
    return {path: sha256(path) for folder in folders for path in (folder.last, folder.best) if path.exists()}


def _refuse_others_than(weights: Mapping[Path, str], run: Path) -> None:
    """Raise BadInputError where a training has written anew what the forms of an export have read one after another."""
    if _weights_of(run) != weights:
        raise BadInputError(f"{run}: a training has replaced its weights meanwhile. Export it when that has ended.")


def _write(model: ExportedModel, wanted: Sequence[str], out: Path, weights: Mapping[Path, str]) -> None:
    target = Path(os.path.realpath(out)) if out.is_symlink() else out.absolute()
    with writing(out):
        make_folder(target.parent)
        remove_leftovers(target.parent, {target.name})
        temporary = temporary_beside(target)
        try:
            for name in wanted:
                folder = temporary / name if len(wanted) > 1 else temporary
                folder.mkdir(parents=True)
                write_card(model.run, folder)
                FORMS[name].write(model, folder)
            _record(model, wanted, temporary)
            _refuse_others_than(weights, model.run)
            put_folder(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _record(model: ExportedModel, forms: Sequence[str], folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files_in(folder)}
    record = ExportRecord(
        viscera=viscera.__version__, run_sha256=model.predictor.checksum, forms=tuple(forms), files=files
    )
    write_record(folder / RECORD, record.model_dump(mode="json"))


def _refuse_others(out: Path, *, overwrite: bool) -> None:
    if not is_occupied(out):
        return
    if not out.is_dir() or not (out / RECORD).exists():
        raise BadInputError(f"{out}: exists, and is not an export of viscera. Give another folder.")
    value = read_json(out / RECORD)
    refuse_newer(out / RECORD, value.get("format_version") if isinstance(value, dict) else None, EXPORT_VERSION)
    record = validated(ExportRecord, value, out / RECORD, "Give another folder.")
    there = {path.relative_to(out).as_posix(): path for path in _files_in(out) if path != out / RECORD}
    others = sorted(set(there) - set(record.files))
    edited = sorted(name for name, path in there.items() if name in record.files and sha256(path) != record.files[name])
    if others:
        raise BadInputError(f"{out}: holds {others[0]}, which the export there did not write. Give another folder.")
    if edited and not overwrite:
        raise BadInputError(f"{out / edited[0]}: was edited. Give another folder, or add --overwrite to lose it.")


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
