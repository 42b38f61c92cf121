"""docs/results/forecast.md, made of benchmarks/results/forecast.json by `python -m benchmarks.fit_forecast`."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from viscera.core.anatomy import title_of

_INTRODUCTION = """# The forecast of failing organs, judged

`viscera doctor STORE` says before training which organs an arm will leave behind (mean Dice on the test cases below
{failing_below}). How it comes to that, and what was fixed before it was judged, is in
[decision 0039](../decisions/0039-forecast.md): a training in miniature with the arm's own loss, weights, rates and
epsilon, no constant of which is fitted, and two constants that make a chance of its Dice, fitted to the sets at the end
of this page. All data are phantoms or real shapes with simulated HU, but for the paper's own Table 1; nothing is said
about patients."""
_SCORES = """Brier score: mean squared distance of the chance from what happened (1 failed, 0 did not); smaller is
better. *Base rate* is a forecaster who knows the share of failing organs of the very set, and nothing else; *rate of
the fit* one who knows that of the sets that the constants were fitted to. *Copy* repeats what failed in the same arm of
the first of those sets; of permuted weights, in the unpermuted arm of the same power. In brackets: 95 % interval of a
bootstrap over arms, as the organs of one arm are not independent. Differences: forecast minus baseline; below 0 the
forecast is better."""
_USE = """Use it to order arms and organs, and to see who is at risk before days of training: where it names an organ,
look there. Do not take a chance above 0.7 at its word: where nearly everything fails, more fail than it says (the
table of reliability). The base rate of a set, which it has to beat here, is not known before training. At the paper's
size it names what failed at 0.001, and does not see all of what square gains at 0.01."""
_PAIRS = """Of the organs that failed and whose voxels another class took (a fifth of them or more, in the label maps
of the first seed), how often the forecast names that class."""


def page(results: Mapping[str, Any]) -> str:
    """The whole page, Markdown."""
    test = results["test"]
    parts = [_INTRODUCTION.format(**results)]
    if test:
        parts += [
            "## What came out",
            *_verdicts(test),
            _USE,
            "## Scores on sets that it was not fitted to",
            _SCORES,
            _briers(test),
        ]
        parts += [f"Named are organs with a chance above {results['named_above']:g}.", _named(test)]
        parts += [
            "## Is a chance a chance?",
            _reliability(results["reliability"]),
            "## Who takes the voxels",
            _pairs(test),
        ]
    if results["fit"]:
        parts += ["## On the sets that it was fitted to", _briers(results["fit"])]
    parts += ["## Arm by arm", _arms(results)] if test else []
    known = results["calibration"]
    parts.append(
        f"Constants: log odds of failing = {known['intercept']:.2f} {known['slope']:+.2f} × Dice of the miniature. "
        f"Trained and judged on: {results['machine']}. Made by `python -m benchmarks.fit_forecast`."
    )
    return "\n\n".join(parts) + "\n"


def _verdicts(test: Mapping[str, Any]) -> list[str]:
    """A sentence a set: whether the forecast beats each baseline, and what follows."""
    lines = []
    for name, found in test.items():
        beaten: list[str] = []
        not_beaten: list[str] = []
        open_: list[str] = []
        for key, title in (("base_rate", "the base rate"), ("copy", "the copy")):
            value = found["scores"][f"minus_{key}"]
            certain = value["low"] is not None and (value["high"] < 0 or value["low"] > 0)
            way = " (by value better)" if value["value"] < 0 else " (by value worse)"
            (open_ if not certain else beaten if value["value"] < 0 else not_beaten).append(title + way * (not certain))
        said = [f"better than {' and '.join(beaten)}"] if beaten else []
        said += [f"not better than {' and '.join(not_beaten)}"] if not_beaten else []
        said += [f"not distinguishable from {' and '.join(open_)} with so few arms"] if open_ else []
        lines.append(f"- **{name}** ({_size(found)}): {'; '.join(said)}.")
    return ["\n".join(lines)]


def _size(found: Mapping[str, Any]) -> str:
    return f"{found['arms']} arms, {found['failed']} of {found['cells']} organs failed"


def _interval(value: Mapping[str, Any], sign: str = "") -> str:
    if value["value"] is None:
        return "–"
    if value["low"] is None:
        return f"{value['value']:{sign}.3f}"
    return f"{value['value']:{sign}.3f} ({value['low']:{sign}.3f} to {value['high']:{sign}.3f})"


def _briers(sets: Mapping[str, Any]) -> str:
    rows = []
    for name, found in sets.items():
        scores = found["scores"]
        briers = [f"{scores[f'brier_{key}']['value']:.3f}" for key in ("base_rate", "rate_of_fit", "copy")]
        minus = [_interval(scores[f"minus_{key}"], "+") for key in ("base_rate", "copy")]
        rows.append((name, _size(found), _interval(scores["brier_forecast"]), *briers, *minus))
    headers = ("set", "size", "forecast", "base rate", "rate of the fit", "copy", "minus base rate", "minus copy")
    return _table(rows, headers)


def _named(sets: Mapping[str, Any]) -> str:
    keys = ("precision", "recall", "copy_precision", "copy_recall")
    rows = [
        (name, *(_interval(found["scores"][key]) for key in keys), f"{found['base_rate']:.2f}")
        for name, found in sets.items()
    ]
    return _table(
        rows, ("set", "precision", "recall", "precision of the copy", "recall of the copy", "share that failed")
    )


def _reliability(bins: list[dict[str, Any]]) -> str:
    rows = [
        (f"{b['low']:g} to {b['high']:g}", b["cells"], f"{b['chance']:.2f}", f"{b['failed']:.2f}")
        for b in bins
        if b["cells"]
    ]
    return _table(rows, ("chance", "arms and organs", "mean chance", "share that failed"))


def _pairs(sets: Mapping[str, Any]) -> str:
    rows = [(name, found["pairs"], found["pairs_right"]) for name, found in sets.items() if found["pairs"]]
    table = [_table(rows, ("set", "organs", "named rightly"))] if rows else []
    return "\n\n".join([_PAIRS, *table])


def _arms(results: Mapping[str, Any]) -> str:
    rows = []
    for name, found in results["test"].items():
        for arm in dict.fromkeys(row["arm"] for row in found["rows"]):
            own = [row for row in found["rows"] if row["arm"] == arm]
            chances = ", ".join(f"{title_of(row['organ'])} {row['chance']:.2f}" for row in own if row["chance"] > 0.1)
            failed = ", ".join(title_of(row["organ"]) for row in own if row["failed"])
            rows.append((name, arm, f"{results['step_kept'][name][arm]:.1%}", chances or "none", failed or "none"))
    return _table(rows, ("set", "arm", "step kept", "chance of failing above 0.1", "failed"))


def _table(rows: Sequence[Sequence[object]], headers: tuple[str, ...]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
