"""The viewer's server: on this machine's loopback alone, until it is stopped."""

import errno
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.view.gallery import Gallery
from viscera.view.view_app import view_app

HOST = "127.0.0.1"
_MOST_AT_ONCE = 64  # connections
_QUIET_S = 30  # after which a connection that says nothing is closed


class ViewServer:
    """One gallery, served under an address that holds a random token."""

    def __init__(self, gallery: Gallery, port: int = 0, train: TrainConfig | None = None) -> None:
        """Take the port (0: any that is free); raises BadInputError where another program has it."""
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            view_app(gallery, self.token, train),
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_keep_alive=_QUIET_S,
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Give the port back without serving."""
        self._socket.close()

    @contextmanager
    def running(self) -> Iterator["ViewServer"]:
        """Serve from another thread, as long as the `with` lasts."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.should_exit = True
            thread.join(timeout=10)


def serve(
    gallery: Gallery,
    say: Callable[[str], None],
    *,
    port: int = 0,
    browser: bool = True,
    train: TrainConfig | None = None,
) -> None:
    """Serve a gallery until Ctrl-C, and open it in the browser; `say` is told the address.

    `train` says which patches of a store are shown; by default the paper's.
    """
    server = ViewServer(gallery, port, train)
    say(f"{server.url}\nOpen this address in a browser on this machine. Ctrl-C ends it.")
    if browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
    try:
        server.run()
    except KeyboardInterrupt:
        return
    finally:
        server.close()


def _has_screen() -> bool:
    """Whether a browser can open a window; without one, some would take over the terminal."""
    return sys.platform != "linux" or bool({"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys())


def _bound(port: int) -> socket.socket:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, port))
        taken.listen(_MOST_AT_ONCE)  # whoever comes before it serves waits
    except OSError as error:
        taken.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise BadInputError(
                f"port {port} is not available ({error.strerror}). Give another --port, or leave it out for any."
            ) from error
        raise
    return taken
