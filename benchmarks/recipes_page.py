"""The page of the ablation, of what `benchmarks.recipes collect` wrote.

python -m benchmarks.recipes_page
"""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.recipe_arms import (
    ALTERNATIVES,
    BASE_STEPS,
    BUDGETS,
    GOAL,
    INGREDIENTS,
    LATER_ROUNDS,
    MATTERS,
    ON_REAL_SCANS,
    ON_SHAPES,
    SEEDS,
    SHAPES_BUDGETS,
    WEIGHTINGS,
    RecipeArm,
    Scores,
    arms,
    chosen,
    effects,
    gain,
    mean_gains,
    strong,
)
from benchmarks.recipes import NAME
from benchmarks.recipes_on_real_scans import SCANS, Memorised, missed, who_stays
from benchmarks.record import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "recipes.md"
SETS = {"a": "A, phantom", "b": "B, phantom", "c": "C, real shapes with simulated HU"}
OF_SEEDS = ("Dice, by seed", "median", "over base")
_CANDIDATES = ("arm", "A, gain", *(f"C, {n:,} steps{of}" for n in SHAPES_BUDGETS for of in ("", ", gain")), "mean gain")


def main() -> None:
    """Write the page of what was collected."""
    PAGE.write_text(page(json.loads((RESULTS / NAME).read_text())))


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    cost, ablation = found["cost"], found["ablation"]
    times = cost["times_base"]
    done = sum(map(len, ablation.values()))
    memorised = found.get("memorised", {})
    stay = who_stays(memorised)
    gains, best = effects(ablation), chosen(ablation, found["shapes"], stay)
    rule = [[g.ingredient, f"{g.alone:+.1f}", f"{g.within_all:+.1f}", "yes" if g.enters else "no"] for g in gains]
    return f"""# Which ingredients make a better recipe: the ablation

What the ingredients of docs/recipes.md give at equal processor time, and what `--preset strong` is made of. Design and
rules, written before it was run: [decision 0035](../decisions/0035-the-strong-recipe.md). **Phantom and simulated HU,
not patients.** Dice is the mean over the organs of mean test Dice; gains are in points, medians over the seeds, paired
by seed.

## Each alone, all, and all but each: set A

The demo's phantom and network; every arm has as many steps as take the time of {BASE_STEPS} steps of the base, by what
a step took when it was first trained. Times here are over those of the base; where a step was measured again since, "in
all" shows how far off the first was. {done} of {len(arms()) * len(SEEDS)} trainings are in.

{_table(_rows(ablation, times, found["steps"]), ["arm", "time of a step", "steps", "in all", *OF_SEEDS])}

## The candidates on real shapes with simulated HU: set C

In the time of so many steps of the base: Dice by seed, and the gain over the base.

{_table(_candidates(ablation, found["shapes"]), _CANDIDATES)}

## The candidates on two real scans that they learn by heart

Organs whose Dice misses the bar of [these pages](memorised-real-ct.md), each scan in the steps of `make
memorise-strong`. Memorising says nothing of other patients, but no recipe may lose an organ of a scan that it trains
on. A candidate that missed a bar goes no further.

{_table(_memorised(memorised), ("arm", "seed", *SCANS))}

**The choice**, by the decision's last rule: {_chosen_among(stay)} within half a point of the highest
mean gain that with the fewest ingredients, `{best.name}`{_of_few(ablation)}. It sets {_settings(best)}.

## Rule 1: what each ingredient gives

{_table(rule, ["ingredient", "alone, over the base", "within all", "would enter"])}

## Rules 3 and 4: `strong` over the base, other seeds

{_table(_confirmed(found["confirmation"]), ["set", "time of so many steps", "base", "strong", "gain"])}
{_verdicts(found["confirmation"])}
## Rule 5: do the weights of the Dice loss matter within `strong`?

Each with its own class weights in the Dice loss, in the time of {BUDGETS[1]:,} steps of the base. The larger their
mean, the more Dice counts beside the cross-entropy, whose factor is the same for all{_mean_weights(found)}. So they
are compared as in the paper, and scaled to a mean of 1. They matter where best and worst are {MATTERS:g} points apart.

{_table(_weightings(found["confirmation"]), ["set", "weights", *WEIGHTINGS, "best over worst", "they matter"])}

Timed on {cost["hardware"]}, trained on {"; ".join(found["trained_on"])}; one thread, {cost["precision"]}; torch
{cost["versions"]["torch"]}. Made by `make study-recipes`.
"""


def _candidates(phantom: Scores, shapes: Mapping[str, Scores]) -> list[list[str]]:
    means = mean_gains(phantom, shapes)
    on = [phantom, *(shapes.get(str(steps), {}) for steps in SHAPES_BUDGETS)]
    return [
        [
            name,
            _gain(phantom[name], phantom["base"]),
            *(cell for of in on[1:] for cell in (_by_seed(of.get(name, {})), _gain(of.get(name, {}), of["base"]))),
            f"{means[name]:+.1f}",
        ]
        for name in ("base", *ON_SHAPES)
        if name in means and all("base" in of for of in on)
    ]


def _chosen_among(stay: Sequence[str]) -> str:
    if stay:
        return f"of those that reach all bars with {len(SEEDS)} seeds ({', '.join(stay)}) and are"
    return f"of the arms (none is known to reach all bars with {len(SEEDS)} seeds)"


def _memorised(found: Memorised) -> list[list[str]]:
    seeds = {arm: sorted({seed for of in scans.values() for seed in of}, key=int) for arm, scans in found.items()}
    return [
        [arm, seed, *(_missed(found[arm].get(scan, {}).get(seed), scan) for scan in SCANS)]
        for arm in ON_REAL_SCANS
        for seed in seeds.get(arm, [])
    ]


def _missed(dice: Mapping[str, float] | None, scan: str) -> str:
    if dice is None:
        return "–"
    return ", ".join(f"{name} {value:.2f}" for name, value in missed(dice, scan).items()) or "none"


def _of_few(dice: Scores) -> str:
    """What the choice rests on where not all trainings are in."""
    fewer = [arm.name for arm in arms() if len(dice.get(arm.name, {})) < len(SEEDS)]
    if not fewer:
        return ""
    told = f"so far: {len(fewer)} arms have less than {len(SEEDS)} seeds on A"
    begun = [(gain(dice[name], dice["base"]), name) for name in fewer if name in dice and "base" in dice]
    if begun:
        highest, name = max(begun)
        told += f"; the best of these, `{name}`, gains {highest:+.1f} points there"
    return f" ({told})"


def _settings(arm: RecipeArm) -> str:
    return ", ".join(f"`train.{key}` {value}" for key, value in arm.settings.items()) or "nothing"


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True) if rows else "Not run yet."


def _rows(dice: Scores, times: Mapping[str, float], steps: Mapping[str, int]) -> list[list[str]]:
    names = [
        "base",
        *INGREDIENTS,
        "all",
        *(f"all_but_{name}" for name in INGREDIENTS),
        *ALTERNATIVES,
        *LATER_ROUNDS,
    ]
    return [
        [
            name,
            f"{times[name]:.2f}",
            str(steps[name]),
            f"{steps[name] * times[name] / BASE_STEPS:.2f}",
            _by_seed(dice[name]),
            f"{median(dice[name].values()):.3f}",
            _gain(dice[name], dice.get("base", {})),
        ]
        for name in names
        if name in dice
    ]


def _confirmed(found: Mapping[str, Mapping[str, Scores]]) -> list[list[str]]:
    return [
        [title, f"{int(budget):,}", _by_seed(of["base"]), _by_seed(of["strong"]), _gain(of["strong"], of["base"])]
        for name, title in SETS.items()
        for budget, of in sorted(found.get(name, {}).items(), key=lambda each: int(each[0]))
        if {"base", "strong"} <= of.keys()
    ]


def _verdicts(found: Mapping[str, Mapping[str, Scores]]) -> str:
    """Of rules 3 and 4, from what there is."""
    gains = {
        (name, int(budget)): gain(of["strong"], of["base"])
        for name, budgets in found.items()
        for budget, of in budgets.items()
        if {"base", "strong"} <= of.keys()
    }
    others = {key: value for key, value in gains.items() if key[0] in ("b", "c")}
    behind = [
        f"{SETS[name]}, {budget:,} steps ({value:+.1f})" for (name, budget), value in others.items() if value <= 0
    ]
    told = f"not ahead: {'; '.join(behind)}" if behind else f"ahead in all {len(others)} rows of B and C"
    rule_3 = f"\nRule 3, ahead of the base on B and C: {told}." if others else ""
    of_demo = gains.get(("a", BUDGETS[0]))
    reached = "" if of_demo is None else "reached" if of_demo >= GOAL else "not reached"
    rule_4 = "" if of_demo is None else f" Rule 4, {GOAL:g} points on A: {reached} ({of_demo:+.1f})."
    return f"{rule_3}{rule_4}\n" if rule_3 or rule_4 else ""


def _weightings(found: Mapping[str, Mapping[str, Scores]]) -> list[list[str]]:
    rows = []
    for (name, title), mean_of_one in product(SETS.items(), (False, True)):
        names = [strong("uniform").name, *(strong(each, mean_of_one=mean_of_one).name for each in WEIGHTINGS[1:])]
        of = found.get(name, {}).get(str(BUDGETS[1]), {})
        if {*names} <= of.keys():
            best, *_, worst = sorted(names, key=lambda arm: -median(of[arm].values()))
            weights = "mean of 1" if mean_of_one else "as in the paper"
            matter = "yes" if gain(of[best], of[worst]) >= MATTERS else "no"
            rows.append([title, weights, *(_by_seed(of[arm]) for arm in names), _gain(of[best], of[worst]), matter])
    return rows


def _mean_weights(found: Mapping[str, Any]) -> str:
    of = found.get("mean_weights", {}).get("a")
    return f": on set A {', '.join(f'{of[each]:g} ({each})' for each in WEIGHTINGS)}" if of else ""


def _by_seed(values: Mapping[str, float]) -> str:
    return " ".join(f"{values[seed]:.3f}" for seed in sorted(values, key=int))


def _gain(over: Mapping[str, float], base: Mapping[str, float]) -> str:
    return f"{gain(over, base):+.1f}" if over.keys() & base.keys() else "–"


if __name__ == "__main__":
    main()
