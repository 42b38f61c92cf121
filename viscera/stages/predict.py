"""`viscera predict`: from a Run and scans, NIfTI or DICOM, to label maps on the scans' own grids."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import viscera
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder
from viscera.core.scan import LabelMap
from viscera.engine.predictor import Predictor
from viscera.imaging.resample import GridChange
from viscera.io.files import is_occupied, read_json, sha256, write_bytes, write_json
from viscera.io.layouts import case_name
from viscera.io.nifti import labels_to_bytes
from viscera.io.quarantine import left_out, write_quarantine
from viscera.io.runlog import RunFolder
from viscera.io.scans import Scan, open_scans
from viscera.io.store import Store

_NIFTI = (".nii.gz", ".nii")
_OTHER_FILES = (".nrrd", ".dcm")


@dataclass(frozen=True)
class _Job:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    output: Path
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[], LabelMap]
    series_uid: str | None = None


def predict(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    run: Path,
    source: Path,
    output: Path,
    config: PredictConfig | None = None,
    *,
    series: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] = lambda _done, _total, _name: None,
) -> list[Path]:
    """Segment a NIfTI file, all of a folder, or one DICOM series.

    Args:
        run: a Run.
        source: a NIfTI file or a folder of them; or a folder or zip file of DICOM images.
        output: a folder, or a file that ends in `.nii` or `.nii.gz`.
        config: how; by default as the Run says.
        series: UID of the DICOM series; by default the CT with most images.
        device: to compute on.
        overwrite: replace label maps that viscera did not write, or that were edited since.
        progress: called with done, total, case name.

    Returns:
        The label maps. Those that the same model wrote for the same scan before are kept as they are.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
    """
    is_file = output.name.endswith(_NIFTI)
    with open_scans(source, series) as scans:
        _check_output(output, scans, is_file=is_file)
        predictor = Predictor.load(run, config, device)
        jobs = [_job(scan, output if is_file else output / f"{scan.name}.nii.gz", predictor) for scan in scans]
        _refuse_collisions(jobs, scans)
        reasons = _run_all(jobs, predictor, _checkpoint(run, predictor), overwrite=overwrite, progress=progress)
    if not is_file:
        write_quarantine(output, reasons)
    if reasons:
        raise BadInputError(next(iter(reasons.values()))) if len(jobs) == 1 else left_out(output, reasons, len(jobs))
    return [each.output for each in jobs]


def predict_store(
    run: Path,
    store: Store,
    names: Iterable[str],
    output: Path,
    progress: Callable[[int, int, str], None] = lambda _done, _total, _name: None,
) -> list[Path]:
    """Segment prepared cases of a store, on their scans' own grids; otherwise as `predict`."""
    predictor = Predictor.load(run)
    if predictor.classes != store.classes:
        raise BadInputError(
            f"{run}: it was trained on {', '.join(predictor.classes.names)}; {store.path} holds "
            f"{', '.join(store.classes.names)}. Give the store that it was trained on."
        )

    def job(name: str) -> _Job:
        def segment() -> LabelMap:
            store.verify([name])
            geometry = store.original_geometry(name)
            order = AxisOrder.to_canonical(geometry)
            change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
            labels = predictor.predict_prepared(store.image(name), change).labels
            return LabelMap(np.ascontiguousarray(order.undo(labels)), geometry)

        digest = store.manifest.cases[name].sha256["image.npy"]
        return _Job(output / f"{name}.nii.gz", f"{name}/image.npy", lambda: digest, segment)

    jobs = [job(name) for name in names]
    reasons = _run_all(jobs, predictor, _checkpoint(run, predictor), overwrite=True, progress=progress)
    write_quarantine(output, reasons)
    if reasons:
        raise left_out(output, reasons, len(jobs))
    return [each.output for each in jobs]


def unpredicted(store: Store, names: Iterable[str], output: Path) -> list[str]:
    """Those of the cases of a store that have no label map in a folder, or one that was made from another scan."""

    def is_there(name: str) -> bool:
        path = output / f"{name}.nii.gz"
        written = _read_provenance(_provenance_path(path)) or {}
        made_from_ours = written.get("input_sha256") == store.manifest.cases[name].sha256["image.npy"]
        return made_from_ours and path.exists() and written.get("output_sha256") == sha256(path)

    return [name for name in names if not is_there(name)]


def _job(scan: Scan, target: Path, predictor: Predictor) -> _Job:
    uid = scan.series.uid if scan.series else None
    return _Job(target, scan.path.name or scan.name, scan.sha256, lambda: predictor(scan.read()), uid)


def _check_output(output: Path, scans: Sequence[Scan], *, is_file: bool) -> None:
    if output.name.endswith(_OTHER_FILES):
        raise BadInputError(f"{output}: only .nii and .nii.gz can be written by this version. Give another ending.")
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    if not is_file and is_occupied(output) and not output.is_dir():
        raise BadInputError(f"{output}: this is a file. Give a folder, or a name that ends in .nii.gz.")


def _refuse_collisions(jobs: Sequence[_Job], scans: Sequence[Scan]) -> None:
    by_output: dict[Path, str] = {}
    inputs = {scan.path.resolve() for scan in scans}
    for job in jobs:
        if job.output.resolve() in inputs:
            raise BadInputError(f"{job.output}: the label map would replace a scan. Choose another folder.")
        if job.output in by_output:
            raise BadInputError(
                f"{by_output[job.output]} and {job.input_name} would both become {job.output.name}. Rename one of them."
            )
        by_output[job.output] = job.input_name


def _checkpoint(run: Path, predictor: Predictor) -> Path:
    folder = RunFolder(run)
    if folder.fusion.exists():
        return folder.fusion  # it holds the checksums of its models
    return folder.best if predictor.config.checkpoint == "best" else folder.last


def _run_all(
    jobs: Sequence[_Job],
    predictor: Predictor,
    checkpoint: Path,
    *,
    overwrite: bool,
    progress: Callable[[int, int, str], None],
) -> dict[str, str]:
    """Do all jobs; returns why scans were left out. A folder that cannot be written to raises."""
    run_sha256 = sha256(checkpoint)
    reasons: dict[str, str] = {}
    for done, job in enumerate(jobs):
        progress(done, len(jobs), job.input_name)
        try:
            provenance = _provenance(job, predictor, run_sha256)
            present, is_done = _present(job.output, provenance, overwrite=overwrite)
            label_map = None if is_done else job.segment()
        except BadInputError as error:
            reasons[job.input_name] = str(error)
        else:
            if label_map is not None:
                _write(job.output, label_map, provenance | {"replaces_sha256": present})
    progress(len(jobs), len(jobs), "")
    return reasons


def _provenance(job: _Job, predictor: Predictor, run_sha256: str) -> dict[str, Any]:
    return {
        "viscera": viscera.__version__,
        "run_sha256": run_sha256,
        "step": predictor.checkpoint.step,
        "input": job.input_name,
        "input_sha256": job.input_sha256(),
        "series": job.series_uid,
        "settings": predictor.config.model_dump(mode="json"),
        "classes": list(predictor.classes.names),
    }


def _present(output: Path, provenance: dict[str, Any], *, overwrite: bool) -> tuple[str | None, bool]:
    """Checksum of the label map that is there, None if there is none; and whether it is the wanted one already.

    Raises:
        BadInputError: what is there was not written by viscera, or was edited since, and may not be overwritten.
    """
    path = _provenance_path(output)
    written = _read_provenance(path)
    if written is None and not overwrite:
        raise BadInputError(f"{path}: exists, and viscera did not write it. Move it away, or add --overwrite.")
    if not output.exists():
        return None, False
    written = written or {}
    present = sha256(output)
    is_own = present in {written.get("output_sha256"), written.get("replaces_sha256")}
    if not is_own and not overwrite:
        raise BadInputError(
            f"{output}: exists, and is not as viscera wrote it. Move it away, or add --overwrite to lose it."
        )
    series = written.get("series")
    if series is not None and series != provenance["series"] and not overwrite:
        raise BadInputError(
            f"{output}: exists, and was made from series {series}. Give another name, or add --overwrite to lose it."
        )
    is_current = all(written.get(key) == value for key, value in provenance.items())
    return present, is_current and present == written["output_sha256"]


def _read_provenance(path: Path) -> dict[str, Any] | None:
    """What stands beside a label map: empty if there is none, None if it is not of viscera."""
    try:
        value = read_json(path) if path.exists() else {"run_sha256": ""}
    except BadInputError:
        return None
    return value if isinstance(value, dict) and "run_sha256" in value else None


def _write(output: Path, label_map: LabelMap, provenance: dict[str, Any]) -> None:
    """Write provenance, then label map: after a crash between the two, what is there is known to be our own."""
    content = labels_to_bytes(label_map, "viscera prediction", compressed=output.suffix == ".gz")
    write_json(_provenance_path(output), provenance | {"output_sha256": hashlib.sha256(content).hexdigest()})
    write_bytes(output, content)


def _provenance_path(output: Path) -> Path:
    return output.with_name(f"{case_name(output)}.json")
