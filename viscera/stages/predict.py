"""`viscera predict`: from a Run and scans, NIfTI or DICOM, to label maps on the scans' own grids."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import viscera
from viscera.core.barrier import CaseBarrier
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.scan import LabelMap, OrganFacts
from viscera.engine.predictor import Predictor
from viscera.engine.trust import ConfidenceTally, TrainingRanges, load_ranges, reasons_not_to_trust
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.dicom import Series
from viscera.io.dicom.seg_writer import Algorithm
from viscera.io.files import is_occupied, sha256
from viscera.io.formats import FORMATS, Result, formats_of, refuse_other_file, wanted_formats
from viscera.io.measurements import KEY as MEASUREMENTS
from viscera.io.measurements import Measured, as_json, refuse_other_measurements, write_table
from viscera.io.nifti_header import Placement
from viscera.io.predictions import TABLE, PredictionFiles, read_record
from viscera.io.quarantine import NAME as QUARANTINE
from viscera.io.quarantine import refuse_other_quarantine, write_quarantine
from viscera.io.runlog import RunFolder
from viscera.io.scans import Scan, open_scans
from viscera.io.store import Store
from viscera.metrics.hounsfield import hu_facts, no_hu
from viscera.metrics.organ_facts import organ_facts

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Segmented:
    """A label map on the scan's own grid, and what was measured of it."""

    label_map: LabelMap
    facts: Mapping[str, OrganFacts]
    spacing_unlike: bool


@dataclass(frozen=True)
class _Job:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    files: PredictionFiles
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[], _Segmented]
    series: Series | None = None
    placement: Callable[[], Placement | None] = lambda: None

    @property
    def output(self) -> Path:
        return self.files.main


def predict(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    run: Path,
    source: Path,
    output: Path,
    config: PredictConfig | None = None,
    *,
    series: str | None = None,
    formats: Sequence[str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: OnProgress = unseen,
) -> list[Path]:
    """Segment a NIfTI file, all of a folder, or one DICOM series.

    Args:
        run: a Run.
        source: a NIfTI file or a folder of them; or a folder or zip file of DICOM images.
        output: a folder, or a file that ends in `.nii`, `.nii.gz`, `.nrrd` or `.dcm`, capitals or not.
        config: how; by default as the Run says.
        series: UID of the DICOM series; by default the CT with most images.
        formats: of `io.predictions.FORMATS`, the main one first; by default NIfTI, or what a file's name asks for.
        device: to compute on.
        overwrite: replace label maps that viscera did not write, that were edited since, or made from other scans.
        progress: called before each case, and at the end.

    Returns:
        The label maps, in the main format. Those that the same model wrote for the same scan before are kept.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
    """
    is_file = bool(formats_of(output))
    refuse_other_file(output)
    wanted = wanted_formats(output, formats)
    with open_scans(source, series) as scans:
        _check_output(output, scans, wanted, is_file=is_file)
        predictor = Predictor.load(run, config, device)
        jobs = [_job(scan, PredictionFiles.of(output, scan.name, wanted), predictor) for scan in scans]
        _refuse_collisions(jobs, scans)
        if not is_file:
            refuse_other_quarantine(output)
        barrier = _run_all(jobs, predictor, run, overwrite=overwrite, progress=progress)
    if not is_file:
        write_quarantine(output, barrier.reasons, [job.input_name for job in jobs])
    barrier.finish(len(jobs), output / QUARANTINE)
    return [each.output for each in jobs]


def predict_store(
    run: Path,
    store: Store,
    names: Iterable[str],
    output: Path,
    progress: OnProgress = unseen,
) -> list[Path]:
    """Segment prepared cases of a store, on their scans' own grids; otherwise as `predict`."""
    predictor = Predictor.load(run)
    if predictor.classes != store.classes:
        raise BadInputError(
            f"{run}: it was trained on {', '.join(predictor.classes.names)}; {store.path} holds "
            f"{', '.join(store.classes.names)}. Give the store that it was trained on."
        )

    def job(name: str) -> _Job:
        def segment() -> _Segmented:
            store.verify([name])
            geometry = store.original_geometry(name)
            order = AxisOrder.to_canonical(geometry)
            change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
            tally = ConfidenceTally(len(predictor.classes))
            restored = predictor.predict_prepared(store.image(name), change, tally)
            on_grid = coarsen_labels(restored, change, store.manifest.prepare.label_downsampling)
            # the store has no finer image
            facts = organ_facts(store.volume(name), on_grid, predictor.classes, tally.means())
            return _Segmented(LabelMap(np.asfortranarray(order.undo(restored.labels)), geometry), facts, False)

        digest = store.manifest.cases[name].sha256["image.npy"]
        return _Job(PredictionFiles.of(output, name, ["nifti"]), f"{name}/image.npy", lambda: digest, segment)

    jobs = [job(name) for name in names]
    barrier = _run_all(jobs, predictor, run, overwrite=True, progress=progress)
    write_quarantine(output, barrier.reasons, [job.input_name for job in jobs])
    barrier.finish(len(jobs), output / QUARANTINE)
    return [each.output for each in jobs]


def unpredicted(store: Store, names: Iterable[str], output: Path) -> list[str]:
    """Those of the cases of a store that have no label map in a folder, or one that was made from another scan."""

    def is_there(name: str) -> bool:
        files = PredictionFiles.of(output, name, ["nifti"])
        written = read_record(files.record) or {}
        made_from_ours = written.get("input_sha256") == store.manifest.cases[name].sha256["image.npy"]
        return made_from_ours and files.main.exists() and written.get("output_sha256") == sha256(files.main)

    return [name for name in names if not is_there(name)]


def _job(scan: Scan, files: PredictionFiles, predictor: Predictor) -> _Job:
    name = scan.path.name or scan.name

    def segment() -> _Segmented:
        volume = scan.read()
        doubt = no_hu(hu_facts(volume.hu))
        if doubt is not None:
            _, found, expected = doubt
            log.warning(
                "%s: its values seem to be no HU (%s; expected: %s). If so, what is found means nothing.",
                name,
                found,
                expected,
            )
        tally = ConfidenceTally(len(predictor.classes))
        label_map = predictor(volume, tally)
        facts = organ_facts(volume, label_map, predictor.classes, tally.means())
        return _Segmented(label_map, facts, predictor.is_unlike(volume.canonical().geometry))

    return _Job(files, name, scan.sha256, segment, scan.series, scan.placement)


def _check_output(output: Path, scans: Sequence[Scan], formats: Sequence[str], *, is_file: bool) -> None:
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    if is_file and output.is_dir():
        raise BadInputError(f"{output}: this is a folder. Give a name for a file in it, or another folder.")
    if not is_file and is_occupied(output) and not output.is_dir():
        raise BadInputError(f"{output}: this is a file. Give a folder, or a name that ends in .nii.gz.")
    no_dicom = [scan.path for scan in scans if scan.series is None]
    of_series = [name for name in formats if FORMATS[name].of_series]
    if no_dicom and of_series:
        raise BadInputError(
            f"{no_dicom[0]}: no DICOM series, and {', '.join(of_series)} refers to one. Give the series itself, or "
            "--format nifti or seg-nrrd."
        )


def _refuse_collisions(jobs: Sequence[_Job], scans: Sequence[Scan]) -> None:
    by_output: dict[Path, str] = {}
    inputs = {path.resolve() for scan in scans for path in (scan.path, *(scan.series.sources if scan.series else ()))}
    for job in jobs:
        replaced = [path for path in job.files.outputs if path.resolve() in inputs]
        if replaced:
            raise BadInputError(f"{replaced[0]}: the label map would replace a scan. Give another name or folder.")
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
    run: Path,
    *,
    overwrite: bool,
    progress: OnProgress,
) -> CaseBarrier:
    """Do all jobs; returns why scans were left out."""
    for table in dict.fromkeys(job.files.table for job in jobs):
        refuse_other_measurements(table)
    run_sha256 = sha256(_checkpoint(run, predictor))
    ranges = load_ranges(RunFolder(run).training_ranges) or TrainingRanges({})
    barrier = CaseBarrier()
    try:
        for done, job in enumerate(jobs):
            progress(Progress("predict", done, len(jobs), job.input_name))
            with barrier.around(job.input_name):
                provenance = _provenance(job, predictor, run_sha256)
                if job.files.is_current(provenance, overwrite=overwrite):
                    continue
                segmented = job.segment()
                contents = _contents(job, segmented.label_map, predictor, run_sha256)
                job.files.write(contents, provenance, {MEASUREMENTS: as_json(_measured(segmented, ranges))})
    except BaseException:
        with suppress(BadInputError):  # the first error is the one to hear of
            _write_tables([job.files for job in jobs])
        raise
    try:
        _write_tables([job.files for job in jobs])
    except BadInputError as error:
        if not barrier.left_out:
            raise
        log.warning("%s", error)
    progress(Progress("predict", len(jobs), len(jobs)))
    return barrier


def _measured(segmented: _Segmented, ranges: TrainingRanges) -> dict[str, Measured]:
    reasons = reasons_not_to_trust(segmented.facts, ranges, spacing_unlike=segmented.spacing_unlike)
    return {organ: Measured(facts, reasons[organ]) for organ, facts in segmented.facts.items()}


def _write_tables(files: Sequence[PredictionFiles]) -> None:
    """`measurements.csv` of all predictions that stand in a folder; beside a single file, its own."""
    for table in dict.fromkeys(each.table for each in files):
        there = sorted(path for path in table.parent.glob("*.json") if not path.name.startswith("."))
        write_table(table, there if table.name == TABLE else [path for each in files if (path := each.record).exists()])


def _contents(job: _Job, label_map: LabelMap, predictor: Predictor, run_sha256: str) -> dict[Path, bytes]:
    """A label map in every format, before any is written."""
    algorithm = Algorithm(run_sha256, viscera.__version__)
    sources = job.series.sources if job.series else None
    result = Result(label_map, predictor.classes, algorithm, sources, job.placement())
    return {path: FORMATS[name].encode(result, path) for path, name in job.files.outputs.items()}


def _provenance(job: _Job, predictor: Predictor, run_sha256: str) -> dict[str, Any]:
    return {
        "viscera": viscera.__version__,
        "run_sha256": run_sha256,
        "step": predictor.checkpoint.step,
        "input": job.input_name,
        "input_sha256": job.input_sha256(),
        "series": job.series.uid if job.series else None,
        "settings": predictor.config.model_dump(mode="json"),
        "classes": list(predictor.classes.names),
    }
