"""The paper's place on epsilon's axis, and the page of the surrogates that stand there (docs/decisions/0038).

    python -m benchmarks.paper_regime claim WORK
    python -m benchmarks.paper_regime settled
    python -m benchmarks.paper_regime page

`claim` computes what Adam's epsilon leaves of the step at counts like the paper's, with its network (about 10 minutes
on one core), into `benchmarks/results/paper_regime.json`. `settled` ends with 0 where the collected studies need no
last stage, else with 1. `page` writes docs/results/regime.md of what was collected.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from tabulate import tabulate

from benchmarks.count_scale import (
    PAPER_VOLUMES,
    PAPER_VOXELS,
    SQUARE_KEEPS,
    SQUARE_KEEPS_OF_ALL,
    StepKept,
    count_scale_for,
)
from benchmarks.long_studies import STAGES, STUDIES, collected, made_with, trainings
from benchmarks.over_seeds import OverSeeds
from benchmarks.record import RESULTS, record
from benchmarks.seeded_arms import (
    Arms,
    Entry,
    difference_by_seed,
    entries_of,
    failing,
    interaction,
    mean_of,
    points,
    share,
    spread,
)
from benchmarks.stores import phantom_store
from viscera.core.anatomy import title_of
from viscera.core.arms import Arm
from viscera.core.resolve import resolve_config
from viscera.io.files import write_text
from viscera.io.records import read_json

PAGE = Path(__file__).parents[1] / "docs" / "results" / "regime.md"
CLAIM = "paper_regime"
WEIGHTINGS, RATES, SEEDS = ("uniform", "simple", "square"), (0.001, 0.01), 5
SETS = {"phantom": "phantom", "shapes": "real shapes, simulated HU"}
THERE, SETTLED = 5.0, 1.0  # points: an interaction, and the gain of an arm that has not converged
PAPER = {"simple": 20.1, "square": 39.1}  # interactions with uniform, of the rows of its Table 1
Word = Literal["there", "not there", "open"]


def claim(work: Path) -> None:
    """What epsilon leaves of the step at the paper's counts and with its network, and at the demo's."""
    torch.set_num_threads(1)
    store = phantom_store(work / "paper", 4, 0, (128, 128, 128))
    scale = PAPER_VOXELS / float(store.voxel_counts().sum())
    of = StepKept(store, resolve_config("paper"), batches=4)
    demo = StepKept(phantom_store(work / "demo", 16, 0, (48, 36, 36)), resolve_config("demo"))
    kept = {
        "paper": {f"{e:g}": {name: of(name, scale, e) for name in WEIGHTINGS} for e in (1e-8, 1e-7)},
        "demo": {"1e-08": {name: demo(name, 1.0, 1e-8) for name in WEIGHTINGS}},
    }
    figures = {
        "kept": kept,
        "voxels": PAPER_VOXELS,
        "voxels_of_a_class": dict(
            zip(store.classes.names, (scale * store.voxel_counts()).round().tolist(), strict=True)
        ),
        "volumes_at_which_square_keeps_7_percent": PAPER_VOLUMES * count_scale_for(of) / scale,
        "parameters": of.gradients.parameters_of_the_model,
    }
    record(CLAIM, figures)


def word_of(values: Sequence[float]) -> Word:
    """Whether an interaction is there, by the decision: with all seeds; else open."""
    if len(values) < SEEDS:
        return "open"
    found = OverSeeds.of(values)
    if found.mean >= THERE and found.is_above:
        return "there"
    return "not there" if found.lies_within(THERE) else "open"


def effects(arms: Arms, direction: Arms) -> dict[str, list[float]]:
    """The interactions that the rule names, one value a seed: simple's, square's, of its direction alone, the rest."""
    square, alone = interaction(arms, "square"), interaction(arms, "square", of=direction)
    return {
        "simple": list(interaction(arms, "simple").values()),
        "square": list(square.values()),
        "direction": list(alone.values()),
        "scale": list(difference_by_seed(square, alone).values()),
    }


def verdict(found: Mapping[str, Sequence[float]]) -> str:
    """What needs the larger rate, by the rule of the decision."""
    words = {name: word_of(values) for name, values in found.items()}
    direction: Word = (
        "there"
        if "there" in (words["simple"], words["direction"])
        else "not there"
        if words["simple"] == words["direction"] == "not there"
        else "open"
    )
    scale = words["scale"]
    said = {"there": "needs it", "not there": "does not need it", "open": "is open"}
    if direction == scale == "not there":
        return "neither direction nor scale needs the larger rate here: the paper's effect is not shown"
    return f"direction {said[direction]}, scale {said[scale]}"


def complete_stage(of_set: Mapping[str, Arms]) -> int | None:
    """The last stage at which all six arms have all seeds; None where there is none."""
    names = [Arm(weighting, rate).name for weighting in WEIGHTINGS for rate in RATES]
    whole = [s for s in STAGES if all(len(of_set.get(str(s), {}).get(name, {})) >= SEEDS for name in names)]
    return max(whole, default=None)


def rises(of_set: Mapping[str, Arms], earlier: int, later: int) -> dict[str, float]:
    """Points of validation Dice that each arm gained between two stages, mean over the seeds that have both."""
    found = {}
    for name, now in of_set.get(str(later), {}).items():
        before = of_set.get(str(earlier), {}).get(name, {})
        gains = [
            100 * (now[seed]["validation"] - before[seed]["validation"])
            for seed in now.keys() & before.keys()
            if now[seed]["validation"] is not None and before[seed]["validation"] is not None
        ]
        if gains:
            found[name] = fmean(gains)
    return found


def is_settled(studies: Mapping[str, Mapping[str, Arms]]) -> bool:
    """Whether on both sets no arm rose by a point or more from the first stage to the second; both must be complete."""
    complete = [complete_stage(studies.get(name, {})) or 0 for name in SETS]
    gains = [rises(studies.get(name, {}), STAGES[0], STAGES[1]) for name in SETS]
    return min(complete) >= STAGES[1] and all(gain < SETTLED for each in gains for gain in each.values())


def page(found: Mapping[str, Any], claimed: Mapping[str, Any]) -> str:
    """The whole page."""
    studies = found["studies"]
    parts = [
        "# Scale or direction, where the paper trained? (phantom, and real shapes with simulated HU)",
        ABOUT + regime_progress(studies),
        "## The paper's place on epsilon's axis",
        _claim_text(claimed),
        _claim_table(claimed),
    ]
    for name in SETS:
        parts += _set_section(name, studies, found["count_scale"].get(f"{name} {SQUARE_KEEPS:g}"))
    return "\n\n".join([*parts, made_with(found, "make study-regime")]) + "\n"


ABOUT = (
    "Surrogates: the demo's network and patches, up to 10,000 steps, counts scaled so that square keeps 7 % of Adam's "
    "step. No patients. Design, rules and predictions were written before it was run: "
    "[decision 0038](../decisions/0038-the-papers-regime.md). "
)


def regime_progress(studies: Mapping[str, Any]) -> str:
    """How many trainings are in at each stage."""
    told = []
    for stage in STAGES:
        planned = done = 0
        for name, study in STUDIES.items():
            if study.experiment == "regime":
                planned += trainings(name)
                done += sum(map(len, studies.get(name, {}).get(str(stage), {}).values()))
        told.append(f"{done} of {planned} trainings are in at {stage:,} steps")
    return "; ".join(told) + "."


def _claim_text(claimed: Mapping[str, Any]) -> str:
    volumes = claimed["volumes_at_which_square_keeps_7_percent"]
    return f"""Share of Adam's step that epsilon leaves (Keras's place, half-way through 10,000 steps), of untrained
networks: {claimed["parameters"]:,} weights, the phantom's classes in {claimed["voxels"]:.2g} voxels, as
{PAPER_VOLUMES} scans have. Beside it the demo's size and counts, where `why-weights-fail` was measured. Square's share
falls as the counts rise: it is {100 * SQUARE_KEEPS:.0f} % at the voxels of {volumes:.0f} such scans."""


def _claim_table(claimed: Mapping[str, Any]) -> str:
    rows = [
        [f"{size}, ε {epsilon}", *(share(of[name]) for name in WEIGHTINGS)]
        for size, by_epsilon in claimed["kept"].items()
        for epsilon, of in by_epsilon.items()
    ]
    return _table(rows, ["", *WEIGHTINGS])


def _set_section(name: str, studies: Mapping[str, Any], scale: float | None) -> list[str]:
    of_set, alone = studies.get(name, {}), studies.get(f"{name}_direction", {})
    stages = [stage for stage in STAGES if of_set.get(str(stage))]
    title = f"## {SETS[name][:1].upper()}{SETS[name][1:]}"
    if not stages:
        return [title, "Not run yet."]
    complete = complete_stage(of_set)
    at = complete or stages[-1]
    arms, direction, lower = of_set[str(at)], alone.get(str(at), {}), studies.get(f"{name}_lower", {}).get(str(at), {})
    found = effects(arms, direction)
    state = "complete" if complete else "not complete: means so far, and no verdict"
    told = f"Counts times {scale:g}. Read at {at:,} steps ({state})." if scale else f"Read at {at:,} steps ({state})."
    if complete:
        told += f" **From rate 0.001 to 0.01: {verdict(found)}.**"
    if at // 2 in STAGES:
        gains = rises(of_set, at // 2, at).items()
        converged = [f"{arm} {gain:+.1f}" for arm, gain in gains if gain >= SETTLED]
        told += f" Rose by {SETTLED:g} point or more on validation cases from half the steps: "
        told += f"{', '.join(converged) or 'none'}."
    found = found | {"lower": list(interaction(arms, "square", of=lower).values())}
    return [title, told, _effects_table(found), _arms_table(arms, direction, lower)]


def _effects_table(found: Mapping[str, Sequence[float]]) -> str:
    titles = {
        "simple": "simple",
        "square": "square",
        "direction": "square, its direction alone (D)",
        "scale": "square, what scale adds",
        "lower": f"square where it keeps {share(SQUARE_KEEPS_OF_ALL)}",
    }
    rows = [
        [title, f"{PAPER[key]:+.1f}" if key in PAPER else "", OverSeeds.of(of).text(), str(len(of)), word_of(of)]
        for key, title in titles.items()
        if (of := found[key])
    ]
    return _table(rows, ["interaction with the rate, points", "paper", "mean (95 % interval)", "seeds", "is it there?"])


def _arms_table(arms: Arms, direction: Arms, lower: Arms) -> str:
    cells = [(Arm(w, rate), arms, "") for rate in RATES for w in WEIGHTINGS]
    cells += [(Arm("square", rate), direction, ", direction alone") for rate in RATES]
    cells += [(Arm("square", rate), lower, f", keeping {share(SQUARE_KEEPS_OF_ALL)}") for rate in RATES]
    rows = []
    for arm, of, note in cells:
        if entries := entries_of(of, arm):
            kept = mean_of(entries, "step_kept")
            rows.append(
                [
                    arm.title + note,
                    spread(points(of, arm)),
                    "–" if kept is None else share(kept),
                    _failing(entries),
                ]
            )
    return _table(rows, ["", "foreground Dice", "step kept", "failing (predicted over true volume)"])


def _failing(entries: Sequence[Entry]) -> str:
    ratios = {name: fmean(each["volume"].get(name, 0.0) for each in entries) for name in failing(entries)}
    return ", ".join(f"{title_of(name)} ({ratio:.2g})" for name, ratio in ratios.items()) or "none"


def _table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=("claim", "settled", "page"))
    parser.add_argument("work", type=Path, nargs="?", default=Path("regime-claim"))
    given = parser.parse_args()
    if given.piece == "claim":
        claim(given.work)
    elif given.piece == "settled":
        sys.exit(0 if is_settled(collected("regime")["studies"]) else 1)
    else:
        write_text(PAGE, page(collected("regime"), read_json(RESULTS / f"{CLAIM}.json")))
        print(PAGE)


if __name__ == "__main__":
    main()
