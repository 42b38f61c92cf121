"""Ours as a contender of `bench_accuracy`: what `viscera plan`, `prepare`, `train` and `predict` do.

Number format and memory layout are, where the recipe leaves them at `auto`, what `bench_accuracy cost` found the
fastest, as of all contenders. The curve has two lines, and there are four checkpoints.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy_data import DataSet, Fast, OnStep
from viscera.core.anatomy import CLASS_NAMES, ClassTable
from viscera.core.config import Config
from viscera.core.resolve import resolve_config, with_settings
from viscera.core.settings import differences
from viscera.engine.hardware import computes_bfloat16
from viscera.io.classes import ClassFile
from viscera.io.records import read_yaml, write_yaml
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.planning.training_plan import Wanted, planned
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train

_LINES, _CHECKPOINTS = 2, 4  # of a training


class Ours:
    """A preset or configuration. Data that have the network's grid already are prepared by a factor of 1."""

    mirrors = False

    def __init__(self, data: DataSet, name: str, config: Config) -> None:
        self.data, self.config = data, _on_this_grid(config)
        self.key = self.costs_like = f"ours-{name}"
        self.title = self.cost_title = f"viscera, {name}"
        self.prepared = data.work / "prepared" / self.key

    @property
    def fast(self) -> Sequence[Fast]:
        """What might be its fastest: bfloat16 where the processor has it, unless the recipe says otherwise."""
        train = self.config.train
        automatic = "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"
        bfloat16 = (automatic if train.precision == "auto" else train.precision) == "bfloat16"
        automatic_layouts = ("channels_last", "channels_first")
        layouts = automatic_layouts if train.memory_layout == "auto" else (train.memory_layout,)
        return [Fast(bfloat16, each == "channels_last") for each in layouts]

    def settings(self) -> Mapping[str, Any]:
        """What differs from the paper's settings."""
        changed = differences(Config(), self.config)
        return {"differs_from_the_paper": [text.replace("(now ", "→ (") for text in changed if "study." not in text]}

    def load(self) -> None:
        """Nothing is missing."""

    def prepare(self) -> None:
        """`viscera prepare`, all cases for training but those that the recipe validates on."""
        self._store(self.prepared)

    prepare_again = prepare  # with the plan that there is, where there is one

    def _store(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        other = self.data.classes != CLASS_NAMES
        classes = ClassFile(ClassTable.of_names(self.data.classes), {}) if other else None
        prepare(self.data.raw, path, self.config.prepare, classes=classes)

    def _of(self, steps: int, seed: int, fast: Fast) -> Config:
        """A warm-up of a tenth of the steps at most."""
        given: dict[str, Any] = {"train.iterations": steps, "train.seed": seed, "train.device": "cpu"}
        given["train.precision"] = "bfloat16" if fast.bfloat16 else "float32"
        given["train.memory_layout"] = "channels_last" if fast.channels_last else "channels_first"
        given |= dict.fromkeys(("train.log_every", "train.validate_every"), _every(steps, _LINES))
        given["train.checkpoint_every"] = _every(steps, _CHECKPOINTS)
        given["train.rate_schedule.warm_up"] = min(self.config.train.rate_schedule.warm_up, steps // 10)
        return with_settings(self.config, given, self.key)

    def train(self, steps: int, seed: int, folder: Path, fast: Fast, on_step: OnStep) -> int:
        """`viscera train --resume`."""
        train(self.prepared, folder, self._of(steps, seed, fast), resume=True, progress=lambda _: on_step())
        return steps

    def measured_steps(self, steps: int) -> set[int]:
        """Those after which something is measured or kept as well."""
        everies = (_every(steps, _LINES), _every(steps, _CHECKPOINTS))
        return {1, steps, *(number for every in everies for number in range(every, steps + 1, every))}

    def predict(
        self,
        folder: Path,
        scans: Sequence[Path],
        out: Path,
        fast: Fast,  # noqa: ARG002
        *,
        mirrored: bool,  # noqa: ARG002
    ) -> None:
        """`viscera predict` of each scan."""
        assert RunFolder(folder).last.exists()  # noqa: S101
        for scan in scans:
            predict(folder, scan, out / scan.name.replace("_0000", ""), overwrite=True, device="cpu")


class Planned(Ours):
    """A preset with what `viscera plan` makes of these data, this machine and a budget: a plan for each budget.

    What planning takes is part of preparing: a store of the scans' own voxels, the plan, and the store that it wants.
    """

    def __init__(self, data: DataSet, preset: str, minutes: float) -> None:
        super().__init__(data, preset, resolve_config(preset))
        self.minutes, self._base = minutes, self.config
        self.costs_like = f"{self.key}-{minutes:g}-minutes"
        self.cost_title = f"{self.title}, planned for {minutes:g} min"
        self.prepared = data.work / "prepared" / self.costs_like
        self._plan = data.work / "plans" / f"{self.costs_like}.yaml"
        if self._plan.exists():
            self.config = Config.model_validate(read_yaml(self._plan))

    def prepare(self) -> None:
        """`viscera prepare`, `plan --budget` and `prepare --config`."""
        native = self.prepared.with_name(f"{self.prepared.name}-native")
        self.config = self._base
        self._store(native)
        self.config = planned(Store.open(native), self._base, Wanted(seconds=60 * self.minutes)).config
        self._store(self.prepared)
        write_yaml(self._plan, self.config.model_dump(mode="json"))


def _every(steps: int, parts: int) -> int:
    return max(1, steps // parts)


def _on_this_grid(config: Config) -> Config:
    """No case is kept back for testing: unseen cases are elsewhere. A spacing of the recipe stays."""
    given: dict[str, Any] = {"prepare.test_fraction": 0}
    if config.prepare.spacing_mm is None:
        given["prepare.downsample"] = 1
    return with_settings(config, given, "recipe")
