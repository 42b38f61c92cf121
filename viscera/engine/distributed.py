"""One model trained by several processes, each with some windows of every mini-batch: the door to torch.distributed.

`torchrun`, or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the processes, the ranks. What they
compute is what one process would, to rounding, as everything that depends on a whole mini-batch is taken over the
windows of all: the sums of Eq. 2, the statistics of batch normalisation and the gradient. Every rank has the one loss
of the whole mini-batch; so the gradient is the sum of what the ranks' windows add to it, and not a mean.
"""

import contextlib
import datetime as dt
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from viscera.core.errors import BadInputError, DefectError, RunFailedError, VisceraError, first_line
from viscera.core.processes import wait_s

Value = TypeVar("Value")
_LOOK_AGAIN_S = 0.02


class LostRankError(RunFailedError):
    """Another process of a training has ended, or does not answer; the last checkpoint is kept, and can be resumed."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this one is."""

    rank: int = 0
    size: int = 1
    of_node: tuple[int, int] = (0, 1)  # which of how many on this node

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and reports."""
        return self.rank == 0

    def own(self, number: int) -> slice:
        """Which of so many things in order are this rank's: as many as another's, or one more."""
        return slice(number * self.rank // self.size, number * (self.rank + 1) // self.size)

    def own_of_node(self, things: Sequence[Value]) -> list[Value]:
        """Those that this rank looks at, where each node looks at all."""
        rank, size = self.of_node
        return list(things[rank::size])

    def add_up(self, numbers: Tensor) -> Tensor:
        """Replace numbers by their sums over the ranks: one all-reduce."""
        if self.size > 1:
            with _explained():
                dist.all_reduce(numbers)
        return numbers

    def counted(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Whole numbers, added up over the ranks."""
        return self.add_up(torch.from_numpy(counts.copy())).numpy()

    def gathered(self, value: Value) -> list[Value]:
        """What each rank has, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _explained():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes, on all of them; what it raises is raised on all."""
        if self.size == 1:
            return make()
        made: list[Any] = [None]
        with self.together():
            if self.is_first:
                made[0] = make()
        with _explained():
            dist.broadcast_object_list(made)
        value: Value = made[0]
        return value

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """End all ranks where one of them fails in what is done here, with a sentence that says which."""
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            if self.size == 1:
                raise
            error = caught
        failures = self.gathered(_told(error))
        if error is not None:
            raise error
        for rank, failure in enumerate(failures):
            if failure is not None:
                host, kind, message = failure
                raise kind(f"process {rank} of {self.size}, on {host}: {message}")

    def refuse_unequal(self, what: str, look: Callable[[], object]) -> None:
        """Raise BadInputError, which says on which nodes, where ranks see different values; one alone does not look."""
        if self.size == 1:
            return
        value = look()
        here = f"{value} on {socket.gethostname()} (process {self.rank})"
        found = self.gathered((value, here))
        other = next((said for each, said in found if each != found[0][0]), None)
        if other is not None:
            raise BadInputError(f"{what}: {found[0][1]}, but {other}. All processes of a training need the same.")


ALONE = Ranks()  # one process


def _told(error: Exception | None) -> tuple[str, type[VisceraError], str] | None:
    """What others are told of an error: node, kind and sentence."""
    if error is None:
        return None
    kind = type(error) if isinstance(error, VisceraError) else DefectError
    return socket.gethostname(), kind, str(error) or type(error).__name__


class WholeBatch:
    """What a training asks the other ranks about the mini-batch that they share; asks nobody where it is alone."""

    def __init__(self, ranks: Ranks, windows: int) -> None:
        self.ranks, self.windows = ranks, windows  # windows: of all ranks

    @property
    def is_shared(self) -> bool:
        """Whether other ranks have a part."""
        return self.ranks.size > 1

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Compute what follows without the others."""
        ranks, self.ranks = self.ranks, ALONE
        try:
            yield
        finally:
            self.ranks = ranks

    def dice_sums(
        self, intersection_bL: Tensor, cardinality_bL: Tensor, labelled_bL: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Those of Eq. 2 of all windows, and which classes each labels: `WeightedDiceLoss.whole_batch`.

        One all-reduce, differentiable: the gradient is this rank's part of that of the one loss which all ranks have.
        """
        if not self.is_shared:
            return intersection_bL, cardinality_bL, labelled_bL
        known_bL = torch.ones_like(intersection_bL) if labelled_bL is None else labelled_bL.to(intersection_bL.dtype)
        own_b3L = torch.stack([intersection_bL, cardinality_bL, known_bL], dim=1)
        intersection_BL, cardinality_BL, known_BL = _Rows.apply(own_b3L, self).unbind(1)  # type: ignore[no-untyped-call]
        labelled_BL = known_BL > 0
        return intersection_BL, cardinality_BL, None if labelled_BL.all() else labelled_BL

    def sum_gradients(self, parameters: Sequence[Tensor], says: float = 0.0) -> float:
        """Add up the gradients over the ranks in one all-reduce; returns the sum of what each rank `says` beside."""
        gradients = [each.grad for each in parameters if each.grad is not None]
        if not self.is_shared or not gradients:
            return says
        beside = gradients[0].new_tensor([says])
        flat = self.ranks.add_up(torch.cat([*(each.reshape(-1) for each in gradients), beside]))
        at = 0
        for each in gradients:
            each.copy_(flat[at : at + each.numel()].view(each.shape))
            at += each.numel()
        return float(flat[at])


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, batch: WholeBatch) -> Tensor:  # noqa: ANN401 - of PyTorch
        ctx.own = batch.ranks.own(batch.windows)
        whole = own.new_zeros((batch.windows, *own.shape[1:]))
        whole[ctx.own] = own
        return batch.ranks.add_up(whole)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - of PyTorch
        return gradient[ctx.own], None


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """The ranks that were started together, and this rank's device of that name; `ALONE` where it is.

    Raises BadInputError where the others do not answer, or the variables that name them make no sense.
    """
    if _number("WORLD_SIZE", default=1) == 1:
        yield ALONE, device
        return
    of_node = _number("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", default=0)
    on_node = _number("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", default=1)
    if device in {"auto", "cuda"} and torch.cuda.is_available():
        if of_node >= torch.cuda.device_count():
            raise BadInputError(
                f"process {of_node} of a node that has {torch.cuda.device_count()} GPUs, {socket.gethostname()}: start "
                "one process for each GPU."
            )
        device = f"cuda:{of_node}"
        torch.cuda.set_device(device)
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # or the process would be aborted after waiting in vain
    backend, patience = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", dt.timedelta(seconds=wait_s())
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=patience))  # type: ignore[attr-defined]
        own = dist.PrefixStore(_meeting(store, rank, size), store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=patience)
    except (RuntimeError, ValueError) as error:
        raise BadInputError(
            f"the other processes of this training do not answer at {address} within {wait_s():g} s "
            f"({first_line(error)}). Are MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE right on all nodes?"
        ) from error
    try:
        yield Ranks(rank, size, (of_node, max(on_node, of_node + 1))), device
    finally:
        with contextlib.suppress(RuntimeError):  # of a group that is broken already
            dist.destroy_process_group()


def who_started() -> str:
    """Which torchrun of which node started this process, and will again where one is lost; empty without it.

    A later one is another, even if its number is the same, as it is in every container.
    """
    name, agent = os.environ.get("TORCHELASTIC_RUN_ID", ""), os.getppid()
    return f"{name} {socket.gethostname()} {agent} {_began(agent)}".strip() if name else ""


def _began(process: int) -> str:
    """When a process was started, in ticks since the machine was (proc_pid_stat(5), field 22); empty if unknown."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return ""


def _number(*names: str, default: int) -> int:
    """The first environment variable of these that is set; raises BadInputError where it is no whole number."""
    for name in names:
        said = os.environ.get(name, "")
        if said and not said.isdigit():
            raise BadInputError(f"{name}={said}: a whole number was expected, as torchrun sets it.")
        if said:
            return int(said)
    return default


def _meeting(store: Any, rank: int, size: int) -> str:  # noqa: ANN401 - a store of torch.distributed
    """A name that the ranks of this start agree on: torchrun's store may still hold what those before them wrote.

    Each rank but the first shows a number of its own until it is answered; what nobody waits for is answered in vain.
    """
    deadline, number = time.monotonic() + wait_s(), secrets.token_hex(8)

    def look(key: str) -> str:
        return str(store.get(key).decode()) if store.check([key]) else ""

    if rank > 0:
        store.set(f"asking/{rank}", number)
        while not (name := look(f"answer/{number}")):
            _refuse_late(deadline)
        store.set(f"met/{name}/{rank}", "yes")
        return name
    missing = set(range(1, size))
    while missing:
        for other in missing:
            if asked := look(f"asking/{other}"):
                store.set(f"answer/{asked}", number)
        missing = {other for other in missing if not look(f"met/{number}/{other}")}
        _refuse_late(deadline)
    return number


def _refuse_late(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError("not all of them came")
    time.sleep(_LOOK_AGAIN_S)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Where another rank has ended or does not answer, say so."""
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"another process of this training has ended, or has not answered for {wait_s():g} s "
            f"({first_line(error)}). The last checkpoint is kept: start all of them again with --resume."
        ) from error
