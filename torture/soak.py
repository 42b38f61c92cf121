"""Long runs in one process: 2,000 steps of training, 500 predictions, 10,000 requests to the viewer's server.

Memory, open files and threads are looked at now and then, and must not rise: the slope of Theil and Sen (the median of
the slopes between all pairs, which a few odd values do not move), after a warm-up, with its confidence interval.
"""

import ctypes
import gc
import http.client
import itertools
import json
import random
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.stats import theilslopes

from torture.outcome import Outcome
from viscera.core.config import Config, PrepareConfig
from viscera.core.progress import Progress
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery
from viscera.view.view_server import ViewServer

STEPS, PREDICTIONS, REQUESTS = 2_000, 500, 10_000
SAMPLES = 40
_WARM_UP = 0.3  # share of the samples: caches fill, the allocator takes what it will need
_CONFIDENCE = 0.99
# Bytes of one more that count as a leak. They lie above what the allocator's fragments do to a flat line (a step +43, a
# prediction -207, a request +73 in the first whole run), and below what anybody would notice: 10,000 steps, as of the
# paper, 1,000 scans, or 10,000 requests would take 10 MiB more at most.
BYTES: Mapping[str, float] = {"step": 2**10, "prediction": 8 * 2**10, "request": 512}
_PER_THOUSAND = 1e-3  # open files or threads of one more: one in a thousand
_TRAIN = {
    "device": "cpu",
    "patch": 8,
    "batch_size": 2,
    "filters": 2,
    "levels": 2,
    "monitor_windows": 2,
    "average": 0.99,
    "augment": {"enabled": True},
    "validate_every": 250,
    "log_every": 50,
    "checkpoint_every": 100,
}


class Sample(NamedTuple):
    """What this process has, after so many of what is done."""

    at: int
    own_bytes: float  # memory of no file: of one that other processes map as well, they decide what is private
    files: float  # open
    threads: float


class Slope(NamedTuple):
    """A rise by one more, with its confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, at: Sequence[float], values: Sequence[float]) -> "Slope":
        """Of samples, without the first that warm up."""
        first = int(len(at) * _WARM_UP)
        found = theilslopes(values[first:], at[first:], _CONFIDENCE)
        return cls(float(found.slope), float(found.low_slope), float(found.high_slope))

    def rises_by(self, most: float) -> bool:
        """Whether it is more than that, and no chance."""
        return self.low > 0 and self.value > most


def sample(at: int) -> Sample:
    """Look at this process, once what nobody needs is given back (Linux)."""
    gc.collect()
    with suppress(OSError, AttributeError):  # where the C library is not GNU's
        ctypes.CDLL(None).malloc_trim(0)
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    own = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Anonymous:", "Swap:")))
    files, threads = (sum(1 for _ in Path(f"/proc/self/{each}").iterdir()) for each in ("fd", "task"))
    return Sample(at, own * 1024, files, threads)


def series(work: Callable[[int], object], number: int, samples: int = SAMPLES) -> list[Sample]:
    """Do something so often, and look at this process so often meanwhile."""
    every, found = max(1, number // samples), []
    for at in range(1, number + 1):
        work(at)
        if at % every == 0:
            found.append(sample(at))
    return found


def rising(samples: Sequence[Sample], of: str) -> tuple[list[str], str]:
    """What rises, in sentences, and the slopes, for the page."""
    at = [each.at for each in samples]
    memory, files, threads = (Slope.of(at, [each[column] for each in samples]) for column in (1, 2, 3))
    wrong = []
    if memory.rises_by(BYTES[of]):
        wrong.append(f"memory rises by {memory.value:,.0f} bytes per {of} ({memory.low:,.0f} to {memory.high:,.0f})")
    for slope, what in ((files, "open files rise"), (threads, "threads rise")):
        if slope.rises_by(_PER_THOUSAND):
            wrong.append(f"{what} by {slope.value:.3f} per {of}")
    said = f"{memory.value:+,.0f} bytes ({memory.low:+,.0f} to {memory.high:+,.0f})"
    return wrong, f"{said}, {files.value:+.3g} files, {threads.value:+.3g} threads"


# --- what is done


def trained(store: Path, run: Path, steps: int, samples: int = SAMPLES) -> list[Sample]:
    """Train in this process."""
    found: list[Sample] = []
    every = max(1, steps // samples)

    def on_step(progress: Progress) -> None:
        if progress.job == "train" and progress.done % every == 0:
            found.append(sample(progress.done))

    train(store, run, Config.model_validate({"train": {**_TRAIN, "iterations": steps}}), progress=on_step)
    return found


def predicted(run: Path, scan: Path, out: Path, number: int, samples: int = SAMPLES) -> list[Sample]:
    """Predict a scan again and again, with all files, as a command does."""
    formats = ["nifti", "probabilities", "entropy"]

    def one(at: int) -> None:
        predict(run, scan, out / str(at % 3), formats=formats, device="cpu", overwrite=True)
        for path in (out / str(at % 3)).iterdir():  # else it is kept
            path.unlink()

    return series(one, number, samples)


class Browser:
    """Sends requests of every kind, those that are answered and those that are refused."""

    def __init__(self, results: ViewServer, store: ViewServer, order: random.Random) -> None:
        self.results, self.store, self.order = results, store, order
        self.answers = Counter[int]()  # by status
        self._kinds = itertools.cycle([self.valid] * 5 + [self.patches, self.invalid, self.broken, self.upload])
        self._kept = {id(server): http.client.HTTPConnection("127.0.0.1", server.port) for server in (results, store)}

    def one(self, at: int) -> None:
        """One of them."""
        if at % 100 == 0:
            self.correction(at)
        else:
            next(self._kinds)()

    def valid(self) -> None:
        """A file of the page, or what it asks for."""
        number, layer = self.order.randrange(2), self.order.randrange(2)
        pages = ["", "viewer.css", "viewer.js", "pen.js", "icon.svg", "niivue_calls.js"]
        layers = [f"api/cases/{number}/labels/{layer}{what}" for what in ("", "/organs", "/surfaces", "/difference")]
        asked = [*pages, "api/gallery", f"api/cases/{number}", f"api/cases/{number}/scan", *layers]
        self.ask(self.results, self.order.choice(asked))

    def patches(self) -> None:
        """What a store alone has."""
        step = self.order.randrange(200)
        self.ask(self.store, self.order.choice([f"api/patches?step={step}", "api/cases/0/coverage?steps=5"]))

    def invalid(self) -> None:
        """What is refused."""
        asked = ["api/cases/99", "api/cases/-1", "api/cases/0/labels/9", "api/patches?step=x", "../../etc/passwd"]
        asked += ["%2e%2e/%2e%2e/etc/passwd", "api/cases/99999999999", "nothing", "api/cases/0/labels/0/correction"]
        server = self.order.choice([self.results, self.store])
        headers = self.order.choice([{}, {}, {}, {"Host": "example.org"}, {"Origin": "http://example.org"}])
        method = self.order.choice(["GET"] * 6 + ["HEAD", "PUT", "DELETE", "OPTIONS"])
        token = self.order.choice([server.token, server.token, "wrong"])
        self.ask(server, self.order.choice(asked), method, headers, token=token)

    def broken(self) -> None:
        """Half a request, or no request at all; the connection is closed."""
        said = [
            b"",
            b"GET /",
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nab",
        ]
        with socket.create_connection(("127.0.0.1", self.results.port), timeout=20) as sent:
            sent.sendall(self.order.choice(said))
        self.answers[0] += 1

    def upload(self) -> None:
        """A correction that is none."""
        about = json.dumps({"who": "Ada"}).encode()
        bad = [b"", b"\xff" * 40, struct.pack("<I", len(about)) + about + bytes(7), bytes(2**20)]
        self._post(self.order.choice(bad))

    def correction(self, at: int) -> None:
        """The label map that is shown, but for one voxel."""
        labels = bytearray(self.ask(self.results, "api/cases/0/labels/0"))
        voxel = at % len(labels)
        labels[voxel] = (labels[voxel] + 1) % 8
        about = json.dumps({"who": "Ada", "note": str(at)}).encode()
        self._post(struct.pack("<I", len(about)) + about + bytes(labels))

    def _post(self, content: bytes) -> None:
        own = {"Origin": f"http://127.0.0.1:{self.results.port}"}
        self.ask(self.results, "api/cases/0/labels/0/correction", "POST", own, content)

    def ask(
        self,
        server: ViewServer,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        token: str = "",
    ) -> bytes:
        """One request over the connection that is kept, or, each tenth, over one of its own; what is answered."""
        is_kept = self.order.random() < 0.9 and content is None
        connection = self._kept[id(server)] if is_kept else http.client.HTTPConnection("127.0.0.1", server.port)
        connection.timeout = 60
        try:
            connection.request(method, f"/{token or server.token}/{path}", content, dict(headers or {}))
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):  # the server has closed it, as it may
            self.answers[0] += 1
            connection.close()
            return b"\0"
        self.answers[answer.status] += 1
        if not is_kept:
            connection.close()
        return said

    def close(self) -> None:
        """Hang up."""
        for connection in self._kept.values():
            connection.close()


@contextmanager
def browsing(results: Path, store: Path, references: Path, seed: int) -> Iterator[Browser]:
    """A browser beside two servers: of predictions with their references, and of a store."""
    beside = Beside(references=references, scans=references / "imagesTr")
    first, second = ViewServer(open_gallery(results, beside)), ViewServer(open_gallery(store))
    with first.running(), second.running():
        browser = Browser(first, second, random.Random(seed))
        try:
            yield browser
        finally:
            browser.close()


def grounds(folder: Path) -> tuple[Path, Path]:
    """A data set of four phantoms and the store of it."""
    make_phantoms(folder / "raw", 4, shape=(14, 12, 10))
    settings = PrepareConfig(downsample=1, test_fraction=0.25, validation_fraction=0.25)
    return folder / "raw", prepare(folder / "raw", folder / "store", settings).path


def trial(seconds: float, seed: int) -> Outcome:
    """Each series once, whatever time there is."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what was loaded so far stays: looking through it each time would take most of the time
    outcome, started = Outcome("soak"), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        raw, store = grounds(folder)
        scan = raw / "imagesTr" / "phantom_000_0000.nii.gz"
        _add(outcome, "step", trained(store, folder / "run", STEPS), STEPS)
        _add(outcome, "prediction", predicted(folder / "run", scan, folder / "out", PREDICTIONS), PREDICTIONS)
        predict(folder / "run", raw / "imagesTr", folder / "results", device="cpu")
        with browsing(folder / "results", store, raw, seed) as browser:
            _add(outcome, "request", series(browser.one, REQUESTS), REQUESTS)
        answers = sorted(browser.answers.items())
        outcome.figures["answers"] = ", ".join(f"{status or 'none'}: {number:,}" for status, number in answers)
        outcome.tracebacks += browser.answers[500]
    outcome.worst_mib = sample(0).own_bytes / 2**20
    outcome.figures["time left"] = f"{max(0.0, seconds - (time.monotonic() - started)):.0f} s"
    return outcome


def _add(outcome: Outcome, of: str, samples: Sequence[Sample], number: int) -> None:
    wrong, said = rising(samples, of)
    outcome.failures += [f"{number:,} of them: {each}" for each in wrong]
    outcome.figures[f"{number:,} {of}s, per {of}"] = said
