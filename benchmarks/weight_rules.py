"""The rules of docs/decisions/0044 about why weights fail, on what was collected of the studies.

Each gives a `Verdict`; a rule whose trainings are not all in is open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from benchmarks.long_studies import study_config
from benchmarks.over_seeds import OverSeeds
from benchmarks.seeded_arms import (
    Arms,
    BySeed,
    difference,
    difference_by_seed,
    entries_of,
    interaction,
    mean_of,
    mean_points,
    points,
)
from viscera.core.arms import Arm, arm_config

Word = Literal["confirmed", "not confirmed", "open"]
LOW, HIGH = 0.001, 0.01  # rates
SEEDS = 5
LEAST_SHARE = 1e-5  # of the step, to which it is collected
FALL, NEAR, MORE, SAME = 10.0, 10.0, 5.0, 5.0  # points, of the rules
Levels = list[tuple[float, dict[float, "Level"]]]  # epsilon, then by rate; rising


@dataclass(frozen=True)
class Verdict:
    """The word of a rule, and the sentence behind it."""

    word: Word
    said: str


@dataclass(frozen=True)
class Level:
    """p = 2 at one epsilon and rate."""

    kept: float  # share of Adam's step, mean over seeds and logged steps
    points: BySeed  # foreground Dice in per cent


@dataclass(frozen=True)
class Placed:
    """One interpretation, beside what `scale` gives at the share of the step that it kept."""

    name: str
    rate: float
    kept: float
    expected: float
    found: float
    entries: Sequence[Mapping[str, Any]]


def last_stage(studies: Mapping[str, Any], name: str) -> Arms:
    """The arms of a study at its last steps; empty where it was not run."""
    stages: Mapping[str, Arms] = studies.get(name, {})
    return stages[max(stages, key=int)] if stages else {}


def levels(studies: Mapping[str, Any]) -> Levels:
    """The arms with p = 2 by epsilon and rate: without epsilon of `direction`, the others of `scale`."""
    found: dict[float, dict[float, Level]] = {}
    for name in ("direction", "scale"):
        arms, config = last_stage(studies, name), study_config(name)
        variants = config.study.variants or {"": {}}
        for variant in variants:
            for rate in config.study.learning_rates:
                arm = Arm(2.0, rate, variant)
                kept = mean_of(entries_of(arms, arm), "step_kept")
                if kept is not None:
                    epsilon = arm_config(config, arm, 0).train.adam.epsilon
                    found.setdefault(epsilon, {})[rate] = Level(kept, points(arms, arm))
    return sorted(found.items())


def direction_check(studies: Mapping[str, Any]) -> Verdict:
    """That p = 2 without epsilon and square as printed go together: a law, which checks the chain."""
    at_p = points(last_stage(studies, "direction"), Arm(2.0, LOW))
    found = difference(points(last_stage(studies, "printed"), Arm("square", LOW)), at_p)
    if found is None or found.seeds < SEEDS:
        return Verdict("open", "not all trainings are in.")
    said = f"square as printed minus p = 2 without ε, rate {LOW:g}: {found.text()} points."
    return Verdict("confirmed" if found.lies_within(SAME) else "not confirmed", said)


def placed(studies: Mapping[str, Any], of: Levels) -> list[Placed]:
    """Each interpretation beside `scale`, at each rate."""
    arms, config, found = last_stage(studies, "readings"), study_config("readings"), []
    for variant in config.study.variants:
        for rate in config.study.learning_rates:
            entries = entries_of(arms, Arm("square", rate, variant))
            kept = mean_of(entries, "step_kept")
            at_rate = [by_rate[rate] for _, by_rate in of if rate in by_rate]
            if kept is not None and at_rate:
                mean = fmean(points(arms, Arm("square", rate, variant)).values())
                found.append(Placed(variant or "as printed", rate, kept, expected(at_rate, kept), mean, entries))
    return found


def expected(at_rate: Sequence[Level], kept: float) -> float:
    """Foreground Dice in per cent at a share of the step: between neighbouring levels, over its logarithm."""
    ordered = sorted(at_rate, key=lambda level: level.kept)
    at = [np.log10(max(level.kept, LEAST_SHARE)) for level in ordered]
    return float(np.interp(np.log10(max(kept, LEAST_SHARE)), at, [fmean(level.points.values()) for level in ordered]))


def scale_rule(of: Levels, readings: Sequence[Placed]) -> Verdict:
    """Rule 2."""
    at_low = [(epsilon, by_rate[LOW]) for epsilon, by_rate in of if LOW in by_rate]
    fall = difference(at_low[-1][1].points, at_low[0][1].points) if len(at_low) > 1 else None
    planned = study_config("readings").study
    every = len(planned.variants) * len(planned.learning_rates) * len(planned.seeds)
    if fall is None or fall.seeds < SEEDS or sum(len(each.entries) for each in readings) < every:
        return Verdict("open", "not all trainings are in.")
    worst = max(readings, key=lambda each: abs(each.found - each.expected))
    off = worst.found - worst.expected
    holds = fall.mean <= -FALL and fall.is_below and abs(off) <= NEAR
    return Verdict(
        "confirmed" if holds else "not confirmed",
        f"at rate {LOW:g} and p = 2, ε = {at_low[-1][0]:g} lies {fall.text()} points from ε = 0. The interpretation "
        f"farthest from its place, {worst.name} at rate {worst.rate:g}, lies {off:+.1f} points from it.",
    )


def rate_rule(of: Levels) -> Verdict:
    """Rule 3."""
    both = [(epsilon, by_rate) for epsilon, by_rate in of if LOW in by_rate and HIGH in by_rate]
    slow = [each for each in both if (each[1][LOW].kept + each[1][HIGH].kept) / 2 <= 0.5]
    if not slow or both[0][0] > 0:
        return Verdict("open", "not all trainings are in.")
    (_, free), (epsilon, slowed) = both[0], slow[0]
    gains = [difference_by_seed(each[HIGH].points, each[LOW].points) for each in (slowed, free)]
    with_scale, without, more = (_over(values) for values in (*gains, difference_by_seed(*gains)))
    if more is None or with_scale is None or without is None or more.seeds < SEEDS:
        return Verdict("open", "not all trainings are in.")
    return Verdict(
        "confirmed" if more.mean >= MORE and more.is_above else "not confirmed",
        f"from rate {LOW:g} to {HIGH:g}, p = 2 gains {with_scale.text()} points at ε = {epsilon:g} and "
        f"{without.text()} at ε = 0; the difference is {more.text()}.",
    )


@dataclass(frozen=True)
class Repair:
    """A weighting with or without something done about it, over both rates."""

    name: str
    validation: float  # foreground Dice in per cent
    test: BySeed
    from_uniform: OverSeeds | None  # None: p = 0 itself


def repairs(studies: Mapping[str, Any]) -> list[Repair]:
    """What has both rates: p = 0 first, then the other powers, then what was tried on p = 1 and p = 2."""
    direction, tried = last_stage(studies, "direction"), last_stage(studies, "repair")
    families = {f"p = {p:g}": (direction, p, "") for p in (0.0, 0.5, 1.0, 1.5, 2.0)}
    for variant in study_config("repair").study.variants:
        families |= {f"p = {p:g}, {variant}": (tried, p, variant) for p in (1.0, 2.0)}
    found: list[Repair] = []
    for name, (arms, power, variant) in families.items():
        cells = [Arm(power, rate, variant) for rate in (LOW, HIGH)]
        validation = [mean_of(entries_of(arms, cell), "validation") for cell in cells]
        known = [each for each in validation if each is not None]
        if len(known) == len(cells):
            test = mean_points(arms, cells)
            uniform = difference(test, found[0].test) if found else None
            found.append(Repair(name, 100 * sum(known) / len(known), test, uniform))
    return found


def repair_rule(of: Sequence[Repair], only: str = "") -> Verdict:
    """Rule 4, of all that was tried or of one of them."""
    tried = [(each, each.from_uniform) for each in of if each.from_uniform is not None and only in each.name]
    planned = len(study_config("direction").study.weightings) + 2 * len(study_config("repair").study.variants)
    if not tried or len(of) < planned:
        return Verdict("open", "not all trainings are in.")
    best, ahead = max(tried, key=lambda each: each[0].validation)
    is_first = best.validation > of[0].validation or bool(only)
    place = "which is first" if is_first else "first after p = 0"
    said = f"{best.name}, {place} on the validation cases, lies {ahead.text()} points from p = 0 on the test cases."
    if ahead.seeds < SEEDS:
        return Verdict("open", said)
    return Verdict("confirmed" if is_first and ahead.is_above else "not confirmed", said)


def title_interactions(studies: Mapping[str, Any]) -> dict[str, list[float]]:
    """Interaction of rate and weighting without epsilon, of p = 1 and p = 2, one value a seed, where it is in."""
    arms = last_stage(studies, "direction")
    found = {f"p = {power:g}": interaction(arms, power, 0.0) for power in (1.0, 2.0)}
    return {name: list(values.values()) for name, values in found.items() if values}


def _over(values: BySeed) -> OverSeeds | None:
    return OverSeeds.of(values.values()) if values else None
