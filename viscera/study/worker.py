"""One arm of a study, in a worker process."""

import logging
import os
import signal
import time
from dataclasses import replace
from logging.handlers import QueueHandler
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path

import torch

from viscera.core.arms import Arm, arm_config
from viscera.core.config import Config, EvaluateConfig
from viscera.core.errors import InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress
from viscera.engine.hardware import OUT_OF_MEMORY
from viscera.io.files import write_bytes
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.stages.train import train
from viscera.study.elsewhere import refuse_unpredicted

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_EVENTS = 0.5
News = Progress | logging.LogRecord  # what the study's process shows


class _Worker:
    """What a worker process was started with."""

    events: "Queue[News]"
    stop: ProcessEvent
    parent: int

    @classmethod
    def is_set(cls) -> bool:
        """A `StopSignal`: the study was stopped, or its process is gone."""
        return cls.stop.is_set() or os.getppid() != cls.parent


def start_worker(events: "Queue[News]", stop: ProcessEvent, threads: int) -> None:
    """Set up a worker process: where its news go, when it stops, how many threads it computes with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the study's process passes it on
    _Worker.events, _Worker.stop, _Worker.parent = events, stop, os.getppid()
    logging.basicConfig(handlers=[QueueHandler(events)], format="%(message)s", level=logging.WARNING, force=True)
    torch.set_num_threads(threads)


def run_arm(
    folder: StudyFolder, store_path: Path, config: Config, arm: Arm, seed: int, stages: tuple[int, ...] = ()
) -> None:
    """Train, predict and evaluate one arm; what is done already is not done again.

    Args:
        folder: the Study.
        store_path: its Store.
        config: of the Study.
        arm: which.
        seed: of the run.
        stages: iterations at which it is scored, ascending, the last that of `config`. The scores of all but the last
            are put aside before the training goes on.
    """
    run = folder.run(arm, seed)
    for iterations in stages[:-1]:
        status = run.read_status()
        is_past = status is not None and status.step > iterations
        if not is_past and not run.scores_at(iterations).exists():
            at_stage = config.model_copy(update={"train": config.train.model_copy(update={"iterations": iterations})})
            if not _run_to(run, store_path, at_stage, arm, seed):
                return
            write_bytes(run.scores_at(iterations), run.scores.read_bytes())
    _run_to(run, store_path, config, arm, seed, is_last=True)


def _run_to(run: RunFolder, store_path: Path, config: Config, arm: Arm, seed: int, is_last: bool = False) -> bool:
    """Bring one arm to the iterations of a configuration, and score it there; returns whether it came that far."""
    name = f"{arm.name} seed {seed}"
    message = _trained(run, store_path, config, arm, seed)
    if message is None:
        return False

    def on_case(at: Progress) -> None:
        _Worker.events.put(replace(at, job=f"{name} {at.job}"))

    store = Store.open(store_path)
    if config.study.fuse and is_last:
        score_validation(run, store, config.evaluate, on_case)
    if run.last.exists():
        predict_store(run.path, store, store.names("test"), run.predictions, on_case)
    else:
        refuse_unpredicted(run, store)  # trained elsewhere, and copied here without its weights
    evaluate(run.predictions, store_path, run.scores, config.study_evaluation)
    if is_last and message:
        log.warning("%s failed: %s", name, message)
    return True


def _trained(run: RunFolder, store_path: Path, config: Config, arm: Arm, seed: int) -> str | None:
    """Train one arm as far as it is not trained; returns why it failed, empty where it did not, None if stopped."""
    last_event = 0.0

    def on_step(at: Progress) -> None:
        nonlocal last_event
        if time.monotonic() - last_event > _SECONDS_BETWEEN_EVENTS or at.done == at.total:
            last_event = time.monotonic()
            _Worker.events.put(replace(at, job=f"{arm.name} seed {seed} {at.job}"))

    status = run.read_status()
    try:
        if status is not None and status.state == "failed" and OUT_OF_MEMORY not in status.message:
            return status.message  # it would diverge at the same step again
        if status is None or status.state != "finished" or status.step < config.train.iterations:
            if _Worker.is_set():
                return None
            own_config = arm_config(config, arm, seed)
            train(store_path, run.path, own_config, resume=True, stop=_Worker, progress=on_step)
    except RunFailedError as error:
        return str(error)
    except InterruptedRunError:
        return None
    return ""


def score_validation(run: RunFolder, store: Store, config: EvaluateConfig, on_case: OnProgress) -> None:
    """Predict the validation cases of one run, and score them by Dice on their scans' own grids."""
    predict_store(run.path, store, store.names("validation"), run.validation_predictions, on_case)
    whole_scans = EvaluateConfig(metrics=("dice",), grid="original", absent=config.absent)
    evaluate(run.validation_predictions, store.path, run.validation_scores, whole_scans, split="validation")
