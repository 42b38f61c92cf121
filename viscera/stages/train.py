"""`viscera train`: from a Store to a Run."""

import contextlib
import logging
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

import torch

import viscera
from viscera.card.card_stage import refresh_card
from viscera.core.config import Config
from viscera.core.errors import BadInputError, LostDeviceError, RunFailedError, VisceraError
from viscera.core.progress import OnProgress, StopSignal, unseen
from viscera.core.settings import ANOTHER_MODEL, differences
from viscera.core.unused_settings import refuse_random_encoder, warn_of_settings
from viscera.engine.distributed import LostRankError, Ranks, joined, who_started
from viscera.engine.feed import Feed, TrainingFacts, cases_of, facts_of, feed_of, on_device, with_training_set
from viscera.engine.hardware import (
    choose_device,
    computes_bfloat16,
    describe_hardware,
    peak_memory_mib,
)
from viscera.engine.init_from import Source, begin_from, refuse_other_network, warn_of_other_voxels
from viscera.engine.monitor import Monitor
from viscera.engine.precision_probe import as_before, decided
from viscera.engine.trackers import refuse_missing_trackers, tracked
from viscera.engine.trained_model import build_network
from viscera.engine.trainer import Trainer
from viscera.engine.training_warnings import warn_of_late_schedule, warn_of_small_scans, warn_of_spent_rate
from viscera.engine.trust import TrainingRanges, least_confidence, most_entropy, save_ranges, training_ranges
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.disk.file_sets import finish
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import is_occupied, remove_leftovers, write_text
from viscera.io.handed_on import as_kept_in_run
from viscera.io.records import write_record, write_yaml
from viscera.io.remote.mirror_index import remove
from viscera.io.runlog import RunFolder, RunState, RunStatus, read_config
from viscera.io.started_from import StartedFrom
from viscera.io.store import Store
from viscera.io.training_data import TrainingData
from viscera.io.watched_cases import WatchedCases

log = logging.getLogger(__name__)


def train(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    store_path: Path,
    run_path: Path,  # new unless `resume`
    config: Config,  # its `train` and `predict` sections; `prepare` is the store's own
    *,
    resume: bool = False,  # go on from the last checkpoint, or start where there is none
    init_from: Path | None = None,  # a run whose weights a new one begins with
    stop: StopSignal | None = None,  # set it to end cleanly after the step in progress
    progress: OnProgress = unseen,  # called after each step
    of_study: bool = False,  # which has said of all its runs together which settings have no effect
) -> RunFolder:
    """Train one model, in this process, or in all that were started together (`engine.distributed`).

    Raises:
        BadInputError: no store, or one that changes; too few cases; a run that exists, or of other settings or cases.
        RunFailedError: non-finite loss, out of memory, a GPU that failed.
        InterruptedRunError: `stop` was set.
    """
    folder = RunFolder(run_path)
    with joined(config.train.device) as (ranks, device), contextlib.ExitStack() as held:
        given = _Given.checked(store_path, folder, config, ranks, device, resume=resume)
        has_weights = init_from is not None or folder.has_begun
        _check_settings(given.config, ranks, has_weights=has_weights, said=of_study)

        def begin() -> tuple[Config, Checkpoint | None, Source | None]:
            source = _source_of(init_from, folder, given)
            held.enter_context(exclusive(run_path))
            _refuse_folder(folder, given.started_by, resume=resume)  # another process may have just been here
            finish(run_path)
            remove_leftovers(run_path, {folder.last.name, folder.best.name})
            if given.started_by:
                write_text(folder.started_by, "\n".join(given.started_by))
            on = given.device if ranks.size == 1 else "cpu"  # what is passed on to other ranks
            checkpoint = load_checkpoint(folder.last, on) if folder.last.exists() else None
            config = _as_it_began(folder, checkpoint, given)
            if checkpoint is not None:
                _refuse_other_data(folder, checkpoint, given, config.train.iterations)
            return config, checkpoint, source

        config, checkpoint, source = ranks.of_first(begin)
        trainer = Trainer.create(config, given.facts, given.device, ranks)
        taken = _begun_from(source, trainer) if source else None
        if checkpoint is not None:
            trainer.restore(checkpoint, folder.last)
        with ranks.together():
            if ranks.is_first:
                _write_beginning(folder, trainer, given.store, source, taken)
        monitor = _monitor(given, config)
        trainer.with_last = partial(_remember_training_set, folder, given.store, monitor)
        _write_status(folder, trainer, "running")
        try:
            windows = on_device(given.feed, given.device, config.train.resident)
            with tracked(folder, config, trainer.step, here=ranks.is_first) as trainer.on_line:
                trainer.run(windows, monitor, folder, stop or Event(), progress)
        except VisceraError as error:
            with contextlib.suppress(BadInputError, RuntimeError):  # a GPU that is lost does not say its name
                _write_status(folder, trainer, *_stopped_by(error, folder, given))
            raise
        _finish(folder, given.store, trainer, monitor)
    return folder


def _monitor(given: "_Given", config: Config) -> Monitor:
    validation, labelled = cases_of(given.store, "validation")
    monitor = Monitor.create(given.feed, validation, config.train, config.predict, given.device, labelled)
    return replace(monitor, watched=given.watched)


def _check_settings(config: Config, ranks: Ranks, *, has_weights: bool, said: bool) -> None:
    with ranks.together():
        if ranks.is_first:
            refuse_random_encoder(config.train, has_weights=has_weights)
            refuse_missing_trackers(config.train.track)
            if not said:
                warn_of_settings([config], have_weights=has_weights)


def _source_of(init_from: Path | None, folder: RunFolder, given: "_Given") -> Source | None:
    """What a run begins with that has no weights of its own; what it cannot begin with is refused before it is made.

    One that was killed before its first checkpoint begins again as it began.
    """
    train = given.config.train
    if folder.last.exists():
        if init_from is not None:
            log.warning(
                "%s: it has begun already, and continues with its own weights, not with those of %s.",
                folder.path,
                init_from,
            )
        return None
    source = Source.of(init_from, folder)
    if source is not None:
        with torch.device("meta"):
            network = build_network(train, len(given.facts.classes))
        refuse_other_network(network, train, source)
        warn_of_other_voxels(source, given.facts.training_spacings_mm)
        source = source.held_against(given.store)
    return source


def _begun_from(source: Source, trainer: Trainer) -> StartedFrom:
    """Give a training that begins, and its average, the weights of another."""
    taken = begin_from(trainer.network, trainer.facts.classes, trainer.config.train, source)
    if trainer.average is not None:
        trainer.average.network.load_state_dict(trainer.network.state_dict())
    return taken


def _write_beginning(
    folder: RunFolder, trainer: Trainer, store: Store, source: Source | None, taken: StartedFrom | None
) -> None:
    """Before the first step: what is trained, on which data, and from which weights."""
    if source is not None and taken is not None:
        log.warning("%s", taken.text)
        source.remember(folder, taken)
    folder.keep_curve_until(trainer.step)
    write_yaml(folder.config_path, trainer.config.model_dump(mode="json"))
    data = TrainingData.of(store, trainer.config.train.fold)
    write_record(folder.training_data, data.model_dump(mode="json"))


class _Given(NamedTuple):
    """What a training is given, as it was found on every rank."""

    store: Store
    config: Config
    feed: Feed
    facts: TrainingFacts
    device: torch.device
    started_by: list[str]  # torchrun, on each node; empty without
    watched: WatchedCases

    @classmethod
    def checked(
        cls, store_path: Path, folder: RunFolder, config: Config, ranks: Ranks, device: str, *, resume: bool
    ) -> "_Given":
        """Raises BadInputError for what cannot be trained on, or is not the same on all ranks."""
        settings = ranks.of_first(lambda: config)  # that of a run that goes on lies where the first rank is
        started_by = sorted({each for each in ranks.gathered(who_started()) if each})
        with ranks.together():
            store = Store.open(store_path).of_fold(settings.train.fold)
            config = with_training_set(settings, store)
            feed = replace(feed_of(store, config.train), ranks=ranks)
            facts, device_found = facts_of(store, config), choose_device(device)
            if ranks.is_first:
                _refuse_folder(folder, started_by, resume=resume)
                warn_of_late_schedule(config)
                warn_of_small_scans(store, config.train.patch)
            own = ranks.own_of_node([*store.names("train"), *store.names("validation")])
            watched = WatchedCases(store, own)
            store.verify(own)
        ranks.refuse_unequal("the version of viscera", lambda: viscera.__version__)
        ranks.refuse_unequal("the store, by its checksum,", lambda: store.fingerprint)
        return cls(store, config, feed, facts, device_found, started_by, watched)


def _refuse_folder(folder: RunFolder, started_by: Sequence[str], *, resume: bool) -> None:
    """Raises BadInputError for a folder of something else, or a run that is not to go on.

    One that torchrun began on any of the nodes goes on when it starts the processes again, with whichever nodes there
    are then; unless it diverged: it would do so again.
    """
    began = folder.started_by.read_text().splitlines() if folder.started_by.exists() else []
    if set(began) & set(started_by):
        resume, status = True, folder.read_status()
        if status is not None and status.state == "failed":
            raise RunFailedError(status.message)
    if _is_foreign(folder):
        raise BadInputError(f"{folder.path}: this folder holds something that is not a run. Choose another folder.")
    if is_occupied(folder.path) and not resume:
        raise BadInputError(f"{folder.path}: this run exists. Resume it with --resume, or choose another folder.")
    if folder.fusion.exists():
        raise BadInputError(f"{folder.path}: several models as one (`viscera study --fuse`); it cannot be trained on.")


def _is_foreign(folder: RunFolder) -> bool:
    """Whether a folder holds files, and none that a run begins with; hidden ones may be of a run that was killed."""
    paths = {*folder.path.iterdir()} if folder.path.is_dir() else set()
    ours = {folder.config_path, folder.last, folder.started_from}
    return not paths & ours and any(not path.name.startswith(".") for path in paths)


def _finish(folder: RunFolder, store: Store, trainer: Trainer, monitor: Monitor) -> None:
    ranks = trainer.batch.ranks
    if is_lost := ranks.of_first(lambda: not folder.training_ranges.exists()):  # which came with the last checkpoint
        monitor.validation_dice(trainer.applied)
    if ranks.is_first:
        if is_lost:
            _remember_training_set(folder, store, monitor)
        remove(folder.source_path)
        _write_status(folder, trainer, "finished")
        refresh_card(folder.path, store.path, trainer.written)


def _remember_training_set(folder: RunFolder, store: Store, monitor: Monitor) -> None:
    """What later says which predictions not to trust."""
    found = monitor.held_out
    level = least_confidence([each.confidence for each in found], [each.dice for each in found])
    save_ranges(folder.training_ranges, TrainingRanges(training_ranges(store), level, most_entropy(found)))


def _as_it_began(folder: RunFolder, checkpoint: Checkpoint | None, given: _Given) -> Config:
    """The configuration with what is still to be decided decided, or as it was when the run began."""
    config, device = given.config, given.device
    before = checkpoint.config if checkpoint else None
    if before is None and folder.config_path.exists():  # killed before its first checkpoint
        before = read_config(folder.config_path)
    training = (
        as_before(config.train, before.train) if before else decided(config.train, len(given.facts.classes), device)
    )
    config = config.model_copy(update={"train": training})
    if before is not None:
        _refuse_other_settings(folder, before, config)
    warn_of_spent_rate(folder.path, training)
    if training.precision == "bfloat16" and not computes_bfloat16(device):
        log.warning(
            "%s: trains in bfloat16, which %s has no instructions for: many times slower than float32, which "
            "--set train.precision=float32 gives a new run.",
            *(folder.path, device),
        )
    return config


def _refuse_other_settings(folder: RunFolder, earlier: Config, config: Config) -> None:
    other = differences(earlier.train, config.train, ANOTHER_MODEL)
    if other:
        raise BadInputError(
            f"{folder.path}: trained with {', '.join(other)}. Give the same settings, or another folder."
        )


def _refuse_other_data(folder: RunFolder, checkpoint: Checkpoint, given: _Given, iterations: int) -> None:
    """Refuse training and validation cases that are not those so far, and fewer iterations than are done."""
    facts, data = given.facts, TrainingData.read(folder.training_data)
    then, now = ((each.class_voxel_counts.tolist(), each.training_spacings_mm) for each in (checkpoint, facts))
    if checkpoint.classes != facts.classes:
        raise BadInputError(
            f"{folder.path}: trained on {', '.join(checkpoint.classes.names)}; the store has "
            f"{', '.join(facts.classes.names)}. Give the store as it was, or train a new run."
        )
    if then != now:
        raise BadInputError(
            f"{folder.path}: trained on other training cases than the store has now ({len(then[1])} then, "
            f"{len(now[1])} now). Give the store as it was, or train a new run."
        )
    if data is not None and (unlike := data.unlike(given.store)):
        raise BadInputError(f"{folder.path}: {unlike}. Give the store as it was, or train a new run.")
    if checkpoint.step > iterations:
        raise BadInputError(
            f"{folder.path}: trained for {checkpoint.step} steps, more than the {iterations} asked for. "
            "Give more --iterations, or another folder."
        )


def _stopped_by(error: VisceraError, folder: RunFolder, given: _Given) -> tuple[RunState, str]:
    failed = isinstance(error, RunFailedError) and not isinstance(error, LostRankError | LostDeviceError)
    # else, as after a full disk or without a rank or a GPU, the run can go on
    return "failed" if failed else "interrupted", as_kept_in_run(str(error), folder.path, given.store.path)


def _write_status(folder: RunFolder, trainer: Trainer, state: RunState, message: str = "") -> None:
    status = RunStatus(
        state=state,
        step=trainer.step,
        iterations=trainer.config.train.iterations,
        message=message,
        wall_seconds=round(trainer.seconds, 2),
        device=str(trainer.device),
        hardware=describe_hardware(trainer.device),
        threads=torch.get_num_threads(),
        peak_memory_mib=round(peak_memory_mib(trainer.device), 1),
        versions={"viscera": viscera.__version__, "torch": torch.__version__, "python": platform.python_version()},
        training_voxel_counts=tuple(trainer.facts.class_voxel_counts.tolist()),
    )
    if trainer.batch.ranks.is_first:
        folder.write_status(status)
