"""`viscera predict`: from a Run and scans, NIfTI or DICOM, to label maps on the scans' own grids."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import viscera
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, CaseBarrier, VisceraError
from viscera.core.geometry import AxisOrder
from viscera.core.processes import Spread, for_each, watched
from viscera.core.progress import OnProgress, unseen
from viscera.core.scan import LabelMap, OrganFacts
from viscera.core.shard import Shard
from viscera.engine.confidence_maps import ConfidenceMaps
from viscera.engine.predictor import Predictor
from viscera.engine.trust import reasons_not_to_trust
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.dicom import Series
from viscera.io.dicom.result_writers import Algorithm
from viscera.io.files import TURN_S, exclusive, is_occupied, refuse_unwritable, sha256
from viscera.io.formats import ENDINGS, FORMATS, Result, formats_of, refuse_other_file, wanted_formats
from viscera.io.job_parts import begin_part_beside_others, end_part
from viscera.io.nifti_header import Placement
from viscera.io.predictions import Measured, PredictionFiles, read_record, refuse_other_tables, write_tables
from viscera.io.probability_maps import MAPS
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
class _Task:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    files: PredictionFiles
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[Predictor, ConfidenceMaps], _Segmented]
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
    jobs: int = 1,  # processes that work at the same time, each with a model of its own
    spread: Spread | None = None,  # over other machines instead, which reach the same files
    shard: Shard | None = None,  # segment this part of a folder alone; others may work beside it in the same output
    progress: OnProgress = unseen,  # called before each case, or with several `jobs` after it; and at the end
) -> list[Path]:
    """Segment a NIfTI file, all of a folder, or one DICOM series: the label maps, in the main format.

    Those that the same model wrote for the same scan before are kept.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
        DefectError: likewise, and one of them was left out by a defect of ours.
    """
    is_file = bool(formats_of(output))
    if spread is not None:  # other machines stand elsewhere
        source, output = source.absolute(), output.absolute()
    refuse_other_file(output)
    wanted = wanted_formats(output, formats)
    with open_scans(source, series) as scans:
        _check_output(output, scans, wanted, is_file=is_file)
        tasks = [_task(scan, PredictionFiles.of(output, scan.name, wanted)) for scan in scans]
        _refuse_collisions(tasks, scans)
        refuse_unwritable(output.parent if is_file else output)
        of_all = [task.input_name for task in tasks]
        tasks = shard.of(tasks) if shard else tasks
        predictor = Predictor.load(run, config, device)
        _refuse_maps_of_a_rule(run, predictor, wanted)
        if spread is None and jobs > 1:
            spread = partial(for_each, jobs=jobs)
        if source.is_file() and scans[0].series is not None:  # unpacked on this machine alone
            spread = None
        load = partial(_loaded, run.absolute(), config, device, predictor.checksum) if spread else lambda: predictor
        if shard and not is_file:
            begin_part_beside_others(output, "predict", shard, of_all)
        lists = _Lists(None if is_file else output, shard)
        return _run_all(tasks, load, lists, progress, overwrite=overwrite, spread=spread)


@lru_cache(maxsize=1)
def _loaded(run: Path, config: PredictConfig | None, device: str, _checksum: str) -> Predictor:
    """In a process of several: once for all its scans, for as long as the model is the same.

    What there is to say of it was said where it was loaded first.
    """
    logging.disable(logging.WARNING)
    try:
        return Predictor.load(run, config, device)
    finally:
        logging.disable(logging.NOTSET)


def predict_store(
    run: Path,
    store: Store,
    names: Iterable[str],
    output: Path,
    progress: OnProgress = unseen,
    *,
    formats: Sequence[str] = ("nifti",),  # and maps
) -> list[Path]:
    """Segment prepared cases of a store, on their scans' own grids; otherwise as `predict`."""
    predictor = Predictor.load(run)
    _refuse_maps_of_a_rule(run, predictor, formats)
    if predictor.classes != store.classes:
        raise BadInputError(
            f"{run}: it was trained on {', '.join(predictor.classes.names)}; {store.path} holds "
            f"{', '.join(store.classes.names)}. Give the store that it was trained on."
        )
    tasks = [_task_of_store(store, name, output, formats) for name in names]
    return _run_all(tasks, lambda: predictor, _Lists(output), progress, overwrite=True)


def unpredicted(store: Store, names: Iterable[str], output: Path) -> list[str]:
    """Those of the cases of a store that have no label map in a folder, or one that was made from another scan."""

    def is_there(name: str) -> bool:
        files = PredictionFiles.of(output, name, ["nifti"])
        written = read_record(files.record) or {}
        made_from_ours = written.get("input_sha256") == store.manifest.cases[name].sha256["image.npy"]
        return made_from_ours and files.main.exists() and written.get("output_sha256") == sha256(files.main)

    return [name for name in names if not is_there(name)]


def _task(scan: Scan, files: PredictionFiles) -> _Task:
    name = scan.path.name or scan.name
    return _Task(files, name, scan.sha256, partial(_segment, scan, name), scan.series, scan.placement)


def _segment(scan: Scan, name: str, predictor: Predictor, maps: ConfidenceMaps) -> _Segmented:
    volume = scan.read()
    doubt = no_hu(hu_facts(volume.hu))
    if doubt is not None:
        what = "%s: its values seem to be no HU (%s; expected: %s). If so, what is found means nothing."
        log.warning(what, name, *doubt[1:])
    view = predictor.view(volume)
    is_much = view.own_bytes > _BESIDE_BYTES
    if is_much:  # reading it again takes seconds, and the network minutes then
        del volume
    found = predictor.segment_view(view, maps.begun(view.geometry))
    del view
    if is_much:
        volume = scan.read(again=True)
    facts = organ_facts(volume, found.label_map, predictor.classes, found.confidence)
    return found.label_map, facts, found.unlike


def _task_of_store(store: Store, name: str, output: Path, formats: Sequence[str]) -> _Task:
    digest = store.manifest.cases[name].sha256["image.npy"]
    files = PredictionFiles.of(output, name, formats)
    return _Task(files, f"{name}/image.npy", lambda: digest, partial(_segment_prepared, store, name))


def _segment_prepared(store: Store, name: str, predictor: Predictor, maps: ConfidenceMaps) -> _Segmented:
    store.verify([name])
    geometry = store.original_geometry(name)
    order = AxisOrder.to_canonical(geometry)
    change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
    restored, confidence, _ = predictor.segment_prepared(store.image(name), change, maps.begun(geometry))
    on_grid = coarsen_labels(restored, change, store.manifest.prepare.label_downsampling)
    # the store has no finer image
    facts = organ_facts(store.volume(name), on_grid, predictor.classes, confidence)
    return LabelMap(np.asfortranarray(order.undo(restored.labels)), geometry), facts, frozenset()


def _check_output(output: Path, scans: Sequence[Scan], formats: Sequence[str], *, is_file: bool) -> None:
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    if is_file and output.name.lower() in ENDINGS[formats[0]]:
        raise BadInputError(f"{output}: this is an ending alone. Give a name before it.")
    if is_file and output.is_dir():
        raise BadInputError(f"{output}: this is a folder. Give a name for a file in it, or another folder.")
    if not is_file and is_occupied(output) and not output.is_dir():
        raise BadInputError(f"{output}: this is a file. Give a folder, or a name that ends in .nii.gz.")
    no_dicom = [scan.path for scan in scans if scan.series is None]
    of_series = [name for name in formats if name in FORMATS and FORMATS[name].of_series]
    if no_dicom and of_series:
        raise BadInputError(
            f"{no_dicom[0]}: no DICOM series, and {', '.join(of_series)} refers to one. Give the series itself, or "
            "--format nifti or seg-nrrd."
        )


def _refuse_maps_of_a_rule(run: Path, predictor: Predictor, formats: Sequence[str]) -> None:
    maps = [name for name in formats if name in MAPS]
    if maps and predictor.combination is not None:
        raise BadInputError(
            f"{run}: several models as one, each organ from its own (`viscera study --fuse`), so that there is no one "
            f"probability of each class; --format {', '.join(maps)} needs one model, or a folder of runs whose mean is "
            "taken."
        )


def _refuse_collisions(tasks: Sequence[_Task], scans: Sequence[Scan]) -> None:
    by_output: dict[Path, str] = {}
    sources = (path for scan in scans for path in (scan.path, *(scan.series.sources if scan.series else ())))
    inputs = {os.path.realpath(path) for path in sources}  # which, unlike Path.resolve, lets links in a circle pass
    for task in tasks:
        replaced = [path for path in task.files.outputs if os.path.realpath(path) in inputs]
        if replaced:
            raise BadInputError(f"{replaced[0]}: the label map would replace a scan. Give another name or folder.")
        main = task.files.main
        if main in by_output:
            both = f"{by_output[main]} and {task.input_name}"
            raise BadInputError(f"{both} would both become {main.name}. Rename one of them.")
        by_output[main] = task.input_name


def _run_all(
    tasks: Sequence[_Task],
    load: Callable[[], Predictor],
    lists: "_Lists",
    progress: OnProgress,
    *,
    overwrite: bool,
    spread: Spread | None = None,
) -> list[Path]:
    """Do all tasks; a scan that raises is left out."""
    refuse_other_tables([task.files for task in tasks])
    if lists.folder is not None:
        refuse_other_quarantine(lists.folder)
    barrier, tried, total = CaseBarrier(), list[_Task](), len(tasks)
    each = spread or partial(for_each, jobs=1)
    names = [task.input_name for task in tasks]
    try:
        with closing(each(partial(_outcome, load, overwrite), list(enumerate(tasks)))) as outcomes:
            seen = watched("predict", names, outcomes, lambda found: names[found[0]], progress, in_order=spread is None)
            for number, error in seen:
                tried.append(tasks[number])
                if error is not None:
                    barrier.left_out[names[number]] = error
    except BaseException:
        with suppress(BadInputError):  # the first error is the one to hear of
            lists.write(tried, barrier)
        raise
    lists.write(tried, barrier, is_end=True)
    barrier.finish(total, (lists.folder or Path()) / QUARANTINE)
    return [task.files.main for task in tasks]


def _outcome(
    load: Callable[[], Predictor],
    overwrite: bool,
    numbered: tuple[int, _Task],
) -> tuple[int, VisceraError | None]:
    """Segment one scan, in whichever process; its number, and why it is left out."""
    number, task = numbered
    barrier = CaseBarrier()
    with barrier.around(task.input_name):
        _run_one(task, load(), overwrite=overwrite)
    return number, barrier.left_out.get(task.input_name)


def _run_one(task: _Task, predictor: Predictor, *, overwrite: bool) -> None:
    """Segment one scan and write it; what cannot be written in one format is written in the others."""
    provenance = {
        "viscera": viscera.__version__,
        **predictor.provenance,
        "input": task.input_name,
        "input_sha256": task.input_sha256(),
        "series": task.series.uid if task.series else None,
    }
    if task.files.is_current(provenance, overwrite=overwrite):
        return
    names = [name for name in task.files.outputs.values() if name in MAPS]
    maps = ConfidenceMaps(names, task.files.main.parent, len(predictor.classes))
    contents, encoding = dict[Path, bytes | Path](), CaseBarrier()
    try:
        with maps:
            label_map, found, unlike = task.segment(predictor, maps)
            algorithm, sources = Algorithm(predictor.checksum, viscera.__version__), task.series
            placement = task.placement()
            result = Result(label_map, predictor.classes, algorithm, sources.sources if sources else None, placement)
            for path, name in task.files.outputs.items():  # all, before any is written
                with encoding.around(path.name):
                    is_map = name in MAPS
                    contents[path] = (
                        maps.packed(name, path, placement) if is_map else FORMATS[name].encode(result, path)
                    )
        if contents:
            reasons = reasons_not_to_trust(found, predictor.training, unlike)
            task.files.write(contents, provenance, {organ: Measured(f, reasons[organ]) for organ, f in found.items()})
    finally:
        for content in contents.values():
            if isinstance(content, Path):
                content.unlink(missing_ok=True)
    for file, error in encoding.left_out.items():
        raise type(error)(
            f"{error} So {file} is not written; written: {', '.join(p.name for p in contents) or 'none'}."
        )


class _Lists(NamedTuple):
    """The table of measurements, and in a folder what was left out."""

    folder: Path | None  # None: of one file
    shard: Shard | None = None  # of a job array, whose other parts write the lists of this folder, too

    def write(self, tasks: Sequence[_Task], barrier: CaseBarrier, *, is_end: bool = False) -> None:
        """Write them; the first error is the one to hear of."""
        with exclusive(self.folder, wait_s=TURN_S) if self.folder and self.shard else nullcontext():
            try:
                write_tables([task.files for task in tasks])
            except BadInputError as error:
                if not barrier.left_out:
                    raise
                log.warning("%s", error)
            if self.folder is not None:
                write_quarantine(self.folder, barrier.reasons, [task.input_name for task in tasks])
            if self.folder is not None and self.shard and is_end:
                end_part(self.folder, "predict", self.shard)
