"""`plan.json`: what a study is to run and how it is to be analysed, written before its first run, and hashed.

What was decided before the outcome was seen can confirm; what is looked at afterwards can only suggest (Wagenmakers et
al. 2012, An agenda for purely confirmatory research). The hash, noted elsewhere, shows later that the plan is the same.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import viscera
from viscera.core.arms import arms_of
from viscera.core.config import ClassNames, Config, StudyConfig
from viscera.core.settings import Settings, fields_of
from viscera.core.wording import counted
from viscera.io.records import read_sealed, validated, write_record
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.io.seals import Seal
from viscera.io.store import Store
from viscera.io.training_data import training_set_sha256

_SECTIONS = ("prepare", "train", "predict", "evaluate", "study")
_AXES = {"weightings", "learning_rates", "seeds"}  # of the grid of arms; and `variants`


class AnalysisPlan(Settings):
    """What is decided before the first run. It names no case and no folder, so it can be handed on."""

    written: str  # date and time, UTC
    version: str  # of viscera: docs/decisions/0007 and 0008 of that version say how it analyses
    dataset: str  # as the store describes it
    classes: ClassNames
    training_cases: int
    training_sha256: str  # of their files, as the store holds them
    test_cases: int
    test_sha256: str
    arms: tuple[str, ...]  # names, in the order of Table 1
    iterations: int
    settings: dict[str, Any]  # by dotted key, resolved; those of a machine, such as `study.jobs`, are left out
    rules: dict[str, float]  # numbers that verdicts depend on

    @classmethod
    def of(cls, record: StudyRecord, store: Store, rules: Mapping[str, float]) -> "AnalysisPlan":
        """What a study would begin with now; see `report.plan_section` for the rules."""
        return cls(
            written=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S"),
            version=viscera.__version__,
            dataset=record.dataset,
            classes=record.classes,
            training_cases=len(store.names("train")),
            training_sha256=training_set_sha256(store),
            test_cases=len(store.names("test")),
            test_sha256=training_set_sha256(store, "test"),
            arms=tuple(arm.name for arm in arms_of(record.config.study)),
            iterations=record.all_stages[-1],
            settings=planned_settings(record.config),
            rules=dict(rules),
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every arm."""
        return tuple(self.settings["study.seeds"])

    @property
    def runs(self) -> str:
        """How many, for people: `6 arms × 2 seeds`."""
        return f"{counted(len(self.arms), 'arm')} × {counted(len(self.seeds), 'seed')}"

    @property
    def sha256(self) -> str:
        """Of its content as JSON in UTF-8 with sorted names and no spaces, without this hash itself."""
        return _sha256(self.model_dump(mode="json"))

    def grid_of(self, now: StudyConfig) -> StudyConfig:
        """The planned part of a study's grid, as it is now."""
        axes: dict[str, Any] = {
            name: tuple(value for value in getattr(now, name) if value in self.settings[f"study.{name}"])
            for name in _AXES
        }
        planned = self.settings["study.variants"]
        return now.model_copy(update={**axes, "variants": {k: v for k, v in now.variants.items() if k in planned}})

    def says_as(self, other: "AnalysisPlan") -> bool:
        """Whether both say the same, whenever and by whichever version they were written."""
        of_the_writing = {"written", "version"}
        return self.model_dump(exclude=of_the_writing) == other.model_dump(exclude=of_the_writing)

    def text(self, path: Path) -> str:
        """What was planned and where it stands, for people."""
        return (
            f"{path}: {self.runs} of {self.iterations:,} iterations, {counted(self.training_cases, 'training case')}, "
            f"{counted(self.test_cases, 'test case')}.\nSHA-256 {self.sha256}\n"
            "Note the hash where its date can be proved. The same command without --plan-only starts the study."
        )

    def write(self, folder: StudyFolder) -> None:
        """Write `plan.json`."""
        write_record(folder.plan_path, {"sha256": self.sha256, **self.model_dump(mode="json")})


def read_analysis_plan(folder: StudyFolder) -> tuple[AnalysisPlan | None, bool]:
    """The plan of a study, None where it has none; and whether it is as it was written, by its hash and its checksum.

    Raises BadInputError where it is no plan any more.
    """
    path = folder.plan_path
    if not path.exists():
        return None, False
    content, seal = read_sealed(path)
    hashed = content.pop("sha256", "") if isinstance(content, dict) else ""
    plan = validated(AnalysisPlan, content, path, "Restore it from a copy.")
    return plan, seal is not Seal.BROKEN and hashed == _sha256(content)


def planned_settings(config: Config) -> dict[str, Any]:
    """Of all sections that a study uses, by dotted key, without those of a machine."""
    values: dict[str, Any] = config.model_dump(mode="json")
    found = {}
    for section in _SECTIONS:
        for key, _, role in fields_of(type(getattr(config, section)), f"{section}."):
            if role != "machine":
                value: Any = values
                for part in key.split("."):
                    value = value[part]
                found[key] = value
    return found


def _sha256(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
