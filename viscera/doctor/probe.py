"""The probe of a run's failures: confusion between classes, statistics of batch normalisation, and the last layer."""

import logging
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

import viscera
from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.doctor.head_refit import STEPS, with_refitted_head
from viscera.doctor.probe_record import Probe, Refit, StatisticsScores, read_probe, write_probe
from viscera.engine.feed import Feed, feed_of
from viscera.engine.hardware import choose_device, number_format, out_of_memory_explained, precision_to_predict
from viscera.engine.monitor import Monitor
from viscera.engine.sliding_window import probability_planes
from viscera.engine.trained_model import trained_network
from viscera.imaging.most_probable import most_probable
from viscera.io.checkpoint import Checkpoint, load_with_checksum
from viscera.io.remote.mirror_index import address_of, mirror_of
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.splits import evenly_spread
from viscera.io.store import Store
from viscera.io.stored_cases import StoredCases
from viscera.io.training_data import was_trained_on
from viscera.metrics.confusion import Confusion
from viscera.metrics.overlap import as_labelled, confusion_matrix
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)
_MOST_CASES = 12  # evenly over those that there are
_WINDOWS = 48  # that the statistics are compared on
_REFIT_SEED = 2**31 + 1  # of windows that no training has seen in this order
Part = Literal["validation", "train"]


def _study_of(run: Path) -> StudyFolder:
    """The study that a run belongs to, if any: `STUDY/arms/ARM/seed_S`."""
    return StudyFolder((run.absolute() / "../../..").resolve())


def is_store_known(run: Path) -> bool:
    """Whether a run says what store it was trained on: one of a study does."""
    return _study_of(run).record_path.exists()


class Probed(NamedTuple):
    """A probe, or in a sentence why there is none; empty where none was wanted."""

    probe: Probe | None
    why_not: str = ""


def probe_where_possible(
    run: Path, store: Path | None, *, device: str = "auto", wanted: bool = True, progress: OnProgress = unseen
) -> Probed:
    """The probe of a run: made with a store that is given, or with that of its study; else as it was kept.

    Raises BadInputError where a store is given and the probe cannot be made with it.
    """
    if wanted and store is not None:
        return Probed(probe_run(run, store, device=device, progress=progress))
    outdated = ""
    try:
        if (found := read_probe(RunFolder(run))) is not None:
            return Probed(found)
    except BadInputError as error:
        outdated = str(error)
    if not wanted:
        return Probed(None, outdated)
    how = f"`viscera doctor {run} --store STORE` says which class the voxels of each class are called, and why."
    try:
        if is_store_known(run):
            of_study = mirror_of(_study_of(run).read_record().store)
            return Probed(probe_run(run, of_study, device=device, progress=progress))
    except (BadInputError, RunFailedError) as error:
        return Probed(None, f"{error} {how}")
    return Probed(None, outdated or how)


def probe_run(run: Path, store_path: Path, *, device: str = "auto", progress: OnProgress = unseen) -> Probe:
    """Probe the last checkpoint of a run on its validation cases, or where there are none on training cases.

    Two predictions of at most `_MOST_CASES` cases, one at a time, and `STEPS` steps of the last layer; none of it
    changes the run's weights. What was found of the same checkpoint and store before is returned as it is. It is kept
    in `probe.json`, unless the run cannot be written to or lies at a URL.

    Raises BadInputError for no run, and a store that is not the one that it was trained on.
    """
    folder = RunFolder(run)
    checkpoint, checksum = load_with_checksum(folder.last)
    store = Store.open(store_path).of_fold(checkpoint.config.train.fold)
    store.refuse_other_classes(run, checkpoint.classes)
    if not was_trained_on(folder, checkpoint, store):
        raise BadInputError(
            f"{store.path}: its training cases are not those of {run}. Give the store that it was trained on, with "
            "--store."
        )
    before = _kept(folder)
    if before is not None and (before.sha256, before.store_fingerprint) == (checksum, store.fingerprint):
        return before
    part: Part = "validation" if store.names("validation") else "train"
    names = evenly_spread(store.names(part), _MOST_CASES)
    store.verify(names)
    subject = _Subject.of(folder.last, checkpoint, store, names, choose_device(device))
    with out_of_memory_explained("Probe it on a machine with more memory."):
        found = _found(subject, progress)
    confusion, statistics, refit = found
    probe = Probe(
        viscera=viscera.__version__,
        sha256=checksum,
        step=checkpoint.step,
        store_fingerprint=store.fingerprint,
        split=part,
        cases=len(names),
        of_cases=len(store.names(part)),
        classes=store.classes.names,
        voxels=tuple(tuple(row) for row in confusion.voxels.tolist()),
        statistics=statistics,
        refit=refit,
    )
    _keep(folder, probe)
    return probe


def _kept(folder: RunFolder) -> Probe | None:
    try:
        return read_probe(folder)
    except BadInputError:  # of an earlier state, or damaged: made anew
        return None


def _keep(folder: RunFolder, probe: Probe) -> None:
    if address_of(folder.path) != str(folder.path):
        log.warning(
            "%s: this run lies at a URL, to which `doctor` writes nothing; what was found is not kept.", folder.path
        )
        return
    try:
        write_probe(folder, probe)
    except BadInputError as error:
        log.warning("%s So what was found is not kept.", error)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is probed, and on what."""

    network: UNet3D  # in evaluation mode
    train: TrainConfig  # with the precision of this device
    predict: PredictConfig
    store: Store
    names: list[str]
    device: torch.device

    @classmethod
    def of(cls, path: Path, checkpoint: Checkpoint, store: Store, names: list[str], device: torch.device) -> "_Subject":
        train = checkpoint.config.train
        train = train.model_copy(update={"precision": precision_to_predict(train.precision, device)})
        with torch.random.fork_rng(devices=[]):
            network = trained_network(checkpoint, path)
        return cls(network.to(device).eval(), train, checkpoint.config.predict, store, names, device)

    def confusion(self, network: UNet3D, told: "_Steps") -> Confusion:
        """Of all cases, on the prepared grid, one at a time and plane by plane."""
        applied: nn.Module = network
        if self.train.network.normalises_batches:
            applied = FoldedUNet3D(network, number_format(self.device, self.train.precision)).eval()
        total = np.zeros((len(self.store.classes),) * 2, dtype=np.int64)
        for name, labelled_L in zip(self.names, self.store.labelled(self.names), strict=True):
            told.begin(name)
            planes = probability_planes(applied, self.store.image(name), self.train, self.predict, self.device)
            labels = np.stack([most_probable(plane).label.numpy() for plane in planes], axis=-1)
            labels = labels if labelled_L.all() else as_labelled(labels, labelled_L)
            total += confusion_matrix(labels, np.asarray(self.store.labels(name)), len(self.store.classes))
        return Confusion.of_matrix(total, self.store.classes)

    def training_windows(self) -> Feed:
        """Those of its training, without augmentation."""
        return replace(feed_of(self.store, self.train), augment=None)

    def own_windows(self) -> Feed:
        """Windows of the probed cases, as many in a batch as in training; of few cases some give several of these."""
        numbers = [n for _ in range(-(-self.train.batch_size // len(self.names))) for n in range(len(self.names))]
        cases, labelled = StoredCases(self.store, self.names), self.store.labelled(self.names)[numbers]
        repeated = [cases[number] for number in numbers]
        feed = Feed(repeated, self.train.patch, self.train.batch_size, seed=0, classes=self.store.classes)
        return replace(feed, labelled=None if labelled.all() else labelled)

    def statistics(self) -> StatisticsScores | None:
        """The same weights on the same windows by each kind of statistics."""
        if not self.train.network.normalises_batches:
            return None
        more = self.train.model_copy(update={"monitor_windows": _WINDOWS})
        measured = Monitor.create(self.own_windows(), (), more, self.predict, self.device)
        network, names = deepcopy(self.network), self.store.classes.names
        as_kept, by_batch = measured.training_dice(network), measured.batch_statistics_dice(network, keep=False)
        recomputed, keeps_running = as_kept, self.train.batch_norm == "running"
        if keeps_running:
            fixed = Monitor.create(self.training_windows(), (), self.train, self.predict, self.device)
            fixed.batch_statistics_dice(network, keep=True)
            recomputed = measured.training_dice(network)
        return StatisticsScores(
            windows=sum(len(batch.hu) for batch in measured.windows),
            batch_size=self.train.batch_size,
            running=tuple(map(as_kept.get, names)) if keeps_running else None,
            recomputed=tuple(map(recomputed.get, names)),
            batch=tuple(map(by_batch.get, names)),
        )


def _found(subject: _Subject, progress: OnProgress) -> tuple[Confusion, StatisticsScores | None, Refit]:
    told = _Steps(progress, 2 * len(subject.names) + STEPS + 1)
    confusion = subject.confusion(subject.network, told)
    told.begin("statistics of batch normalisation")
    statistics = subject.statistics()
    feed = replace(subject.training_windows(), seed=_REFIT_SEED)
    refitted = with_refitted_head(
        subject.network, feed, subject.train, subject.device, lambda step: told.begin(f"last layer, step {step}")
    )
    again = subject.confusion(refitted, told)
    told.begin("")
    names = subject.store.classes.names
    before, after = (tuple(each.outcomes[name].dice for name in names) for each in (confusion, again))
    return confusion, statistics, Refit(steps=STEPS, before=before, after=after)


@dataclass
class _Steps:
    """Tells how far it is: before each case, and after each step of the last layer."""

    progress: OnProgress
    total: int
    done: int = -1

    def begin(self, what: str) -> None:
        """Something begins, and what was before it is done."""
        self.done += 1
        self.progress(Progress("probe", min(self.done, self.total), self.total, what))
