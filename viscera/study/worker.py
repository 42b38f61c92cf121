"""One arm of a study, in a worker process."""

import logging
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path

import torch

from viscera.core.arms import Arm, arm_config
from viscera.core.config import Config
from viscera.core.errors import InterruptedRunError, RunFailedError
from viscera.engine.hardware import OUT_OF_MEMORY
from viscera.engine.trainer import Progress
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.stages.train import train
from viscera.study.elsewhere import refuse_unpredicted

_SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True)
class StudyEvent:
    """News of one arm, for the terminal.

    Attributes:
        arm: name; of a range test, the weighting's.
        seed: of the run.
        phase: "range test", "train", "predict", "done", "failed" or "note".
        done, total: steps or cases.
        loss: of the newest step, while training.
        message: why it failed, or the note.
    """

    arm: str
    seed: int
    phase: str
    done: int = 0
    total: int = 0
    loss: float = 0.0
    message: str = ""


class _Worker:
    """What a worker process was started with."""

    events: "Queue[StudyEvent]"
    stop: ProcessEvent
    parent: int

    @classmethod
    def is_set(cls) -> bool:
        """A `StopSignal`: the study was stopped, or its process is gone."""
        return cls.stop.is_set() or os.getppid() != cls.parent


class _LogToEvents(logging.Handler):
    """Warnings of the library become notes, so that the study's process shows them its way."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the message on."""
        _Worker.events.put(StudyEvent("", 0, "note", message=record.getMessage()))


def start_worker(events: "Queue[StudyEvent]", stop: ProcessEvent, threads: int) -> None:
    """Set up a worker process: where its news go, when it stops, how many threads it computes with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the study's process passes it on
    _Worker.events, _Worker.stop, _Worker.parent = events, stop, os.getppid()
    logging.basicConfig(handlers=[_LogToEvents()], level=logging.WARNING, force=True)
    torch.set_num_threads(threads)


def run_arm(folder: StudyFolder, store_path: Path, config: Config, arm: Arm, seed: int) -> None:
    """Train, predict and evaluate one arm; what is done already is not done again."""
    run = folder.run(arm, seed)
    own_config = arm_config(config, arm, seed)
    store = Store.open(store_path)
    names = store.names("test")
    last_event = 0.0

    def on_step(step: Progress) -> None:
        nonlocal last_event
        if time.monotonic() - last_event > _SECONDS_BETWEEN_EVENTS or step.step == step.iterations:
            last_event = time.monotonic()
            _Worker.events.put(StudyEvent(arm.name, seed, "train", step.step, step.iterations, step.loss))

    message = ""
    status = run.read_status()
    try:
        if status is not None and status.state == "failed" and OUT_OF_MEMORY not in status.message:
            message = status.message  # it would diverge at the same step again
        elif status is None or status.state != "finished" or status.step < config.train.iterations:
            if _Worker.is_set():
                return
            train(store_path, run.path, own_config, resume=True, stop=_Worker, progress=on_step)
    except RunFailedError as error:
        message = str(error)
    except InterruptedRunError:
        return

    def on_case(done: int, total: int, _name: str) -> None:
        _Worker.events.put(StudyEvent(arm.name, seed, "predict", done, total))

    if run.last.exists():
        predict_store(run.path, store, names, run.predictions, on_case)
    else:
        refuse_unpredicted(run, store)  # trained elsewhere, and copied here without its weights
    evaluate(run.predictions, store_path, run.scores, config.evaluate)
    _Worker.events.put(StudyEvent(arm.name, seed, "failed" if message else "done", message=message))
