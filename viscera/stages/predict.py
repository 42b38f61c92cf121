"""`viscera predict`: from a Run and scans, NIfTI or DICOM, to label maps on the scans' own grids."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import viscera
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, CaseBarrier
from viscera.core.geometry import AxisOrder
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.scan import LabelMap, OrganFacts
from viscera.engine.predictor import Predictor
from viscera.engine.trust import reasons_not_to_trust
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.dicom import Series
from viscera.io.dicom.result_writers import Algorithm
from viscera.io.files import is_occupied, refuse_unwritable, sha256
from viscera.io.formats import FORMATS, Result, formats_of, refuse_other_file, wanted_formats
from viscera.io.nifti_header import Placement
from viscera.io.predictions import Measured, PredictionFiles, read_record, refuse_other_tables, write_tables
from viscera.io.quarantine import NAME as QUARANTINE
from viscera.io.quarantine import refuse_other_quarantine, write_quarantine
from viscera.io.scans import Scan, open_scans
from viscera.io.store import Store
from viscera.metrics.hounsfield import hu_facts, no_hu
from viscera.metrics.organ_facts import organ_facts

log = logging.getLogger(__name__)


_BESIDE_BYTES = 2**27  # that a scan on the network's grid may take beside the scan
# a label map on the scan's own grid, what was measured of it, and organs whose model saw other voxel sizes
_Segmented = tuple[LabelMap, Mapping[str, OrganFacts], frozenset[str]]


@dataclass(frozen=True)
class _Job:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    files: PredictionFiles
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[], _Segmented]
    series: Series | None = None
    placement: Callable[[], Placement | None] = lambda: None


def predict(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    run: Path,
    source: Path,  # a NIfTI file or a folder of them; or a folder or zip file of DICOM images
    output: Path,  # a folder, or a file that ends in `.nii`, `.nii.gz`, `.nrrd` or `.dcm`, capitals or not
    config: PredictConfig | None = None,  # how; by default as the Run says
    *,
    series: str | None = None,  # UID of the DICOM series; by default the CT with most images
    formats: Sequence[str] | None = None,  # main one first; by default NIfTI, or what the name asks for
    device: str = "auto",
    overwrite: bool = False,  # label maps that viscera did not write, that were edited, or are of other scans
    progress: OnProgress = unseen,  # called before each case, and at the end
) -> list[Path]:
    """Segment a NIfTI file, all of a folder, or one DICOM series: the label maps, in the main format.

    Those that the same model wrote for the same scan before are kept.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
        DefectError: likewise, and one of them was left out by a defect of ours.
    """
    is_file = bool(formats_of(output))
    refuse_other_file(output)
    wanted = wanted_formats(output, formats)
    with open_scans(source, series) as scans:
        _check_output(output, scans, wanted, is_file=is_file)
        predictor = Predictor.load(run, config, device)
        jobs = [_job(scan, PredictionFiles.of(output, scan.name, wanted), predictor) for scan in scans]
        _refuse_collisions(jobs, scans)
        refuse_unwritable(output.parent if is_file else output)
        return _run_all(jobs, predictor, None if is_file else output, progress, overwrite=overwrite)


def predict_store(
    run: Path, store: Store, names: Iterable[str], output: Path, progress: OnProgress = unseen
) -> list[Path]:
    """Segment prepared cases of a store, on their scans' own grids; otherwise as `predict`."""
    predictor = Predictor.load(run)
    if predictor.classes != store.classes:
        raise BadInputError(
            f"{run}: it was trained on {', '.join(predictor.classes.names)}; {store.path} holds "
            f"{', '.join(store.classes.names)}. Give the store that it was trained on."
        )
    jobs = [_job_of_store(store, name, output, predictor) for name in names]
    return _run_all(jobs, predictor, output, progress, overwrite=True)


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
            what = "%s: its values seem to be no HU (%s; expected: %s). If so, what is found means nothing."
            log.warning(what, name, *doubt[1:])
        view = predictor.view(volume)
        is_much = view.own_bytes > _BESIDE_BYTES
        if is_much:  # reading it again takes seconds, and the network minutes then
            del volume
        found = predictor.segment_view(view)
        del view
        if is_much:
            volume = scan.read(again=True)
        facts = organ_facts(volume, found.label_map, predictor.classes, found.confidence)
        return found.label_map, facts, found.unlike

    return _Job(files, name, scan.sha256, segment, scan.series, scan.placement)


def _job_of_store(store: Store, name: str, output: Path, predictor: Predictor) -> _Job:
    def segment() -> _Segmented:
        store.verify([name])
        geometry = store.original_geometry(name)
        order = AxisOrder.to_canonical(geometry)
        change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
        restored, confidence, _ = predictor.segment_prepared(store.image(name), change)
        on_grid = coarsen_labels(restored, change, store.manifest.prepare.label_downsampling)
        # the store has no finer image
        facts = organ_facts(store.volume(name), on_grid, predictor.classes, confidence)
        return LabelMap(np.asfortranarray(order.undo(restored.labels)), geometry), facts, frozenset()

    digest = store.manifest.cases[name].sha256["image.npy"]
    return _Job(PredictionFiles.of(output, name, ["nifti"]), f"{name}/image.npy", lambda: digest, segment)


def _check_output(output: Path, scans: Sequence[Scan], formats: Sequence[str], *, is_file: bool) -> None:
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    if is_file and output.name.lower() in FORMATS[formats[0]].endings:
        raise BadInputError(f"{output}: this is an ending alone. Give a name before it.")
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
    sources = (path for scan in scans for path in (scan.path, *(scan.series.sources if scan.series else ())))
    inputs = {os.path.realpath(path) for path in sources}  # which, unlike Path.resolve, lets links in a circle pass
    for job in jobs:
        replaced = [path for path in job.files.outputs if os.path.realpath(path) in inputs]
        if replaced:
            raise BadInputError(f"{replaced[0]}: the label map would replace a scan. Give another name or folder.")
        main = job.files.main
        if main in by_output:
            both = f"{by_output[main]} and {job.input_name}"
            raise BadInputError(f"{both} would both become {main.name}. Rename one of them.")
        by_output[main] = job.input_name


def _run_all(
    jobs: Sequence[_Job], predictor: Predictor, folder: Path | None, progress: OnProgress, *, overwrite: bool
) -> list[Path]:
    """Do all jobs; a scan that raises is left out. With the lists of a folder; `None`: a file alone."""
    refuse_other_tables([job.files for job in jobs])
    if folder is not None:
        refuse_other_quarantine(folder)
    barrier = CaseBarrier()
    tried: list[_Job] = []
    try:
        for done, job in enumerate(jobs):
            progress(Progress("predict", done, len(jobs), job.input_name))
            tried.append(job)
            with barrier.around(job.input_name):
                _run_one(job, predictor, overwrite=overwrite)
        progress(Progress("predict", len(jobs), len(jobs)))
    except BaseException:
        with suppress(BadInputError):  # the first error is the one to hear of
            _write_lists(tried, folder, barrier)
        raise
    _write_lists(tried, folder, barrier)
    barrier.finish(len(jobs), (folder or Path()) / QUARANTINE)
    return [job.files.main for job in jobs]


def _run_one(job: _Job, predictor: Predictor, *, overwrite: bool) -> None:
    """Segment one scan and write it; what cannot be written in one format is written in the others."""
    provenance = {
        "viscera": viscera.__version__,
        **predictor.provenance,
        "input": job.input_name,
        "input_sha256": job.input_sha256(),
        "series": job.series.uid if job.series else None,
    }
    if job.files.is_current(provenance, overwrite=overwrite):
        return
    label_map, found, unlike = job.segment()
    reasons = reasons_not_to_trust(found, predictor.training, unlike)
    measured = {organ: Measured(facts, reasons[organ]) for organ, facts in found.items()}
    algorithm = Algorithm(predictor.checksum, viscera.__version__)
    sources = job.series.sources if job.series else None
    result = Result(label_map, predictor.classes, algorithm, sources, job.placement())
    contents, encoding = dict[Path, bytes](), CaseBarrier()
    for path, name in job.files.outputs.items():  # all, before any is written
        with encoding.around(path.name):
            contents[path] = FORMATS[name].encode(result, path)
    if contents:
        job.files.write(contents, provenance, measured)
    for file, error in encoding.left_out.items():
        raise type(error)(
            f"{error} So {file} is not written; written: {', '.join(p.name for p in contents) or 'none'}."
        )


def _write_lists(jobs: Sequence[_Job], folder: Path | None, barrier: CaseBarrier) -> None:
    """The table of measurements, and in a folder what was left out; the first error is the one to hear of."""
    try:
        write_tables([job.files for job in jobs])
    except BadInputError as error:
        if not barrier.left_out:
            raise
        log.warning("%s", error)
    if folder is not None:
        write_quarantine(folder, barrier.reasons, [job.input_name for job in jobs])
