"""The experiment that decides why class weights need another learning rate: from its studies to its page.

make study-phantom
python -m benchmarks.why_weights_fail FOLDER --out docs/results/why-weights-fail.md

FOLDER holds the studies `direction`, `printed`, `scale`, `readings` and `repair` of `studies/*.yaml`. The rules are
those of docs/decisions/0009-the-experiment-that-decides.md; whatever is missing is said.
"""

import argparse
import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from tabulate import tabulate

from benchmarks.measured import Measured, epsilon_over_scale, gap, measured, repeated
from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm, arm_config
from viscera.core.wording import counted
from viscera.engine.optimiser import LEAST_EPSILON
from viscera.io.files import write_text
from viscera.io.runlog import RunStatus
from viscera.study.report.gradients_section import ForecastRow, forecast_rows, forecast_sentence
from viscera.study.report.report_stage import read_study
from viscera.study.results import StudyResult, mean_defined

Levels = list[tuple[float, dict[float, Measured]]]  # epsilon, then rate to arm; rising
FITTED, UNSEEN = ("a", "b"), ("c",)  # sets of phantoms, see scripts/study_phantom.sh and benchmarks/fit_forecast.py
BALANCED = "p = 1, to-uniform"  # what the preset sets
OPEN = "open: not run yet."


def direction_section(arms: dict[Arm, Measured]) -> list[str]:
    """Power against rate."""
    rates = sorted({arm.learning_rate for arm in arms})
    rows = [
        (f"p = {float(p):g}", *(_cell(arms.get(Arm(p, rate))) for rate in rates))
        for p in sorted({float(arm.weighting) for arm in arms})
    ]
    organs = [
        (f"p = {float(arm.weighting):g}, rate {arm.learning_rate:g}", *(f"{100 * v:.0f}" for v in each.organs))
        for arm, each in arms.items()
    ]
    return [
        "## Direction: powers of 1/R at equal scale, ε = 0",
        "Foreground mean of Dice on the test cases in per cent, ± standard deviation between seeds (number of seeds).",
        _table(rows, ("", *(f"rate {rate:g}" for rate in rates))),
        "By organ, per cent; below 20 an organ is called dead.",
        _table(organs, ("", *(o.title for o in ORGANS))),
    ]


def scale_section(curve: Levels) -> list[str]:
    """Epsilon against rate, at p = 2."""
    rates = sorted({rate for _, by_rate in curve for rate in by_rate})
    rows = [
        (
            f"{epsilon:g}" if epsilon > LEAST_EPSILON else "0",
            _percent(mean_defined(each.step_kept for each in by_rate.values())),
            *(_cell(by_rate.get(rate)) for rate in rates),
        )
        for epsilon, by_rate in curve
    ]
    return [
        "## Scale: ε beside weights that sum to L, p = 2",
        "Step kept: what ε left of Adam's step, mean over layers and logged steps.",
        _table(rows, ("ε", "step kept", *(f"rate {rate:g}" for rate in rates))),
    ]


def readings_section(study: StudyResult, arms: dict[Arm, Measured], curve: Levels) -> tuple[list[str], list[float]]:
    """Each reading where the scale puts it; also the distances in points."""
    rows, distances = [], []
    for arm, each in arms.items():
        at = epsilon_over_scale(study, arm)
        known = [(e, by_rate[arm.learning_rate].foreground) for e, by_rate in curve if arm.learning_rate in by_rate]
        expected = float(
            np.interp(np.log10(max(at, 1e-8)), [np.log10(max(e, 1e-8)) for e, _ in known], [f for _, f in known])
        )
        distances.append(100 * (each.foreground - expected))
        rows.append(
            (arm.variant or "as printed", f"{arm.learning_rate:g}", f"{at:.1e}", f"{100 * expected:.1f}",
             f"{100 * each.foreground:.1f}", f"{distances[-1]:+.1f}", ", ".join(sorted(each.dead)) or "–")
        )  # fmt: skip
    header = ("square", "rate", "ε over scale", "expected", "found", "difference", "dead organs")
    return ["## Readings: is it one factor?", _table(rows, header)], distances


def repair_section(arms: dict[Arm, Measured], base: dict[Arm, Measured]) -> tuple[list[str], str]:
    """What mends the direction, chosen on validation cases, judged on test cases; also the verdict."""
    families: dict[str, list[Measured]] = {}
    rates = sorted({arm.learning_rate for arm in arms})
    for each in [*base.values(), *arms.values()]:
        if each.arm.learning_rate in rates:
            name = f"p = {float(each.arm.weighting):g}" + (f", {each.arm.variant}" if each.arm.variant else "")
            families.setdefault(name, []).append(each)
    complete = {name: group for name, group in families.items() if len(group) == len(rates)}
    uniform = complete.get("p = 0")
    if uniform is None or len(complete) < 2:
        return ["## Repair", "Not run yet."], "open: not run yet"
    gaps = {name: gap(group, uniform) for name, group in complete.items() if group is not uniform}
    rows = [
        (
            name,
            _percent(mean_defined(each.validation for each in group)),
            *(_cell(each) for each in group),
            "" if group is uniform else str(gaps[name]),
        )
        for name, group in complete.items()
    ]

    def on_validation(name: str) -> float:
        return mean_defined(each.validation for each in complete[name]) or 0

    best = max(complete, key=on_validation)
    if best == "p = 0":
        verdict = "there is none: on the validation cases nothing lies above p = 0"
    elif gaps[best].low > 0:
        verdict = f"**{best}**, {gaps[best]} points above p = 0 on the test cases"
    else:
        verdict = (
            f"there is none: {best}, first on the validation cases, is {gaps[best]} points from p = 0 on the test cases"
        )
    repairs = [name for name in complete if ", " in name and name.split(", ")[0] in complete]
    if repairs:
        first = max(repairs, key=on_validation)
        from_plain = gap(complete[first], complete[first.split(", ")[0]])
        verdict += (
            f". Of what was tried on p = 1 and p = 2, {first} is first on the validation cases, {from_plain} points"
        )
        verdict += f" from the same p without it, {gaps[first]} from p = 0"
        verdict += " (`--preset balanced`)" * (first == BALANCED)
    header = ("", "validation", *(f"rate {rate:g}" for rate in rates), "mean over both rates minus p = 0, points")
    return ["## Repair", _table(rows, header)], verdict


def verdicts(
    direction: dict[Arm, Measured], printed: dict[Arm, Measured], curve: Levels, distances: list[float]
) -> list[str]:
    """Rules 1 to 3 of the decision."""
    return [
        f"1. *Direction decides which organs die*: {_rule1(direction, printed)}",
        f"2. *ε decides how slowly everything learns*: {_rule2(curve, distances)}",
        f"3. *A larger rate repairs mainly the second*: {_rule3(curve)}",
    ]


def _rule1(direction: dict[Arm, Measured], as_printed: dict[Arm, Measured]) -> str:
    uniform, square = direction.get(Arm(0.0, 0.001)), direction.get(Arm(2.0, 0.001))
    printed = as_printed.get(Arm("square", 0.001))
    if uniform is None or square is None or printed is None:
        return OPEN
    between = gap([square], [uniform])
    holds = between.points <= -10 and between.counts and len(square.dead ^ printed.dead) <= 1
    return (
        f"{_confirmed(holds=holds)}. At rate 0.001 and without ε, p = 2 lies {between} points from p = 0. Dead are "
        f"{_listed(square.dead)} ({counted(square.seeds.size, 'seed')}); with square as printed "
        f"{_listed(printed.dead)} ({counted(printed.seeds.size, 'seed')})."
    )


def _rule2(curve: Levels, distances: list[float]) -> str:
    levels = [(e, by_rate[0.001]) for e, by_rate in curve if 0.001 in by_rate]
    if len(levels) < 2 or not distances:
        return OPEN
    fall = gap([levels[-1][1]], [levels[0][1]])
    worst = max(distances, key=abs)
    holds = fall.points <= -10 and fall.counts and abs(worst) <= 10
    return (
        f"{_confirmed(holds=holds)}. At rate 0.001, ε = {levels[-1][0]:g} lies {fall} points from ε = 0; the "
        f"reading that is farthest from its place lies {worst:+.1f} points from it."
    )


def _rule3(curve: Levels) -> str:
    gains = [(e, by_rate[0.001], by_rate[0.01]) for e, by_rate in curve if 0.001 in by_rate and 0.01 in by_rate]
    kept = [mean_defined(each.step_kept for each in arms) for _, *arms in gains]
    slow = [gain for gain, share in zip(gains, kept, strict=True) if share is not None and share <= 0.5]
    if not slow or gains[0][0] > LEAST_EPSILON:
        return OPEN
    (_, free_low, free_high), (epsilon, low, high) = gains[0], slow[0]
    difference = gap([high, free_low], [low, free_high])
    holds = 2 * difference.points >= 5 and difference.counts  # the gap is of means over two arms each
    return (
        f"{_confirmed(holds=holds)}. From rate 0.001 to 0.01, p = 2 gains {gap([high], [low])} points at "
        f"ε = {epsilon:g} and {gap([free_high], [free_low])} at ε = 0."
    )


def advice_section(direction: dict[Arm, Measured], curve: Levels) -> list[str]:
    """What a user should do, from the same figures."""
    lines = []
    for rate in sorted({arm.learning_rate for arm in direction}):
        at_rate = {float(arm.weighting): each for arm, each in direction.items() if arm.learning_rate == rate}
        best = max(at_rate, key=lambda p: at_rate[p].foreground)
        if 0.0 in at_rate and best > 0:
            ahead = gap([at_rate[best]], [at_rate[0.0]])
            how = "a gap that counts" if ahead.counts else "which does not count"
            lines.append(f"- Rate {rate:g}: p = {best:g} is highest, {ahead} points from p = 0, {how}.")
        elif best == 0:
            lines.append(f"- Rate {rate:g}: p = 0, uniform weights, is highest.")
    always = {
        p: frozenset.intersection(*(each.dead for arm, each in direction.items() if float(arm.weighting) == p))
        for p in sorted({float(arm.weighting) for arm in direction})
    }
    never_back = {p: dead for p, dead in always.items() if dead}
    if never_back:
        first = min(never_back)
        lines.append(
            f"- From p = {first:g} on some organs stay dead at every rate tried (at p = {first:g} "
            f"{_listed(never_back[first])}): a larger rate is no remedy. Choose a lower power (`--weighting 0.5`)."
        )
    slow = [(e, kept) for e, arms in curve if (kept := mean_defined(m.step_kept for m in arms.values())) is not None]
    halved = next((e for e, kept in slow if kept <= 0.5), None)
    if halved is not None:
        lines.append(
            f"- Beside weights that sum to L, ε = {halved:g} takes half of Adam's step or more. `viscera doctor STORE` "
            "says what yours takes before you train; `train.loss.normalise: sum_to_L` or a smaller "
            "`train.adam.epsilon` gives it back."
        )
    return ["## What to do", "\n".join(lines)] if lines else []


def forecast_section(folder: Path, direction: dict[Arm, Measured]) -> list[str]:
    """What the forecast of `viscera doctor` was worth on phantoms that it was fitted to, and on those it was not."""

    def rows_of(names: Iterable[str]) -> list[ForecastRow]:
        paths = [folder / name / "forecast" for name in names if (folder / name / "forecast" / "study.yaml").exists()]
        studies = [(path.parent.name, read_study(path)) for path in paths]
        return [
            row._replace(title=f"{name}: {row.title}" if len(studies) > 1 else row.title)
            for name, study in studies
            if study.grids
            for row in forecast_rows(study, study.grids[0])
        ]

    unseen, fitted = rows_of(UNSEEN), rows_of(FITTED)
    if not unseen:
        return ["## Forecast", "Not run yet."]
    table = [(row.title, ", ".join(row.named) or "none", ", ".join(row.failed) or "none") for row in unseen]
    sentences = [f"Phantoms of another seed and shape than it was fitted to. {forecast_sentence(unseen)}"]
    if fitted:
        sentences.append(f"Sets {' and '.join(FITTED)}, which it was fitted to: {forecast_sentence(fitted)}")
    several = [each for each in direction.values() if each.seeds.size > 2]
    if several:
        precision, recall = repeated(several)
        sentences.append(
            "How much of this is chance: of an arm of `direction`, the mean of its other seeds names the organs that "
            f"fail in one seed with precision {precision:.2f} and recall {recall:.2f}."
        )
    return ["## Forecast", " ".join(sentences), _table(table, ("arm", "forecast to fail", "failed"))]


def page(folder: Path) -> str:
    """The whole page."""
    studies = {
        name: read_study(folder / name)
        for name in ("direction", "printed", "scale", "readings", "repair")
        if (folder / name / "study.yaml").exists()
    }
    arms = {name: measured(study) for name, study in studies.items()}
    direction = arms.get("direction", {})
    curve = _levels(studies, arms)
    readings: list[str] = []
    distances: list[float] = []
    if arms.get("readings"):
        readings, distances = readings_section(studies["readings"], arms["readings"], curve)
    repair, repair_verdict = repair_section(arms.get("repair", {}), direction)
    first = next(iter(studies.values()))
    train = first.record.config.train
    unseen = [read_study(folder / name / "forecast") for name in UNSEEN if (folder / name / "forecast").exists()]
    statuses = [run.status for study in [*studies.values(), *unseen] for run in study.runs if run.status is not None]
    data = (
        f"Data: {first.record.dataset}. {len(first.scores.cases())} test cases, {train.iterations:,} steps, windows of "
        f"{train.patch}³, {train.filters} filters. Design and rules were written before it was run: "
        "[decision 0009](../decisions/0009-the-experiment-that-decides.md)."
    )
    made = (
        f"{len(statuses)} runs, {sum(s.wall_seconds for s in statuses) / 3600:.1f} hours of training. "
        f"{_hardware(statuses)}; {dt.datetime.now(tz=dt.UTC).date().isoformat()}. Made by `make study-phantom`."
    )
    found = verdicts(direction, arms.get("printed", {}), curve, distances)
    parts = [
        "# Why class weights need another learning rate" + (" (phantom)" if first.phantom else ""),
        data,
        "## What came out",
        "\n".join([*found, f"4. *Repair*: {repair_verdict}."]),
        *advice_section(direction, curve),
        *direction_section(direction),
        *scale_section(curve),
        *readings,
        *repair,
        *forecast_section(folder, direction),
        made,
    ]
    return "\n\n".join(parts) + "\n"


def _levels(studies: dict[str, StudyResult], arms: dict[str, dict[Arm, Measured]]) -> Levels:
    """The arms with p = 2 by epsilon and rate: without epsilon from `direction`, the others from `scale`."""
    levels: dict[float, dict[float, Measured]] = {}
    for name in ("direction", "scale"):
        for arm, each in arms.get(name, {}).items():
            if float(arm.weighting) == 2:
                epsilon = arm_config(studies[name].record.config, arm, 0).train.adam.epsilon
                levels.setdefault(max(epsilon, LEAST_EPSILON), {})[arm.learning_rate] = each
    return sorted(levels.items())


def _confirmed(*, holds: bool) -> str:
    return "confirmed" if holds else "not confirmed"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _hardware(statuses: Sequence[RunStatus]) -> str:
    return "; ".join(dict.fromkeys(f"{s.hardware}, torch {s.versions.get('torch', '?')}" for s in statuses))


def _cell(each: Measured | None) -> str:
    if each is None:
        return "–"
    return f"{100 * fmean(each.seeds):.1f} ± {100 * float(np.std(each.seeds)):.1f} ({each.seeds.size})"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_text(arguments.out, page(arguments.folder))
    print(arguments.out)


if __name__ == "__main__":
    main()
