"""Several processes or threads where the machine has them, else this one: some machines limit both."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnContext
from typing import Any, Protocol, TypeVar, TypeVarTuple

from viscera.core.errors import RunFailedError
from viscera.core.machine_errors import is_out_of_threads
from viscera.core.progress import OnProgress, Progress

log = logging.getLogger(__name__)
_WAIT_S = 600
_ORPHAN_S = 300  # less than whoever comes next waits for (`io.disk.folder_lock.TURN_S`)
_MOST_READERS = 8  # threads that read files
Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


def usable_processors() -> set[int]:
    """The processors that this process may use, by number."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def wait_s() -> float:
    """Seconds that a process waits for others, of the same training or for a node, from `VISCERA_WAIT_S`."""
    said = os.environ.get("VISCERA_WAIT_S", "")
    return float(said) if said.replace(".", "", 1).isdigit() and float(said) > 0 else _WAIT_S


class Spread(Protocol):
    """What does something for every item, somewhere, and gives the results as they come: `for_each` is one."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Call the function on every item."""
        ...


def for_each(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Generator[Result, None, None]:
    """Call a function on every item, in up to `jobs` processes; the results come as they are ready.

    What it raises is raised here, and the rest is not begun; a process that was killed is a RunFailedError. Warnings
    that it logs are logged here. The processes end with this one, however it ends.
    """
    jobs = min(jobs, len(items))
    started = start_pool(jobs, _start_worker, lambda _context: (jobs,)) if jobs > 1 else None
    if started is None:
        yield from map(function, items)
        return
    with started[0] as pool:
        futures = [pool.submit(with_its_log, function, item) for item in items]
        try:
            for future in as_completed(futures):
                result, records = future.result()
                show_log(records)
                yield result
        except BaseException as error:
            at_work = names_at_work(futures, [item_name(item) for item in items], jobs)
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise RunFailedError(
                    f"A process was killed, most likely because memory ran out{at_work}. Run the same command again "
                    "with fewer --jobs; what was done so far is kept."
                ) from error
            raise


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result, None, None]:
    """Call a function on every item, in a few threads; the results in the order of the items.

    What it raises is raised here, and the rest is not begun. Where the machine starts no more threads all is done in
    this one, and some of it twice.
    """
    items = list(items)
    with ThreadPoolExecutor(threads or min(_MOST_READERS, len(usable_processors()))) as pool:
        try:
            results: Iterator[Result] = pool.map(function, items)
        except RuntimeError as error:
            if not is_out_of_threads(error):
                raise
            pool.shutdown(cancel_futures=True)
            results = map(function, items)
        yield from results


def item_name(item: object) -> str:
    """What messages call an item: the name that it has, or what it is made of; empty where there is none."""
    held = item if type(item) is tuple else (item,)
    found = (getattr(each, of, None) for each in held for of in ("case", "input_name", "name"))
    return next((name for name in found if isinstance(name, str)), "")


def names_at_work(futures: Sequence[Future[Any]], names: Sequence[str], jobs: int) -> str:
    """After a process was killed, what it may have worked on: the first that have no result, as they begin in order."""
    unfinished = [
        name
        for future, name in zip(futures, names, strict=True)
        if not future.done() or isinstance(future.exception(), BrokenProcessPool)
    ]
    named = " or ".join(filter(None, unfinished[:jobs]))
    return f", while it worked on {named}" if named else ""


class _Kept(QueueHandler):
    """Keeps what is logged, in a form that another process can be given."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        super().__init__(self.records)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def with_its_log(function: Callable[[Item], Result], item: Item) -> tuple[Result, list[logging.LogRecord]]:
    """In a process of several: the result, and what was logged, for the process that shows it."""
    kept = _Kept()
    logging.basicConfig(handlers=[kept], format="%(message)s", level=logging.WARNING, force=True)
    return function(item), kept.records


def show_log(records: Iterable[logging.LogRecord]) -> None:
    """Log here what was logged in another process."""
    for record in records:
        logging.getLogger(record.name).handle(record)


def watched(
    job: str,
    names: Sequence[str],
    outcomes: Iterator[Result],
    name_of: Callable[[Result], str],
    progress: OnProgress,
    *,
    in_order: bool,
) -> Iterator[Result]:
    """Outcomes as they come, saying before each what is done now, or last where several are; and at the end."""
    last = ""
    for done, name in enumerate(names):
        progress(Progress(job, done, len(names), name if in_order else last or name))
        outcome = next(outcomes)
        last = name_of(outcome)
        yield outcome
    progress(Progress(job, len(names), len(names)))


def _start_worker(jobs: int) -> None:
    """Share the processors with the other workers, and end when the process is gone that started them."""
    threads = max(1, len(usable_processors()) // jobs)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when PyTorch is loaded
    end_with_parent(threading.Lock())


def end_with_parent(at_work: threading.Lock) -> threading.Event:
    """End this process once the one that started it is gone, however that ended; the event says that it is.

    Whoever holds `at_work` then may put aside what it has, for `_ORPHAN_S` at most: files are whole at any moment.
    """
    gone = threading.Event()
    threading.Thread(target=_end_with_parent, args=(at_work, gone), daemon=True).start()
    return gone


def _end_with_parent(at_work: threading.Lock, gone: threading.Event) -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        gone.set()
        at_work.acquire(timeout=_ORPHAN_S)
        os._exit(1)


@contextmanager
def _unseen_by_new_processes() -> Iterator[None]:
    """Processes that begin within do not see Ctrl-C and a closed terminal; on Windows they do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_pool(
    jobs: int,
    initializer: Callable[[*Arguments], object],
    arguments: Callable[[SpawnContext], tuple[*Arguments]],
) -> tuple[ProcessPoolExecutor, tuple[*Arguments]] | None:
    """A pool whose processes have started; None, with a warning, where the machine does not allow that.

    The processes are spawned, because PyTorch's threads do not survive a fork, and neither Ctrl-C nor a closed terminal
    reaches them. Each begins with `initializer`, called with what `arguments` makes (queues and events fail where
    processes do), which is returned beside the pool.
    """
    try:
        context = get_context("spawn")
        shared = arguments(context)
        pool = ProcessPoolExecutor(jobs, context, initializer, shared)
        try:
            with _unseen_by_new_processes():
                started = [pool.submit(os.getpid) for _ in range(jobs)]
            for future in started:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    except (OSError, ImportError, NotImplementedError, RuntimeError) as error:
        log.warning(
            "Several processes are not available on this machine (%s): all work is done in this one.",
            " ".join(str(error).split()) or type(error).__name__,
        )
        return None
    return pool, shared
