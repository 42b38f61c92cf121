"""Fit the two constants of the forecast of failing organs to some studies, and judge it on others.

    python -m benchmarks.fit_forecast --fit main=STUDY a=STUDY --test c=STUDY shapes=STUDY --paper STORE
        --out benchmarks/results/forecast.json --page docs/results/forecast.md

Without --fit, the constants in force are judged. The constants are typed into `viscera.doctor.forecast` by hand; this
prints them. Judged by the Brier score, beside the base rate of each set and a copy of what failed in the same arms of
the first set of --fit, with intervals of a bootstrap over arms; by reliability; by precision and recall.
"""

import argparse
import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from benchmarks.forecast_examples import Array, Example, examples_of, papers_examples
from benchmarks.forecast_page import page
from benchmarks.record import versions
from viscera.doctor.forecast import CALIBRATION, NAMED_ABOVE, Calibration, failing_chances, mean_dice
from viscera.engine.hardware import describe_hardware
from viscera.io.files import write_text
from viscera.io.records import write_json
from viscera.metrics.learning import FAILING_DICE

RIDGE = 0.01  # keeps the constants finite where the failing organs can be told apart without an error
BOOTSTRAPS = 2000
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def fitted(examples: Sequence[Example], seed: int = 0) -> Calibration:
    """Logistic regression of failing on the miniature's Dice; covariance by a bootstrap over arms."""
    dice = [mean_dice(each.dice)[1:] for each in examples]
    known = [~np.isnan(each.outcome) for each in examples]

    def constants(chosen: npt.NDArray[np.int64]) -> Array:
        x = np.concatenate([np.nan_to_num(dice[n][known[n]]) for n in chosen])
        y = np.concatenate([examples[n].failed[known[n]] for n in chosen]).astype(float)

        def loss(values: Array) -> float:
            odds = values[0] + values[1] * x
            return float(np.mean(np.logaddexp(0, odds) - y * odds) + RIDGE * (values[1] / 10) ** 2)

        best: Array = minimize(loss, np.array([1.0, -5.0])).x
        return best

    rng = np.random.default_rng(seed)
    drawn = np.array([constants(rng.integers(0, len(examples), len(examples))) for _ in range(BOOTSTRAPS // 10)])
    intercept, slope = constants(np.arange(len(examples)))
    (a, ab), (_, b) = np.cov(drawn.T)
    return Calibration(float(intercept), float(slope), ((float(a), float(ab)), (float(ab), float(b))))


def cells(examples: Sequence[Example], calibration: Calibration) -> list[dict[str, Any]]:
    """One for every arm and organ that is scored: what was expected, and what happened."""
    rows = []
    for number, each in enumerate(examples):
        low, chance, high = failing_chances(each.dice, each.share, calibration)
        for at, organ in enumerate(each.organs):
            if not np.isnan(each.outcome[at]):
                row: dict[str, Any] = {"set": each.name, "arm": each.arm.name, "number": number, "organ": organ}
                row |= {"chance": chance[at + 1], "low": low[at + 1], "high": high[at + 1]}
                row |= {"dice": each.outcome[at], "failed": bool(each.failed[at])}
                if each.found_pairs:
                    row |= {"expected_pair": each.expected_pairs[at + 1], "found_pair": each.found_pairs[at + 1]}
                rows.append(row)
    return rows


def copied(examples: Sequence[Example], main: Sequence[Example]) -> list[float]:
    """The copy baseline, for the rows of `cells`: 1 where the organ failed in the main set's arm of the same cell.

    Where the main set has no such arm, that of the same power, unpermuted; where it has no such organ, the share of the
    arm's organs that failed.
    """
    known = {each.cell: each for each in main}
    values = []
    for each in examples:
        power, rate = each.cell
        if isinstance(power, str):
            power = float(power[1])  # p1-shift3, as `unseen_arms` has them
        source = known.get((power, rate))
        failed = {} if source is None else dict(zip(source.organs, source.failed.tolist(), strict=True))
        rest = float(np.mean([*failed.values()])) if failed else 0.5
        values += [
            float(failed.get(organ, rest))
            for organ, dice in zip(each.organs, each.outcome, strict=True)
            if not np.isnan(dice)
        ]
    return values


def unseen_arms(examples: list[Example]) -> list[Example]:
    """Of a study of permuted weights (studies/permutation.yaml) these alone: its other arms are those of the fit."""
    permuted = [each for each in examples if re.fullmatch(r"p[12]-shift\d", str(each.arm.weighting))]
    return permuted or examples


def judged(rows: Sequence[dict[str, Any]], copy: Sequence[float], fit_rate: float) -> dict[str, Any]:
    """Scores of one set, with 95 % intervals of a bootstrap over arms."""
    chance, failed = (np.array([row[key] for row in rows], dtype=float) for key in ("chance", "failed"))
    copies, number = np.array(copy), np.array([row["number"] for row in rows])
    arms = np.unique(number)
    of_arm = [np.flatnonzero(number == arm) for arm in arms]
    own_rate = failed.mean()
    guesses = {
        "copy": copies,
        "base_rate": np.full(failed.size, own_rate),
        "rate_of_fit": np.full(failed.size, fit_rate),
    }
    squares = {"forecast": (chance - failed) ** 2, **{key: (g - failed) ** 2 for key, g in guesses.items()}}

    def scores(index: npt.NDArray[np.int64]) -> dict[str, float]:
        named, happened = chance[index] > NAMED_ABOVE, failed[index] > 0
        hits = float((named & happened).sum())
        result = {f"brier_{key}": float(value[index].mean()) for key, value in squares.items()}
        result |= {f"minus_{key}": result["brier_forecast"] - result[f"brier_{key}"] for key in guesses}
        result["precision"] = hits / named.sum() if named.any() else float("nan")
        result["recall"] = hits / happened.sum() if happened.any() else float("nan")
        copies_named = copies[index] > NAMED_ABOVE
        result["copy_precision"] = float(happened[copies_named].mean()) if copies_named.any() else float("nan")
        result["copy_recall"] = float(copies_named[happened].mean()) if happened.any() else float("nan")
        return result

    rng = np.random.default_rng(0)
    drawn = [
        scores(np.concatenate([of_arm[a] for a in rng.integers(0, len(arms), len(arms))])) for _ in range(BOOTSTRAPS)
    ]
    found = {}
    for key, value in scores(np.arange(failed.size)).items():
        known = [each[key] for each in drawn if not np.isnan(each[key])]
        low, high = np.percentile(known, (2.5, 97.5)).tolist() if known else (None, None)
        found[key] = {"value": None if np.isnan(value) else value, "low": low, "high": high}
    pairs = [row for row in rows if row["failed"] and row.get("found_pair")]
    return {
        "arms": len(arms),
        "cells": int(failed.size),
        "failed": int(failed.sum()),
        "base_rate": float(own_rate),
        "scores": found,
        "pairs": len(pairs),
        "pairs_right": sum(row["expected_pair"] == row["found_pair"] for row in pairs),
    }


def reliability(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """By bins of the chance: how many, their mean chance, and the share that failed."""
    chance, failed = (np.array([row[key] for row in rows], dtype=float) for key in ("chance", "failed"))
    at = np.clip(np.digitize(chance, BINS[1:-1]), 0, len(BINS) - 2)
    return [
        {"low": BINS[b], "high": BINS[b + 1], "cells": int((at == b).sum())}
        | (
            {"chance": float(chance[at == b].mean()), "failed": float(failed[at == b].mean())}
            if (at == b).any()
            else {}
        )
        for b in range(len(BINS) - 1)
    ]


def _machine() -> str:
    date = dt.datetime.now(tz=dt.UTC).date()
    return f"{describe_hardware(torch.device('cpu'))}, torch {versions(['torch'])['torch']}; {date}"


def _named(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    return name, Path(path)


def main() -> None:
    """Fit, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=_named, nargs="*", default=[], metavar="NAME=STUDY")
    parser.add_argument("--test", type=_named, nargs="*", default=[], metavar="NAME=STUDY")
    parser.add_argument("--paper", type=Path, help="store of phantoms on which the paper's arms are forecast")
    parser.add_argument("--out", type=Path, help="results as JSON")
    parser.add_argument("--page", type=Path, help="the page made of them")
    arguments = parser.parse_args()
    fitting = {name: examples_of(name, path) for name, path in arguments.fit}
    together = [each for examples in fitting.values() for each in examples]
    calibration = fitted(together) if together else CALIBRATION
    print(calibration)
    testing = {name: unseen_arms(examples_of(name, path)) for name, path in arguments.test}
    if arguments.paper is not None:
        found = papers_examples(arguments.paper)
        testing[found[0].name] = found
    first = next(iter(fitting.values()), [])
    fit_rate = float(np.nanmean(np.concatenate([each.failed for each in together]))) if together else 0.5
    results: dict[str, Any] = {
        "machine": _machine(),
        "failing_below": FAILING_DICE,
        "named_above": NAMED_ABOVE,
        "calibration": {
            "intercept": calibration.intercept,
            "slope": calibration.slope,
            "covariance": calibration.covariance,
        },
        "fit": {},
        "test": {},
        "step_kept": {name: {e.arm.name: e.step_kept for e in found} for name, found in testing.items()},
    }
    for part, sets in (("fit", fitting), ("test", testing)):
        for name, examples in sets.items():
            rows = cells(examples, calibration)
            results[part][name] = judged(rows, copied(examples, first), fit_rate) | {"rows": rows}
    unseen = [row for each in results["test"].values() for row in each["rows"]]
    results["reliability"] = reliability(unseen) if unseen else []
    if arguments.out is not None:
        write_json(arguments.out, results)
    text = page(results)
    print(text)
    if arguments.page is not None:
        write_text(arguments.page, text)


if __name__ == "__main__":
    main()
