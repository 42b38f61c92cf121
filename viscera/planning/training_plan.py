"""From a store, a base configuration and a budget to a plan: the rules, the memory, and the time that was measured."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.quantities import duration_text, memory_text
from viscera.core.resolve import with_settings
from viscera.core.settings import along_axes
from viscera.engine.free_memory import free_memory
from viscera.engine.hardware import choose_device, computes_bfloat16, fastest_convolutions
from viscera.engine.precision_probe import FEWEST_ITERATIONS, decided
from viscera.engine.sliding_window import prediction_bytes
from viscera.engine.step_cost import TrainingCost, measured_cost, noise_step_seconds
from viscera.engine.step_memory import StepMemory, step_memory
from viscera.io.store import Store
from viscera.planning import plan_rules as rules
from viscera.planning.fingerprint import Fingerprint, Presence, fingerprint, presence
from viscera.planning.grid_rules import Grid
from viscera.planning.plan_rules import Candidate, Choice
from viscera.planning.plan_warnings import warnings_of

log = logging.getLogger(__name__)
DEFAULT_SECONDS = 7200.0
MOST_SECONDS = 86400.0  # of a training whose steps are given
_FREE_SHARE = {"cpu": 0.8, "cuda": 0.9}  # of what is free, for one training
_OF_THE_BUDGET = 0.95  # that is planned: steps are not all alike
_BESIDE = 1.2  # what a training takes in times its steps, before it is measured
_LEAST_STEPS_OF_A_BUDGET = 20
_RESIDENT_BYTES = 3  # of a voxel of the training set on a GPU


class Wanted(NamedTuple):
    """What a plan is to keep to."""

    seconds: float | None = None  # of the whole training
    iterations: int | None = None  # instead
    memory: float | None = None  # bytes; None: most of what is free
    keeps_grid: bool = False  # train on the store as it is
    fixed: frozenset[str] = frozenset()  # settings of the base that are not the plan's to decide, by dotted key


@dataclass(frozen=True)
class Plan:
    """A configuration, why it is so, and what it should cost here."""

    config: Config
    choices: Mapping[str, Choice]  # by dotted key
    data: Fingerprint
    grid: Grid
    seen: Presence  # which share of the windows has each organ
    cost: TrainingCost
    seconds: float  # of the training
    bytes: float  # at its peak, predicted
    memory: float  # bytes that there are
    device: torch.device
    threads: int
    warnings: tuple[str, ...]


def planned(store: Store, base: Config, wanted: Wanted, progress: OnProgress = unseen) -> Plan:
    """Settings for the training cases of a store, which are the base's where nothing depends on data or machine.

    What is planned: grid, windows, network's size, strides and kernels, HU, batch, share of windows on organs, number
    of steps and schedule. What is not: loss, class weights, optimiser and its rate, normalisation, augmentation. The
    store is looked at as `base.train.fold` says. A few steps of a training are done, in a folder that is removed.

    Raises:
        BadInputError: no training case; a budget that is too short; too little memory for the smallest network.
        RunFailedError: as a training.
    """
    store = store.of_fold(base.train.fold)
    if "prepare.spacing_mm" not in wanted.fixed:
        base = base.model_copy(update={"prepare": store.manifest.prepare})
    search = _Search(store, base, wanted, choose_device(base.train.device), fingerprint(store), progress)
    fitting = search.affordable(search.fitting())
    for number, candidate in enumerate(fitting):
        is_last = number == len(fitting) - 1
        try:
            plan = search.plan(candidate, is_largest=candidate == search.largest)
        except RunFailedError:
            if is_last:
                raise
            continue
        enough = wanted.iterations is not None or plan.config.train.iterations >= rules.FEW_STEPS
        if is_last or enough:
            break
    return plan


@dataclass
class _Search:
    """Looks for the largest plan that a machine and a budget allow."""

    store: Store
    base: Config
    wanted: Wanted
    device: torch.device
    data: Fingerprint
    progress: OnProgress
    largest: Candidate | None = None  # of all that the scans allow
    steps: dict[tuple[int, int], float] = field(default_factory=dict)  # seconds of one, by window and filters

    @property
    def seconds(self) -> float:
        """The budget."""
        return self.wanted.seconds or DEFAULT_SECONDS

    @property
    def num_classes(self) -> int:
        """L."""
        return len(self.store.classes)

    @property
    def memory(self) -> float:
        """Bytes that the training may take; a training set that moves to the GPU is not in them."""
        if self.wanted.memory is not None:
            return self.wanted.memory
        free = free_memory(self.device) * _FREE_SHARE.get(self.device.type, _FREE_SHARE["cpu"])
        resident = self.device.type == "cuda" and self.base.train.resident != "never"
        voxels = sum(math.prod(self.store.manifest.cases[name].prepared.shape) for name in self.store.names("train"))
        return free - (_RESIDENT_BYTES * voxels if resident else 0)

    def config(self, choices: Iterable[Choice]) -> Config:
        """The base with what was chosen; raises BadInputError where that cannot be."""
        return with_settings(self.base, rules.chosen_settings({each.key: each for each in choices}), "the plan")

    def fitting(self) -> list[Candidate]:
        """Candidates that the memory is enough for, the largest first."""
        found, needed, refused = list[Candidate](), list[float](), list[BadInputError]()
        memory, fixed = self.memory, self.wanted.fixed
        for size in rules.edges_and_filters(self.base.train, fixed):
            each = rules.candidate(self.data, self.base.train, size, fixed, self._kept_grid())
            if each is None:
                continue
            try:
                train = self.config(each.choices).train
            except BadInputError as error:  # as groups of channels that do not divide so few filters
                refused.append(error)
                continue
            self.largest = self.largest or each
            needed.append(self._bytes(train, each.grid))
            if needed[-1] <= memory:
                found.append(each)
        if not found and needed:
            raise BadInputError(
                f"There are {memory_text(memory)} of memory, and the smallest network that can be planned takes "
                f"{memory_text(min(needed))}. Give more with --memory, end other programs, or use another machine."
            )
        if not found:
            raise refused[-1]
        return found

    def _kept_grid(self) -> Grid | None:
        """The grid where it is not to be planned."""
        given = self.base.prepare.spacing_mm
        if "prepare.spacing_mm" in self.wanted.fixed and given is not None:
            return Grid(along_axes(given), "as given", is_the_stores=given == self.store.manifest.prepare.spacing_mm)
        kept = Grid(self.data.spacing_mm, "the store's, as asked for", is_the_stores=True)
        return kept if self.wanted.keeps_grid else None

    def affordable(self, fitting: Sequence[Candidate]) -> list[Candidate]:
        """Those with which the budget is long enough for `LEAST_STEPS`, or the smallest alone; the largest first.

        Where the steps are given, those with which they take a day at most. Tried from the smallest on, until one takes
        too long: so no step is timed that takes much longer than allowed.
        """
        given = self.wanted.iterations
        seconds = self.seconds if given is None else MOST_SECONDS
        longest = seconds / (_BESIDE * max(rules.LEAST_STEPS, given or 0))
        enough: list[Candidate] = []
        trains = [(each, self._computed_as(self.config(each.choices).train)) for each in reversed(fitting)]
        wide = [pair for pair in trains if pair[1].patch >= rules.LEAST_EDGE]
        for each, train in wide or trains:
            self._say(f"timing {train.patch}³ voxels, {train.filters} filters", 0)
            try:
                step = noise_step_seconds(train, self.num_classes, self.device)
            except RunFailedError:  # more memory than was predicted
                break
            self.steps[train.patch, train.filters] = step
            if step <= longest or not enough:
                enough.append(each)
            if step > longest:
                break
        return enough[::-1] or list(fitting[-1:])

    def plan(self, candidate: Candidate, *, is_largest: bool) -> Plan:
        """Of one candidate, timed."""
        choices = {each.key: each for each in candidate.choices}
        for choice in self._preparation(candidate.grid):
            self._take(choices, choice)
        train = self._decided(self.config(choices.values()).train)
        for name in ("precision", "memory_layout"):
            if getattr(self.base.train, name) == "auto":
                self._take(choices, Choice(f"train.{name}", getattr(train, name), "the faster one here, as was timed"))
        at_store = [a / b for a, b in zip(candidate.grid.spacing_mm, self.data.spacing_mm, strict=True)]
        seen = presence(self.store, [max(1, round(train.patch * ratio)) for ratio in at_store])
        self._take(choices, rules.organ_windows(self.base.train, seen))
        step = self.steps.get((train.patch, train.filters), 0.0)
        if is_largest and step:
            steps = (self.seconds if self.wanted.iterations is None else MOST_SECONDS) / step
            windows = self._memory_of(train).windows_within(self.memory, train.patch)
            self._take(choices, rules.larger_batch(self.data, candidate.grid, train.patch, windows, steps))
        config = self.config(choices.values())
        self._say(f"a trial of {config.train.patch}³ voxels, {config.train.filters} filters", 1)
        cost = measured_cost(self.store, config, self.device, expected_step=step)
        finer = math.prod(self.data.spacing_mm) / math.prod(candidate.grid.spacing_mm)
        cost = cost._replace(validation=cost.validation * finer)
        config, choices = self._scheduled(choices, cost)
        plan = Plan(
            config=config,
            choices=choices,
            data=self.data,
            grid=candidate.grid,
            seen=seen,
            cost=cost,
            seconds=cost.seconds(config.train),
            bytes=self._bytes(config.train, candidate.grid),
            memory=self.memory,
            device=self.device,
            threads=torch.get_num_threads(),
            warnings=(),
        )
        return replace(plan, warnings=tuple(warnings_of(self.data, candidate.grid, config)))

    def _preparation(self, grid: Grid) -> Iterator[Choice]:
        if grid.is_the_stores:
            return
        first, *others = grid.spacing_mm
        value = first if set(others) == {first} else list(grid.spacing_mm)
        yield Choice("prepare.spacing_mm", value, grid.reason)
        yield Choice("prepare.label_downsampling", "majority", "loses least (docs/results/downsampling-cost.md)")

    def _scheduled(self, choices: dict[str, Choice], cost: TrainingCost) -> tuple[Config, dict[str, Choice]]:
        """With as many steps as the budget has room for, and what follows from their number."""
        wanted, train = self.wanted, self.config(choices.values()).train
        for _ in range(2):  # the second knows what is validated and saved beside the steps
            number, why = wanted.iterations, "as asked for"
            if number is None:
                number, why = self._steps_within(self.seconds, train, cost)
            for each in rules.schedule(self.base.train, number, why):
                self._take(choices, each)
            train = train.model_copy(update={"iterations": number})
            for each in rules.intervals(train, cost):
                self._take(choices, each)
            train = self.config(choices.values()).train
        return self.config(choices.values()), choices

    def _steps_within(self, seconds: float, train: TrainConfig, cost: TrainingCost) -> tuple[int, str]:
        number = cost.iterations_within(_OF_THE_BUDGET * seconds, train)
        if number < _LEAST_STEPS_OF_A_BUDGET:
            least = cost.seconds(train.model_copy(update={"iterations": _LEAST_STEPS_OF_A_BUDGET})) / _OF_THE_BUDGET
            given, around, needed = map(duration_text, (seconds, cost.around, math.ceil(least)))
            raise BadInputError(
                f"A budget of {given} is too short: what comes before and after the steps takes about {around} here, "
                f"and a step {cost.step:.2g} s. Give {needed} or more."
            )
        if number > rules.MOST_STEPS:
            return rules.MOST_STEPS, "as nnU-Net; the budget would be enough for more"
        return rules.round_down(number), f"what fits into {duration_text(seconds)}, as was timed"

    def _take(self, choices: dict[str, Choice], choice: Choice | None) -> None:
        if choice is not None and choice.key not in self.wanted.fixed:
            choices[choice.key] = choice

    def _memory_of(self, train: TrainConfig) -> StepMemory:
        return step_memory(self._computed_as(train), self.num_classes, self.device)

    def _bytes(self, train: TrainConfig, grid: Grid) -> float:
        """At the peak of a training, its validation included."""
        train, validation = self._computed_as(train), 0.0
        if self.data.validation_cases:
            shape = [round(n) for n in self.data.shape_at(grid.spacing_mm)]
            validation = prediction_bytes(train, self.num_classes, shape, self.device)
        return self._memory_of(train).of(train, validation)

    def _computed_as(self, train: TrainConfig) -> TrainConfig:
        """With the precision that it most likely will have."""
        likely = "bfloat16" if computes_bfloat16(self.device) else "float32"
        return train.model_copy(update={"precision": likely}) if train.precision == "auto" else train

    def _decided(self, train: TrainConfig) -> TrainConfig:
        with fastest_convolutions():
            long_enough = train.model_copy(update={"iterations": FEWEST_ITERATIONS})
            return decided(long_enough, self.num_classes, self.device)

    def _say(self, what: str, done: int) -> None:
        self.progress(Progress("plan", done, 2, what))
