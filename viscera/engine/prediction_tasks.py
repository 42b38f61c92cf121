"""What is segmented: each scan as a task, done in whichever process, its files and the lists of its folder."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import viscera
from viscera.core.errors import BadInputError, CaseBarrier, VisceraError
from viscera.core.geometry import AxisOrder
from viscera.core.processes import Spread, for_each, watched
from viscera.core.progress import OnProgress
from viscera.core.scan import LabelMap, OrganFacts
from viscera.core.shard import Shard
from viscera.engine.confidence_maps import ConfidenceMaps
from viscera.engine.predictor import Predictor
from viscera.engine.trust import reasons_not_to_trust
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.dicom import Series
from viscera.io.dicom.result_writers import Algorithm
from viscera.io.disk.file_sets import finish
from viscera.io.disk.folder_lock import TURN_S, alone_in, alone_with, exclusive
from viscera.io.files import remove_leftovers
from viscera.io.formats import FORMATS, Result
from viscera.io.job_parts import end_part
from viscera.io.nifti_header import Placement
from viscera.io.predictions import Measured, PredictionFiles, refuse_other_tables, write_tables
from viscera.io.probability_maps import MAPS
from viscera.io.quarantine import NAME as QUARANTINE
from viscera.io.quarantine import refuse_other_quarantine, write_quarantine
from viscera.io.store import Store
from viscera.metrics.organ_facts import organ_facts

log = logging.getLogger(__name__)
# a label map on the scan's own grid, what was measured of it, and organs whose model saw other voxel sizes
Segmented = tuple[LabelMap, Mapping[str, OrganFacts], frozenset[str]]


@dataclass(frozen=True)
class Task:
    """One scan to segment: where the answer goes, what it was made from, and how."""

    files: PredictionFiles
    input_name: str
    input_sha256: Callable[[], str]
    segment: Callable[[Predictor, ConfidenceMaps], Segmented]
    series: Series | None = None
    placement: Callable[[], Placement | None] | None = None  # None: no file says how its voxels lie
    run: Path | None = None  # that it is segmented with, where each task has its own
    in_use: Callable[[], AbstractContextManager[None]] = nullcontext  # within, its files are here


def task_of_store(store: Store, name: str, output: Path, formats: Sequence[str]) -> Task:
    """A prepared case of a store, whose label map lies on its scan's own grid."""
    files = PredictionFiles.of(output, name, formats)
    digest = partial(str, store.manifest.cases[name].sha256["image.npy"])
    # without the store, whose manifest would travel to another process with each of its cases
    return Task(files, f"{name}/image.npy", digest, partial(_segment_prepared, store.path, store.fingerprint, name))


@lru_cache(maxsize=1)
def _opened(path: Path, _fingerprint: str) -> Store:
    """Once for all its cases, for as long as it is the same."""
    return Store.open(path)


def _segment_prepared(path: Path, fingerprint: str, name: str, predictor: Predictor, maps: ConfidenceMaps) -> Segmented:
    store = _opened(path, fingerprint)
    store.verify([name])
    geometry = store.original_geometry(name)
    order = AxisOrder.to_canonical(geometry)
    change = GridChange.prepared(order.apply_to_geometry(geometry), store.manifest.prepare)
    restored, confidence, entropy, _ = predictor.segment_prepared(store.image(name), change, maps.begun(geometry))
    on_grid = coarsen_labels(restored, change, store.manifest.prepare.label_downsampling)
    # the store has no finer image
    facts = organ_facts(store.volume(name), on_grid, predictor.classes, confidence, entropy)
    return LabelMap(np.asfortranarray(order.undo(restored.labels)), geometry), facts, frozenset()


def run_all(
    tasks: Sequence[Task],
    load: Callable[[Task], Predictor],
    lists: "Lists",
    progress: OnProgress,
    *,
    overwrite: bool,
    spread: Spread | None = None,
) -> list[Path]:
    """Do all tasks; a scan that raises is left out. Raises BadInputError where another process writes there."""
    with lists.held(tasks):
        return _run_all(tasks, load, lists, progress, overwrite=overwrite, spread=spread)


def _run_all(
    tasks: Sequence[Task],
    load: Callable[[Task], Predictor],
    lists: "Lists",
    progress: OnProgress,
    *,
    overwrite: bool,
    spread: Spread | None,
) -> list[Path]:
    refuse_other_tables([task.files for task in tasks])
    if lists.folder is not None:
        refuse_other_quarantine(lists.folder)
    barrier, tried, total = CaseBarrier(), list[Task](), len(tasks)
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
    load: Callable[[Task], Predictor],
    overwrite: bool,
    numbered: tuple[int, Task],
) -> tuple[int, VisceraError | None]:
    """Segment one scan, in whichever process; its number, and why it is left out."""
    number, task = numbered
    barrier = CaseBarrier()
    with barrier.around(task.input_name), task.in_use():
        _run_one(task, load(task), overwrite=overwrite)
    return number, barrier.left_out.get(task.input_name)


def _run_one(task: Task, predictor: Predictor, *, overwrite: bool) -> None:
    """Segment one scan and write it; what cannot be written in one format is written in the others."""
    provenance = {
        "viscera": viscera.__version__,
        **predictor.provenance,
        "input": task.input_name,
        "input_sha256": task.input_sha256(),
        "dicom": task.series is not None,
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
            placement = task.placement() if task.placement else None
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


class Lists(NamedTuple):
    """The table of measurements, and in a folder what was left out."""

    folder: Path | None  # None: of one file
    source: Path  # of the scans
    shard: Shard | None = None  # of a job array, whose other parts write the lists of this folder, too
    told: Callable[[str], str] = str  # what is written of a reason

    @contextmanager
    def held(self, tasks: Sequence[Task]) -> Iterator[None]:
        """Hold what is written, beside other parts; what a process that was killed left unfinished is finished."""
        folders = {task.files.main.parent for task in tasks} | ({self.folder} if self.folder else set())
        with ExitStack() as held:
            if self.folder is not None:
                held.enter_context(alone_in(self.folder, "predict", beside_others=self.shard is not None))
            else:
                for task in tasks:
                    held.enter_context(alone_with(task.files.main))
            for folder in folders:
                finish(folder)
                if self.shard is None:
                    remove_leftovers(folder, {path.name for task in tasks for path in task.files.outputs})
            yield

    def write(self, tasks: Sequence[Task], barrier: CaseBarrier, *, is_end: bool = False) -> None:
        """Write them; the first error is the one to hear of."""
        with exclusive(self.folder, wait_s=TURN_S) if self.folder and self.shard else nullcontext():
            try:
                write_tables([task.files for task in tasks])
            except BadInputError as error:
                if not barrier.left_out:
                    raise
                log.warning("%s", error)
            if self.folder is not None:
                done = [task.input_name for task in tasks]
                write_quarantine(self.folder, barrier.reasons, done, [self.source], self.told)
            if self.folder is not None and self.shard and is_end:
                end_part(self.folder, "predict", self.shard)
