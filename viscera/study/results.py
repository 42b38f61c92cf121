"""What the report draws from: frozen values of one Study, nothing here opens a file."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.arms import FUSED, Arm, arms_of
from viscera.doctor.forecast import ArmForecast
from viscera.doctor.probe_record import Probe
from viscera.drawing.slices import Backdrop, LabelView
from viscera.engine.fusion import FusionRecord
from viscera.io.reliability_table import ReliabilityRow
from viscera.io.runlog import RunStatus, StudyRecord
from viscera.io.scores import ScoreRow
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import NOTHING_LOGGED, LoggedStep, step_kept
from viscera.study.score_table import ScoreTable, mean_over, with_summary

ClassDice = tuple[float | None, ...]


def mean_defined(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


@dataclass(frozen=True)
class CurvePoint:
    """One line of curve.jsonl."""

    step: int  # optimiser steps done
    loss: float | None  # Eq. 6 at that step, no unit; None where it was not finite
    dice: ClassDice  # (L,) hard Dice on the fixed training windows, 0 to 1; empty where it was not measured
    validation_dice: ClassDice  # (L,) on the validation cases; empty where no validation pass ran
    logged: LoggedStep = field(default=NOTHING_LOGGED, compare=False)  # what the classes' fate is judged by
    step_kept: float | None = None  # share of Adam's step that epsilon left, mean over layers; None: not measured

    @classmethod
    def from_line(cls, line: Mapping[str, Any], classes: ClassTable = ABDOMEN) -> "CurvePoint":
        """From one JSON object; raises KeyError, TypeError or ValueError where it is none of ours."""
        loss = line.get("loss")

        def dice_of(value: Mapping[str, float | None] | None) -> ClassDice:
            return tuple(value.get(name) for name in classes.names) if value else ()

        return cls(
            step=int(line["step"]),
            loss=float(loss) if loss is not None and math.isfinite(loss) else None,
            dice=dice_of(line.get("dice")),
            validation_dice=dice_of(line.get("validation_dice")),
            logged=LoggedStep.from_line(line),
            step_kept=step_kept(line),
        )


@dataclass(frozen=True)
class RunResult:
    """One arm with one seed."""

    arm: Arm
    seed: int
    status: RunStatus | None = None  # run.json; None where there is none
    curve: tuple[CurvePoint, ...] = ()  # the logged steps in order
    scores: tuple[ScoreRow, ...] | None = None  # rows of scores.csv; None where there is none
    problem: str = ""  # why a file of the run could not be read, for people; empty where all could
    # scores that were put aside when the study was extended, by iterations
    earlier: Mapping[int, tuple[ScoreRow, ...]] = field(default_factory=dict)
    # by test case and organ, why its prediction should be looked at; empty: not flagged
    reasons: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    reliability: tuple[ReliabilityRow, ...] = ()  # of the test cases, where calibration is measured
    confusion: Confusion | None = None  # over all test cases, on the primary grid; None: not counted
    probe: Probe | None = None  # of its last checkpoint, where `viscera doctor` made one

    @property
    def counts(self) -> bool:
        """Whether its scores are those of a model trained to the end, and so in every mean and test of the report."""
        return not self.standing()

    def standing(self) -> str:
        """What keeps this run from being finished and scored, in a sentence; empty where nothing does."""
        parts = [self.problem] if self.problem else []
        if self.status is None and not parts and not self.scores:
            return "not trained yet (no run.json)."
        if self.status is None:
            if not parts:
                parts.append("not known to be finished (no run.json).")
        elif self.status.state != "finished":
            state = "still running, or cut off" if self.status.state == "running" else self.status.state
            message = self.status.message.strip()
            at = f"at step {self.status.step:,} of {self.status.iterations:,}"
            parts.append(f"{state} {at}: {message.rstrip('.')}." if message else f"{state} {at}.")
        if not self.scores:
            parts.append("No scores: its scores.csv is missing, empty or damaged.")
        return " ".join(parts)

    def at_stage(self, stage: int) -> "RunResult":
        """As it was after so many iterations, where its scores were put aside; finished, if it came so far."""
        scores = self.earlier.get(stage)
        if self.status is None or self.status.step < stage:
            return replace(self, scores=scores)
        done = {"state": "finished", "step": stage, "iterations": stage, "message": ""}
        return replace(self, scores=scores, status=self.status.model_copy(update=done), problem="")

    def last_dice(self, *, validation: bool = False) -> float | None:
        """Mean foreground Dice, 0 to 1, at the last logged step that measured it."""
        measured = [p.validation_dice if validation else p.dice for p in self.curve]
        last = next((dice for dice in reversed(measured) if dice), ())
        return mean_defined(last[1:])


@dataclass(frozen=True)
class SplitSizes:
    """Cases of the store in each part."""

    training: int
    validation: int
    test: int


@dataclass(frozen=True)
class FusedResult:
    """The best model per organ as one predictor."""

    record: FusionRecord  # fusion.yaml
    scores: tuple[ScoreRow, ...]  # of the test cases
    validation: tuple[ScoreRow, ...]  # scores of the validation cases, on the original grid
    # scores of the test cases that were put aside when the study was extended, by iterations
    earlier: Mapping[int, tuple[ScoreRow, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyResult:
    """A Study as far as it has come: every arm and seed of the plan has an entry, missing ones too."""

    record: StudyRecord
    runs: tuple[RunResult, ...]
    split: SplitSizes | None = None
    fused: FusedResult | None = None
    forecasts: tuple[ArmForecast, ...] = ()

    @property
    def classes(self) -> ClassTable:
        """What was learnt and scored."""
        return ClassTable.of_names(self.record.classes)

    @property
    def has_papers_classes(self) -> bool:
        """Whether what the paper says can be held against it."""
        return set(self.record.classes) == set(ABDOMEN.names)

    @property
    def arms(self) -> list[Arm]:
        """In the order of Table 1."""
        return arms_of(self.record.config.study)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the organs that no training case has, so that no arm can learn them; none where it is not known."""
        counts = dict(zip(self.record.classes, self.record.training_voxel_counts, strict=False))
        return tuple(organ.name for organ in self.classes.organs if counts.get(organ.name) == 0)

    @property
    def phantom(self) -> bool:
        """Whether the data are procedural and say nothing about patients."""
        return "phantom" in self.record.dataset.lower()

    @property
    def has_validation(self) -> bool:
        """Whether any run measured Dice on the validation cases."""
        return any(point.validation_dice for run in self.runs for point in run.curve)

    @cached_property
    def scores(self) -> ScoreTable:
        """All scores of the runs that count in one table, the fused predictor's among them.

        Which do, and why not those that diverged: docs/decisions/0057-which-runs-count.md.
        """
        runs = [(run.arm.name, run.seed, run.scores or ()) for run in self.runs if run.counts]
        seeds = self.record.config.study.seeds
        if self.fused is not None:
            runs.append((FUSED, seeds[0], self.fused.scores))
        return ScoreTable.of(runs, [arm.name for arm in self.arms], seeds, self.classes.names)

    @property
    def grids(self) -> list[str]:
        """Grids that were scored; the first is the primary one."""
        return self.scores.grids()

    def percent(self, grid: str) -> pd.DataFrame:
        """The numbers of Table 1: classes, AVG, MAX, MIN and FOREGROUND by arms, and by `fused` where there is one."""
        columns = [*self.scores.arms, *[FUSED] * (self.fused is not None)]
        return with_summary(self.scores.class_percent(grid)).reindex(columns=columns)

    def at_stage(self, stage: int) -> "StudyResult":
        """The study with the scores of one stage; the last stage's are those it has."""
        if stage == self.record.all_stages[-1]:
            return self
        runs = tuple(run.at_stage(stage) for run in self.runs)
        fused = self.fused and replace(self.fused, scores=self.fused.earlier.get(stage, ()))
        return replace(self, runs=runs, fused=fused)

    def runs_of(self, arm: Arm) -> list[RunResult]:
        """The runs of one arm, one per seed."""
        return [run for run in self.runs if run.arm == arm]

    def counted_runs_of(self, arm: Arm) -> list[RunResult]:
        """Those of them that are finished and scored."""
        return [run for run in self.runs_of(arm) if run.counts]

    @property
    def seeds_of_arms(self) -> tuple[int, int]:
        """The fewest and the most runs that count of an arm that has any; 0 where none has."""
        numbers = [number for arm in self.arms if (number := len(self.counted_runs_of(arm)))]
        return min(numbers, default=0), max(numbers, default=0)

    @property
    def left_out(self) -> str:
        """How many runs of which arm are in no mean and no test, for people; empty where all are in them."""
        return self._left_out_of(self.arms) if any(run.counts for run in self.runs) else ""

    @property
    def left_out_of_means(self) -> str:
        """The same of those arms that have a mean."""
        return self._left_out_of([arm for arm in self.arms if self.counted_runs_of(arm)])

    @property
    def has_means_of_survivors(self) -> bool:
        """Whether trainings failed of an arm that has a mean, of the others."""
        failed = (run.arm for run in self.runs if run.status is not None and run.status.state == "failed")
        return any(self.counted_runs_of(arm) for arm in failed)

    def _left_out_of(self, arms: Iterable[Arm]) -> str:
        numbers = [(arm, len(self.counted_runs_of(arm)), len(self.runs_of(arm))) for arm in arms]
        return "; ".join(f"{all_ - have} of {all_} of {arm.title}" for arm, have, all_ in numbers if have < all_)


@dataclass(frozen=True, eq=False)
class Scene:
    """One test case as the reference and all arms label it: what Figures 2-4 show."""

    case: str  # its name
    slice_index: int  # the axial slice, counted from the lowest, 0-based, of `slices` on the scan's grid
    slices: int
    backdrop: Backdrop
    truth: LabelView  # the reference
    predictions: Mapping[str, LabelView]  # by name of arm, and `fused`; an arm without one is missing here
    seeds: Mapping[str, int]  # by name of arm, the seed whose prediction is shown
    flagged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by name of arm, names of flagged organs


def median_case(study: StudyResult, candidates: Sequence[str]) -> str | None:
    """The case that Figures 2-4 show: of median foreground Dice, averaged over organs, then arms; no arm's favourite.

    Scores on the primary grid decide; ties are broken by name, an even number takes the lower middle. The first
    candidate where nothing is scored, None without candidates (test cases whose scan and reference are available).
    """
    sample = study.scores.sample(study.grids[0] if study.grids else "")
    means_P = mean_over(mean_over(sample.per_case()[:, :, 1:], axis=2), axis=0)
    found = zip(means_P.tolist(), sample.cases, strict=True)
    ranked = sorted((mean, case) for mean, case in found if case in set(candidates) and not np.isnan(mean))
    if ranked:
        return ranked[(len(ranked) - 1) // 2][1]
    return min(candidates, default=None)


def signed(value: float | None) -> str:
    """One decimal with its sign, a minus sign and no hyphen; zero without one."""
    rounded = round(value or 0.0, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"
