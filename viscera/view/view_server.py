"""The viewer's server: on this machine's loopback alone, until it is stopped."""

import asyncio
import contextlib
import errno
import logging
import os
import platform
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.view.gallery import Gallery
from viscera.view.view_app import view_app

HOST = "127.0.0.1"
_LEADING = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}"><title>viscera view</title></head>
<body><a href="{url}">viscera view</a></body></html>
"""
_MOST_AT_ONCE = 64  # connections
_QUIET_S = 30  # after which a connection that says nothing more is closed
_WHOLE_S = 10  # in which a request has to come, but for what it uploads
_FILE_S = 60  # for which the file is there that leads the browser to the page


class _Impatient(H11Protocol):
    """A connection that is closed where half a request has come and no more: few are served at once."""

    _seen: object = None
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to look at it now and then."""
        super().connection_made(transport)
        self._next_look = self.loop.call_later(_WHOLE_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more: what waits for it would keep all that the connection has."""
        super().connection_lost(exc)
        if self._next_look is not None:
            self._next_look.cancel()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self.cycle is self._seen:  # no request since the last look
            self.transport.close()
            return
        self._seen = self.cycle
        self._next_look = self.loop.call_later(_WHOLE_S, self._look)


class ViewServer:
    """One gallery, served under an address that holds a random token."""

    def __init__(self, gallery: Gallery, port: int = 0, train: TrainConfig | None = None) -> None:
        """Take the port (0: any that is free); raises BadInputError where another program has it."""
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            view_app(gallery, self.token, train),
            http=_Impatient,
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
    with contextlib.ExitStack() as files:
        files.callback(server.close)
        if browser and _has_screen() and (leading := files.enter_context(_leading_to(server.url))):
            threading.Thread(target=webbrowser.open, args=(leading,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.run()


@contextmanager
def _leading_to(url: str) -> Iterator[str]:
    """The address of a file, which this user alone can read, that leads a browser on to a URL; empty without a place.

    Everybody on a machine can read the command line by which a browser is started, and so would learn the token from it
    (Jupyter, pull request 4260). The file is gone after a minute. Browsers that are packed as snaps read files in the
    home folder alone, and none that are hidden.
    """
    if "microsoft" in platform.release().lower():  # Windows' browser, started from Linux, finds no such file
        yield url
        return
    for folder in (Path("~"), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, RuntimeError):
            descriptor, name = tempfile.mkstemp(".html", "viscera-view-", folder.expanduser())
            break
    else:
        yield ""
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_LEADING.format(url=url))
    path = Path(name)
    timer = threading.Timer(_FILE_S, path.unlink, kwargs={"missing_ok": True})
    timer.daemon = True
    timer.start()
    try:
        yield path.as_uri()
    finally:
        timer.cancel()
        path.unlink(missing_ok=True)


def _has_screen() -> bool:
    """Whether a browser can open a window; without one, some would take over the terminal."""
    return sys.platform != "linux" or bool({"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys())


def _exclusive() -> int:
    """What keeps others from the port: on Windows SO_REUSEADDR would let another program take it over."""
    return int(getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR))


def _bound(port: int) -> socket.socket:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # or no TCP_NODELAY
    try:
        taken.setsockopt(socket.SOL_SOCKET, _exclusive(), 1)
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
