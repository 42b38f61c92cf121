"""Where the tasks of a study on Ray report and ask, wherever they run: on the node that the study was started on.

Neither this module nor what it imports loads PyTorch: the desk's process starts beside those that compute.
"""

import logging
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscera.core.progress import OnProgress, Progress
from viscera.engine.on_ray import ray_module
from viscera.io.files import write_bytes

if TYPE_CHECKING:
    from viscera.study.worker import News

DeskActor = Any  # a desk as Ray hands it out
_LOOK_S = 0.5


class Desk:
    """On the node that the study was started on: takes news, says when to stop, hands out the store's files."""

    def __init__(self, store: Path) -> None:
        self._store, self._news, self._stopped = store, list["News"](), False

    def tell(self, news: "News") -> None:
        """Note what a task says."""
        self._news.append(news)

    def take(self) -> "list[News]":
        """What was told since the last time."""
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Ask all tasks to end."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """Whether tasks are to end."""
        return self._stopped

    def read(self, file: str) -> bytes:
        """A file of the store, by its path in it."""
        return (self._store / file).read_bytes()

    def files_of(self, run: Path) -> dict[str, bytes]:
        """What there is of a run."""
        return files_in(run)


def files_in(folder: Path) -> dict[str, bytes]:
    """All files of a folder but hidden ones, by their path in it; none where there is no such folder."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what `files_in` gave, elsewhere."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, content)


def teller(desk: DeskActor) -> OnProgress:
    """On a task's node: progress, told at the desk."""

    def tell(at: Progress) -> None:
        desk.tell.remote(at)

    return tell


class LogToDesk(logging.Handler):
    """On a task's node: what is logged, told at the desk with the name of the node."""

    def __init__(self, desk: DeskActor) -> None:
        super().__init__()
        self._desk = desk

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        message = f"{socket.gethostname()}: {self.format(record)}"
        kept = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname, "msg": message}
        self._desk.tell.remote(logging.makeLogRecord(kept))


class StopOfDesk:
    """A `StopSignal` that asks the desk now and then."""

    def __init__(self, desk: DeskActor) -> None:
        self._stopped, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._look, args=(desk,), daemon=True).start()

    def is_set(self) -> bool:
        """Whether the study was stopped, or is gone."""
        return self._stopped.is_set()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _look(self, desk: DeskActor) -> None:
        ray = ray_module()
        while not self._ended.wait(_LOOK_S):
            try:
                stopped = ray.get(desk.is_stopped.remote())
            except ray.exceptions.RayError:  # the study's process is gone
                stopped = True
            if stopped:
                self._stopped.set()
                return
