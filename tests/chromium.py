"""Headless Chromium by its DevTools protocol: one browser, a page, what it shows and what its console says."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-port=0"),
)
_STARTS_WITHIN_S = 60
_NOTHING_S = 0.02  # that the socket is listened to for events alone
_KEYS = {"Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33, "PageDown": 34}


class Page:
    """A tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []  # errors and warnings of the console, exceptions, what could not be loaded
        self.requests: list[str] = []  # URLs that the page asked for
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are noted."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, url: str, until: str = "document.readyState === 'complete'", within_s: float = 60) -> None:
        """Load a page and wait until a condition holds in it."""
        self.call("Page.navigate", url=url)
        self.wait(until, within_s)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, of what it promises where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait(self, condition: str, within_s: float = 30) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(RuntimeError):  # the page is being exchanged for another
                if self.run(f"Boolean({condition})"):
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within_s} s: {condition}; console: {self.complaints}")
            time.sleep(0.03)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key and let go of it: a letter, a digit, or a name as `ArrowUp`; `modifiers` 2: with Ctrl."""
        code = _KEYS.get(key, ord(key.upper()[0]))
        about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        if len(key) == 1 and not modifiers:
            about["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in about.items() if k != "text"})

    def mouse(self, kind: str, x: float, y: float, buttons: int = 1) -> None:
        """`mousePressed`, `mouseMoved` or `mouseReleased` at a place of the page, in CSS pixels."""
        button = "left" if buttons else "none"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def drag(self, *points: tuple[float, float]) -> None:
        """With the left button held, from the first point over the others to the last."""
        self.mouse("mouseMoved", *points[0], buttons=0)
        self.mouse("mousePressed", *points[0])
        for point in points[1:]:
            self.mouse("mouseMoved", *point)
        self.mouse("mouseReleased", *points[-1])

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """How large the page's window is, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def heard(self) -> list[str]:
        """The complaints so far, with those that are under way."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._note(json.loads(self._socket.recv(timeout=_NOTHING_S)))
        return self.complaints

    def _note(self, event: dict[str, Any]) -> None:
        of, method = event.get("params", {}), event.get("method")
        if method == "Runtime.consoleAPICalled" and of["type"] in {"error", "warning", "assert"}:
            self.complaints.append(" ".join(str(a.get("value", a.get("description", ""))) for a in of["args"]))
        elif method == "Runtime.exceptionThrown":
            details = of["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and of["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"{of['entry']['text']} {of['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])


class Browser:
    """One Chromium with an empty profile."""

    def __init__(self, address: str, socket: ClientConnection) -> None:
        self._at, self._socket, self._number = address, socket, 0

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab, closed at the end."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        with connect(f"{self._at}/devtools/page/{target}", max_size=None) as socket:
            yield Page(socket)
        self.call("Target.closeTarget", targetId=target)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=60))).get("id") != self._number:
            pass
        result: dict[str, Any] = answer["result"]
        return result


@contextmanager
def browser(profile: Path, *more_flags: str) -> Iterator[Browser]:
    """Start Chromium with a profile of its own, which is empty; its process is gone at the end."""
    command = [str(CHROMIUM), *FLAGS, *more_flags, f"--user-data-dir={profile}", "about:blank"]
    with (profile.parent / f"{profile.name}.log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            address, path = _address(Path(log.name), process)
            with connect(address + path, max_size=None) as socket:
                started = Browser(address, socket)
                yield started
                with contextlib.suppress(Exception):
                    started.call("Browser.close")
            process.wait(timeout=20)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _address(log: Path, process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"DevTools listening on (ws://127\.0\.0\.1:\d+)(/\S+)", log.read_text(errors="replace"))
        if found:
            return found[1], found[2]
        time.sleep(0.05)
    raise RuntimeError(f"Chromium did not start: {log.read_text(errors='replace')[-500:]}")
