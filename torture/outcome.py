"""What a trial found: one for each promise of `docs/reliability.md`, written into `torture/results/NAME.json`."""

import importlib
import json
import platform
import time
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Outcome:
    """Counts of one trial. What each proves is said by `docs/reliability.md`."""

    name: str
    faults: int = 0  # injected: a write that failed, a process killed, a disk filled
    lost: int = 0  # artifacts that were neither the old one nor the new one afterwards
    inputs: int = 0  # hostile files tried
    tracebacks: int = 0  # that ended in anything but a result or a VisceraError
    worst_s: float = 0.0  # the slowest of them
    worst_mib: float = 0.0  # the largest of them
    seconds: float = 0.0  # that all of it took
    figures: dict[str, str] = field(default_factory=dict)  # others, for the page: name → value with its unit
    failures: list[str] = field(default_factory=list)  # each in a line that is enough to repeat it

    def line(self) -> str:
        """`faults=… lost=… inputs=… tracebacks=… …` in a line."""
        counts = f"faults={self.faults} lost={self.lost} inputs={self.inputs} tracebacks={self.tracebacks}"
        return (
            f"{self.name}: {counts} worst_s={self.worst_s:.3g} worst_mib={self.worst_mib:.3g} in {self.seconds:.0f} s"
        )

    @property
    def sound(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.tracebacks or self.failures)

    def write(self, folder: Path | None = None) -> None:
        """Write it beside the others, with the machine and the day."""
        about = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }
        text = json.dumps({**asdict(self), **about}, indent=2) + "\n"
        path = self.path(self.name, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    @staticmethod
    def path(name: str, folder: Path | None = None) -> Path:
        """The file of a trial, in `RESULTS` or elsewhere."""
        return (folder or RESULTS) / f"{name}.json"

    @classmethod
    def read(cls, name: str, folder: Path | None = None) -> "Outcome":
        """What was written."""
        found = json.loads(cls.path(name, folder).read_text(encoding="utf-8"))
        return cls(**{each.name: found[each.name] for each in fields(cls)})


def run_trial(name: str, seconds: float, seed: int) -> Outcome:
    """Run one trial, in this process."""
    started = time.monotonic()
    outcome: Outcome = importlib.import_module(f"torture.{name}").trial(seconds, seed)
    outcome.seconds = time.monotonic() - started
    outcome.write()
    return outcome
