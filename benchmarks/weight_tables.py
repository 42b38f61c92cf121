"""The tables behind `why-weights-fail`: every arm of its studies (docs/decisions/0044)."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from benchmarks.long_studies import STUDIES, made_with, study_config, trainings
from benchmarks.seeded_arms import Arms, Entry, entries_of, failing, organ_means, points, share, spread
from benchmarks.weight_rules import Levels, Placed, Repair, last_stage, levels, placed, repairs
from viscera.core.anatomy import ORGANS, title_of
from viscera.core.arms import Arm

ABOUT = """Every arm behind the [findings](why-weights-fail.md). The demo's phantom and size: 8 test cases, 300 steps,
patches of 24³, 8 filters."""
CELL = "Foreground mean of Dice on the test cases in per cent, ± standard deviation between seeds (number of seeds)."


def tables_page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    studies = found["studies"]
    of = levels(studies)
    parts = [
        "# Why class weights need another learning rate: the tables (phantom)",
        f"{ABOUT} {progress(studies)}",
        *direction_tables(last_stage(studies, "direction")),
        *scale_table(of),
        *readings_table(placed(studies, of)),
        *repair_table(repairs(studies)),
        *paper_arms_tables(studies),
        made_with(found, "make study-phantom"),
    ]
    return "\n\n".join(parts) + "\n"


def progress(studies: Mapping[str, Any]) -> str:
    """How many trainings are in."""
    names = [name for name, study in STUDIES.items() if study.experiment == "weights"]
    done = sum(len(seeds) for name in names for seeds in last_stage(studies, name).values())
    return f"{done} of {sum(trainings(name) for name in names)} trainings are in."


def direction_tables(arms: Arms) -> list[str]:
    """Power against rate, and every organ."""
    study = study_config("direction").study
    powers, rates = [float(each) for each in study.weightings], study.learning_rates
    cells = [Arm(power, rate) for rate in rates for power in powers]
    rows = [[f"p = {power:g}", *(spread(points(arms, Arm(power, rate))) for rate in rates)] for power in powers]
    return [
        "## Direction: powers of 1/R at equal scale, ε = 0",
        CELL,
        _table(rows, ["", *(f"rate {rate:g}" for rate in rates)]),
        "By organ, per cent, mean over the seeds; bold below 20, where an organ fails.",
        _table([_organ_row(arm.title, entries_of(arms, arm)) for arm in cells], _organ_header()),
    ]


def scale_table(of: Levels) -> list[str]:
    """Epsilon against rate, at p = 2."""
    rates = study_config("scale").study.learning_rates
    rows = [[f"{epsilon:g}", *(_level(by_rate, rate) for rate in rates)] for epsilon, by_rate in of]
    return [
        "## Scale: ε beside weights that sum to L, p = 2",
        f"{CELL} In brackets in front: share of Adam's step that ε left, mean over layers and logged steps.",
        _table(rows, ["ε", *(f"rate {rate:g}" for rate in rates)]),
    ]


def _level(by_rate: Mapping[float, Any], rate: float) -> str:
    level = by_rate.get(rate)
    return "–" if level is None else f"[{share(level.kept)}] {spread(level.points)}"


def readings_table(found: Sequence[Placed]) -> list[str]:
    """Each interpretation of square beside what scale gives at the step that it kept."""
    rows = [
        [each.name, f"{each.rate:g}", share(each.kept), f"{each.expected:.1f}", f"{each.found:.1f}",
         f"{each.found - each.expected:+.1f}", _listed(each.entries)]
        for each in found
    ]  # fmt: skip
    header = ["square", "rate", "step kept", "expected", "found", "difference", "failing"]
    return ["## Interpretations of the paper: is it one factor?", _table(rows, header)]


def repair_table(found: Sequence[Repair]) -> list[str]:
    """What was tried, on validation and test cases."""
    rows = [
        [each.name, f"{each.validation:.1f}", spread(each.test), each.from_uniform.text() if each.from_uniform else ""]
        for each in found
    ]
    header = ["both rates together", "validation", "test", "minus p = 0, points"]
    return ["## Repair", _table(rows, header)]


def paper_arms_tables(studies: Mapping[str, Any]) -> list[str]:
    """The arms as printed in the paper, on the other sets of phantoms."""
    parts = ["## As printed, and rate 0.1, on other sets of phantoms"]
    study = study_config("forecast_a").study
    for name in ("a", "b", "c"):
        arms = last_stage(studies, f"forecast_{name}")
        cells = [Arm(weighting, rate) for rate in study.learning_rates for weighting in study.weightings]
        rows = [_organ_row(arm.title, entries) for arm in cells if (entries := entries_of(arms, arm))]
        if rows:
            parts += [f"Set {name}.", _table(rows, _organ_header())]
    return parts if len(parts) > 1 else [*parts, "Not run yet."]


def _organ_row(title: str, entries: Sequence[Entry]) -> list[str]:
    means = organ_means(entries)
    lost = set(failing(entries))
    cells = [f"{100 * means[organ.name]:.0f}" if organ.name in means else "–" for organ in ORGANS]
    marked = [f"**{cell}**" if organ.name in lost else cell for cell, organ in zip(cells, ORGANS, strict=True)]
    return [title, *marked, str(len(entries))]


def _organ_header() -> list[str]:
    return ["", *(organ.title for organ in ORGANS), "seeds"]


def _listed(entries: Sequence[Entry]) -> str:
    return ", ".join(sorted(map(title_of, failing(entries)))) or "none"


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)
