"""The door to Ray: a cluster to connect to, and the cases of a command spread over it."""

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from tabulate import tabulate

import viscera
from viscera.core.errors import NODE, BadInputError, RunFailedError, VisceraError, first_line
from viscera.core.processes import item_name, show_log, wait_s, with_its_log

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 5  # of what is done on a node or by a process that is lost
NO_MODULE = re.compile(r"No module named '([^'.]+)")  # Ray gives a node's ImportError as text
_LOOK_S = 0.5
_ANSWER_S = 10.0  # for the connection to a cluster; Ray itself would wait minutes where nobody listens
_AHEAD = 2  # cases that are sent out, for each that can be worked on: few, so that the driver stays small


def ray_module() -> ModuleType:
    """Ray itself; raises BadInputError where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # or a cluster that is started here would report what it is used for
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.util.scheduling_strategies  # noqa: PLC0415
    except ImportError as error:
        raise BadInputError("Ray is not installed: pip install 'viscera[ray]', on all nodes.") from error
    return ray


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[ModuleType]:
    """Ray, connected to the cluster of an address (`auto`: of this machine; None: one is started here for as long).

    A connection that is there already is used, and stays. Raises BadInputError where nobody answers.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield ray
        return
    _refuse_unheard(os.environ.get("RAY_ADDRESS") or address if address == "auto" else address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        local = {} if address else {"include_dashboard": False}
        # `local`, or what RAY_ADDRESS or an earlier `ray start` name would be taken
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = f"no Ray cluster answers at {address}" if address else "no Ray cluster could be started on this machine"
        raise BadInputError(f"{what} ({first_line(error)}).") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_unheard(address: str | None) -> None:
    """Raise BadInputError where nobody listens at the `HOST:PORT` or `ray://HOST:PORT` of a cluster."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # `auto` looks on this machine; of others Ray says what is wrong
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise BadInputError(
            f"no Ray cluster answers at {address} ({first_line(error)}). Check it, and that `ray start` runs there."
        ) from error


def resources(ray: ModuleType, needs: dict[str, float], what: str, remedy: str) -> int:
    """How many things with such needs (`num_cpus`, `num_gpus`) the nodes can work on at a time.

    Raises BadInputError, which says `what` needs it and the remedy, where no node has them.
    """
    rooms, nodes = _rooms(ray, needs), _nodes(ray)
    if not any(rooms):
        cpus, gpus = (needs.get(name, 0) for name in ("num_cpus", "num_gpus"))
        has = "; ".join(f"{node.get('CPU', 0):g} processors and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise BadInputError(
            f"{what} needs {cpus:g} processors and {gpus:g} GPUs, and no node has them (there are {has}). {remedy}"
        )
    return sum(rooms)


def _rooms(ray: ModuleType, needs: dict[str, float]) -> list[int]:
    """How many things with such needs each node can work on at a time."""
    asked = [(resource, needs.get(name, 0)) for resource, name in (("CPU", "num_cpus"), ("GPU", "num_gpus"))]
    return [min(int(node.get(resource, 0) / need) for resource, need in asked if need) for node in _nodes(ray)]


class Patience:
    """With a cluster that has lost all nodes that could work: Ray itself would wait for others without end."""

    def __init__(self, ray: ModuleType, needs: dict[str, float]) -> None:
        self._ray, self._needs, self._since = ray, needs, time.monotonic()

    def look(self) -> None:
        """Raise RunFailedError where there has been no such node for `VISCERA_WAIT_S` seconds."""
        if any(_rooms(self._ray, self._needs)):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > wait_s():
            raise RunFailedError(
                f"for {wait_s():g} s the Ray cluster has had no node with what is needed "
                f"({self._needs.get('num_cpus', 0):g} processors and {self._needs.get('num_gpus', 0):g} GPUs). Start "
                "nodes, then run the same command again: what is done is kept."
            )


def most_gpus(ray: ModuleType) -> float:
    """Of a node."""
    return float(max(node.get("GPU", 0) for node in _nodes(ray)))


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    """What each node has, of those that live."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class NodeTally:
    """What each node of a cluster has done."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}  # by node, of each case

    def table(self) -> str:
        """A line for each node: how many cases, in which time."""
        rows = [(node, len(each), sum(each), sum(each) / len(each)) for node, each in sorted(self.seconds.items())]
        headers = ("node", "cases", "seconds in all", "seconds per case")
        return tabulate(rows, headers, floatfmt=".1f")


def for_each_on_ray(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    address: str | None,
    wants_gpu: bool = False,
    tally: NodeTally | None = None,
) -> Generator[Result, None, None]:
    """As `core.processes.for_each`, over a cluster whose nodes reach the same files; `tally` says what each node did.

    An item whose node or process is lost is done again elsewhere, up to `RETRIES` times; what was written of it then
    must be as good as nothing or as all. An item gets one processor, and where it wants one a GPU, if there is any.
    """
    with connected(address) as ray:
        needs = {"num_cpus": 1.0, "num_gpus": float(wants_gpu and most_gpus(ray) > 0)}
        room = resources(ray, needs, "a case", "Start nodes that have them.") * _AHEAD
        run = ray.remote(_on_a_node).options(**needs, max_retries=RETRIES, scheduling_strategy="SPREAD")
        coming, pending, names = iter(items), list[Any](), dict[Any, str]()
        shared, patience = ray.put(function), Patience(ray, needs)
        while True:
            for item in islice(coming, room - len(pending)):
                pending.append(run.remote(viscera.__version__, shared, item))
                names[pending[-1]] = item_name(item)
            if not pending:
                return
            done, pending = ray.wait(pending, timeout=_LOOK_S)
            if not done:
                patience.look()
            for reference in done:
                try:
                    node, seconds, (result, records) = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, VisceraError):
                        raise error.cause from None
                    raise of_node(ray, error) from error
                except ray.exceptions.RayError as error:
                    lost = f"its node or process was lost {RETRIES + 1} times ({first_line(error)})"
                    again = "Run the same command again: what is done is kept."
                    raise RunFailedError(f"{names[reference] or 'a case'}: {lost}. {again}") from error
                del names[reference]
                if tally is not None:
                    tally.seconds.setdefault(node, []).append(seconds)
                show_log(records)
                yield result


def _on_a_node(
    version: str, function: Callable[[Item], Result], item: Item
) -> tuple[str, float, tuple[Result, list[Any]]]:
    """Where it was done, how long it took, and as `with_its_log`; refused where viscera has another version."""
    started, node = time.perf_counter(), socket.gethostname()
    if viscera.__version__ != version:
        versions = f"version {viscera.__version__} of viscera, and this machine {version}"
        raise BadInputError(f"the node {node} has {versions}. Install the same.")
    before = NODE.set(node)
    try:
        found = with_its_log(function, item)
    finally:
        NODE.reset(before)
    return node, time.perf_counter() - started, found


def of_node(ray: ModuleType, error: Exception) -> BadInputError:
    """What Ray's error about a task means that could not be begun: the node differs from this machine."""
    cause = getattr(error, "cause", error)
    at = re.search(r"\bip=([^,)\s]+)", str(error))  # Ray keeps it nowhere else
    names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in ray.nodes()}
    node = f"the node {names.get(at[1], at[1])}" if at else "a node"
    wanted = f"viscera {viscera.__version__} with the packages that it has on this machine"
    if missing := NO_MODULE.search(str(cause)):
        return BadInputError(f"{missing[1]} is not installed on {node}. Install {wanted} there.")
    kind, said = type(cause).__name__, first_line(cause)
    return BadInputError(
        f"{node}: {said if said == kind else f'{kind}: {said}'}. It needs {wanted}, and the same files."
    )
