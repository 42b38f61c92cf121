"""`viscera predict`: from a Run and scans to label maps on the scans' own grids."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import viscera
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder
from viscera.core.scan import LabelMap
from viscera.engine.predictor import Predictor
from viscera.imaging.resample import GridChange
from viscera.io.files import read_json, sha256, write_json
from viscera.io.layouts import case_name, scan_case_name
from viscera.io.nifti import read_volume, write_labels
from viscera.io.quarantine import left_out, write_quarantine
from viscera.io.runlog import RunFolder
from viscera.io.store import Store

_NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class _Job:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    output: Path
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[], LabelMap]


def predict(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    run: Path,
    source: Path,
    output: Path,
    config: PredictConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] = lambda _done, _total, _name: None,
) -> list[Path]:
    """Segment a NIfTI file, or all of a folder.

    Args:
        run: a Run.
        source: a scan, or a folder of scans.
        output: a folder, or a file that ends in `.nii` or `.nii.gz`.
        config: how; by default as the Run says.
        device: to compute on.
        overwrite: replace label maps that viscera did not write, or that were edited since.
        progress: called with done, total, case name.

    Returns:
        The label maps. Those that the same model wrote for the same scan before are kept as they are.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
    """
    scans = _scans(source)
    is_file = output.name.endswith(_NIFTI)
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    predictor = Predictor.load(run, config, device)

    def job(scan: Path) -> _Job:
        target = output if is_file else output / f"{scan_case_name(scan)}.nii.gz"
        return _Job(target, scan.name, lambda: sha256(scan), lambda: predictor(read_volume(scan)))

    jobs = [job(scan) for scan in scans]
    _refuse_collisions(jobs)
    folder = output.parent if is_file else output
    reasons = _run_all(jobs, predictor, _checkpoint(run, predictor), overwrite=overwrite, progress=progress)
    if not is_file:
        folder.mkdir(parents=True, exist_ok=True)
        write_quarantine(folder, reasons)
    if reasons:
        raise BadInputError(next(iter(reasons.values()))) if len(jobs) == 1 else left_out(folder, reasons, len(jobs))
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

    def job(name: str) -> _Job:
        def segment() -> LabelMap:
            geometry = store.original_geometry(name)
            order = AxisOrder.to_canonical(geometry)
            change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
            labels = predictor.predict_prepared(store.image(name), change).labels
            return LabelMap(np.ascontiguousarray(order.undo(labels)), geometry)

        digest = store.manifest.cases[name].sha256["image.npy"]
        return _Job(output / f"{name}.nii.gz", f"{name}/image.npy", lambda: digest, segment)

    jobs = [job(name) for name in names]
    reasons = _run_all(jobs, predictor, _checkpoint(run, predictor), overwrite=True, progress=progress)
    if reasons:
        raise left_out(output, reasons, len(jobs))
    return [each.output for each in jobs]


def _scans(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise BadInputError(f"{source}: there is no such file or folder.")
    scans = sorted(p for p in source.iterdir() if p.name.endswith(_NIFTI) and not p.name.startswith("."))
    if not scans:
        raise BadInputError(f"{source}: no .nii or .nii.gz file in this folder. Give the folder that holds the scans.")
    return scans


def _refuse_collisions(jobs: Sequence[_Job]) -> None:
    by_output: dict[Path, str] = {}
    for job in jobs:
        if job.output in by_output:
            raise BadInputError(
                f"{by_output[job.output]} and {job.input_name} would both become {job.output.name}. Rename one of them."
            )
        by_output[job.output] = job.input_name


def _checkpoint(run: Path, predictor: Predictor) -> Path:
    folder = RunFolder(run)
    return folder.best if predictor.config.checkpoint == "best" else folder.last


def _run_all(
    jobs: Sequence[_Job],
    predictor: Predictor,
    checkpoint: Path,
    *,
    overwrite: bool,
    progress: Callable[[int, int, str], None],
) -> dict[str, str]:
    run_sha256 = sha256(checkpoint)
    reasons: dict[str, str] = {}
    for done, job in enumerate(jobs):
        progress(done, len(jobs), job.input_name)
        try:
            _run(job, predictor, run_sha256, overwrite=overwrite)
        except BadInputError as error:
            reasons[job.input_name] = str(error)
    progress(len(jobs), len(jobs), "")
    return reasons


def _run(job: _Job, predictor: Predictor, run_sha256: str, *, overwrite: bool) -> None:
    provenance_path = job.output.with_name(f"{case_name(job.output)}.json")
    provenance = {
        "viscera": viscera.__version__,
        "run_sha256": run_sha256,
        "step": predictor.checkpoint.step,
        "input": job.input_name,
        "input_sha256": job.input_sha256(),
        "settings": predictor.config.model_dump(mode="json"),
        "classes": list(CLASS_NAMES),
    }
    if job.output.exists():
        written = read_json(provenance_path) if provenance_path.exists() else {}
        untouched = written.pop("output_sha256", None) == sha256(job.output)
        if untouched and written == provenance:
            return
        if not untouched and not overwrite:
            raise BadInputError(
                f"{job.output}: exists, and is not as viscera wrote it. Move it away, or add --overwrite to lose it."
            )
    write_labels(job.output, job.segment(), "viscera prediction")
    write_json(provenance_path, provenance | {"output_sha256": sha256(job.output)})
