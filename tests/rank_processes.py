"""Processes of this machine that train one model together, as torchrun starts them, but without it."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from tests.warm_processes import warm_context

WAIT_S = 60


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def as_rank(rank: int, size: int, port: int, wait_s: float = WAIT_S) -> None:
    """What torchrun sets."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ.update(address | {"WORLD_SIZE": str(size), "VISCERA_WAIT_S": str(wait_s)})


def start(function: Callable[..., None], size: int, *arguments: Any) -> list[int | None]:
    """Run a function in so many processes; their exit codes."""
    port = free_port()
    context = warm_context()
    processes = [context.Process(target=function, args=(rank, size, port, *arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * WAIT_S)
    return [process.exitcode for process in processes]
