"""The page of the permuted weights and their rivals (docs/decisions/0036), of what was collected.

python -m benchmarks.permuted_weights
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from benchmarks.long_studies import STUDIES, collected, made_with, study_config, trainings
from benchmarks.over_seeds import OverSeeds
from benchmarks.seeded_arms import Arms, Entry, difference, difference_by_seed, failing, points
from viscera.core.anatomy import ORGANS, title_of
from viscera.core.arms import Arm
from viscera.core.named_weights import COUNTS_OF
from viscera.core.wording import counted
from viscera.io.files import write_text
from viscera.metrics.learning import FAILING_DICE

PAGE = Path(__file__).parents[1] / "docs" / "results" / "permuted-weights.md"
NAMES = tuple(organ.name for organ in ORGANS)
SHIFTS = range(1, 7)
RATE, POWER, ALL_SEEDS = 0.01, 2, 5  # what decides
ABOUT = (
    "The demo's phantom and size, 300 steps, weights that sum to L, ε = 0. No patients. Design, rules and predictions "
    "were written before it was run: [decision 0036](../decisions/0036-permuted-weights.md). *rho_w*: rank correlation "
    "of an organ's Dice with its weight over the permutations; *rho_o*: of the organs' Dice with that at p itself. "
)
LEAST_RHO, LEAST_J, EXPLAINED = 0.5, 0.5, 5.0  # of the rules; the last in points


def counts_of(name: str) -> dict[str, str]:
    """Whose count each organ takes in a weighting of `studies/permutation.yaml`."""
    definition = _weights()[name][COUNTS_OF]
    return {organ: definition.get(organ, organ) for organ in NAMES}


def _weights() -> dict[str, Any]:
    return study_config("permutation").study.weights


def arm_names(power: int, rate: float) -> list[str]:
    """The power itself and its six permutations."""
    return [Arm(float(power), rate).name, *(Arm(f"p{power}-shift{k}", rate).name for k in SHIFTS)]


def complete_seeds(arms: Arms, power: int, rate: float) -> list[str]:
    """Seeds that the power and all its permutations have."""
    having = [set(arms.get(name, {})) for name in arm_names(power, rate)]
    return sorted(set.intersection(*having), key=int)


def dice_table(arms: Arms, power: int, rate: float, seeds: Sequence[str]) -> np.ndarray:
    """(7, 7) mean Dice over some seeds, of the power itself and its permutations by organ."""
    means = [
        [fmean(arms[name][seed]["dice"][organ] for seed in seeds) for organ in NAMES] for name in arm_names(power, rate)
    ]
    return np.array(means)


def weight_ranks(counts: Mapping[str, int], power: int) -> np.ndarray:
    """(7, 7) rank of each organ's weight, 1 for the smallest, in the power itself and its permutations."""
    order = sorted(NAMES, key=lambda organ: -counts[organ])
    taken = [dict(zip(NAMES, NAMES, strict=True)), *(counts_of(f"p{power}-shift{k}") for k in SHIFTS)]
    return np.array([[1 + order.index(whose[organ]) for organ in NAMES] for whose in taken])


def correlations(dice: np.ndarray, ranks: np.ndarray) -> tuple[float, float]:
    """rho_w and rho_o of the rule: over the six permutations with the weight, over the organs with the power itself.

    An organ, or a permutation, whose Dice is always the same follows nothing: 0.
    """
    by_weight = [_rank_correlation(dice[1:, organ], ranks[1:, organ]) for organ in range(len(NAMES))]
    by_organ = [_rank_correlation(dice[shift], dice[0]) for shift in SHIFTS]
    return fmean(by_weight), fmean(by_organ)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def youden(dice: np.ndarray, ranks: np.ndarray) -> tuple[float, float]:
    """J by weight and J by organ over the 42 cells: recall + specificity - 1 of the two forecasts of the rule.

    0 where no cell fails, or all do.
    """
    fails = dice < FAILING_DICE
    failing_ranks = set(ranks[0][fails[0]].tolist())
    by_weight = np.isin(ranks[1:], list(failing_ranks))
    by_organ = np.broadcast_to(fails[0], by_weight.shape)
    found = fails[1:]
    if found.all() or not found.any():
        return 0.0, 0.0
    by_weight_j, by_organ_j = (float(each[found].mean() - each[~found].mean()) for each in (by_weight, by_organ))
    return by_weight_j, by_organ_j


def verdict(arms: Arms, counts: Mapping[str, int]) -> tuple[str, list[str]]:
    """The rule: one of its words, or `open`, and the sentences behind it."""
    seeds = complete_seeds(arms, POWER, RATE)
    if len(seeds) < ALL_SEEDS:
        return "open", [f"{len(seeds)} of {ALL_SEEDS} seeds complete at p = {POWER} and rate {RATE:g}."]
    ranks = weight_ranks(counts, POWER)
    pairs = [correlations(dice_table(arms, POWER, RATE, [seed]), ranks) for seed in seeds]
    weight, organ = (OverSeeds.of(values) for values in zip(*pairs, strict=True))
    apart = OverSeeds.of([w - o for w, o in pairs])
    by_weight, by_organ = youden(dice_table(arms, POWER, RATE, seeds), ranks)
    first = weight.mean >= LEAST_RHO and weight.is_above and apart.is_above
    second = by_weight >= LEAST_J and by_weight > by_organ
    refuted = apart.is_below or (by_organ >= by_weight and weight.mean < LEAST_RHO)
    word = "confirmed" if first and second else "refuted" if refuted else "undecided"
    return word, [
        f"Part 1 {_holds(first)}: rho_w is {weight.text(2)}, rho_o {organ.text(2)}, their difference {apart.text(2)}.",
        f"Part 2 {_holds(second)}: J by weight is {by_weight:.2f}, J by organ {by_organ:.2f}.",
    ]


def _holds(value: bool) -> str:
    return "holds" if value else "does not hold"


def unexplained(arms: Arms, counts: Mapping[str, int], seeds: Sequence[str]) -> list[str]:
    """Organs that fail in a permutation without one of the failing weights, with predicted over true volume."""
    dice, ranks = dice_table(arms, POWER, RATE, seeds), weight_ranks(counts, POWER)
    failing_ranks = set(ranks[0][dice[0] < FAILING_DICE].tolist())
    found = []
    for row, name in enumerate(arm_names(POWER, RATE)[1:], start=1):
        for column, organ in enumerate(NAMES):
            if dice[row, column] < FAILING_DICE and ranks[row, column] not in failing_ranks:
                ratio = fmean(arms[name][seed]["volume"][organ] for seed in seeds)
                rank = ranks[row, column]
                found.append(f"{title_of(organ)} in shift {row} (weight {rank} of 7, {ratio:.2g} times its volume)")
    return found


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    studies, counts = found["studies"], found["counts"].get("permutation", {})
    arms: Arms = studies.get("permutation", {}).get("300", {})
    word, sentences = verdict(arms, counts)
    parts = [
        "# Does the failure follow the weight or the organ? (phantom)",
        ABOUT + _progress(studies),
        f"**The failure follows the weight: {word}.** " + " ".join(sentences),
        *_deciding_table(arms, counts),
        *_other_tables(arms, counts),
        *_background(arms),
        *rivals_section(studies),
        made_with(found, "make study-permutation"),
    ]
    return "\n\n".join(parts) + "\n"


def _progress(studies: Mapping[str, Any]) -> str:
    planned = done = 0
    for name, study in STUDIES.items():
        if study.experiment == "permutation":
            planned += trainings(name)
            done += sum(len(seeds) for stage in studies.get(name, {}).values() for seeds in stage.values())
    return f"{done} of {planned} trainings are in."


def _deciding_table(arms: Arms, counts: Mapping[str, int]) -> list[str]:
    seeds = complete_seeds(arms, POWER, RATE)
    if not seeds:
        return []
    left = unexplained(arms, counts, seeds)
    told = f"Failing without one of the failing weights: {'; '.join(left)}." if left else ""
    return [f"## p = {POWER}, rate {RATE:g}", _table(arms, counts, POWER, RATE, seeds), *filter(None, [told])]


def _other_tables(arms: Arms, counts: Mapping[str, int]) -> list[str]:
    parts = []
    for power, rate in ((1, 0.01), (2, 0.001), (1, 0.001)):
        seeds = complete_seeds(arms, power, rate)
        if seeds:
            ranks = weight_ranks(counts, power)
            pairs = [correlations(dice_table(arms, power, rate, [seed]), ranks) for seed in seeds]
            weight, organ = (OverSeeds.of(values) for values in zip(*pairs, strict=True))
            told = f"Decides nothing. rho_w is {weight.text(2)}, rho_o {organ.text(2)}."
            parts += [f"## p = {power}, rate {rate:g}", told, _table(arms, counts, power, rate, seeds)]
    return parts


def _table(arms: Arms, counts: Mapping[str, int], power: int, rate: float, seeds: Sequence[str]) -> str:
    """Dice in per cent with the rank of the weight; bold where the organ fails."""
    dice, ranks = dice_table(arms, power, rate, seeds), weight_ranks(counts, power)

    def cell(row: int, column: int) -> str:
        value = f"{100 * dice[row, column]:.0f}"
        return (f"**{value}**" if dice[row, column] < FAILING_DICE else value) + f" ({ranks[row, column]})"

    titles = [f"p = {power}", *(f"shift {k}" for k in SHIFTS)]
    rows = [[title, *(cell(row, column) for column in range(len(NAMES)))] for row, title in enumerate(titles)]
    text = (
        f"Dice in per cent, mean of {counted(len(seeds), 'seed')}; in brackets the rank of the organ's weight, "
        "1 the smallest."
    )
    return text + "\n\n" + _markdown(rows, ["", *(organ.title for organ in ORGANS)])


def _background(arms: Arms) -> list[str]:
    rows = []
    for rate in (0.01, 0.001):
        name = Arm("background-alone", rate).name
        plain = Arm(0.0, rate).name
        for title, each in (("organs alike, light background", name), ("p = 0", plain)):
            if arms.get(each):
                of = list(arms[each].values())
                means = (f"{100 * fmean(entry['dice'][organ] for entry in of):.0f}" for organ in NAMES)
                rows.append([f"{title}, rate {rate:g}", *means, str(len(of))])
    header = ["", *(organ.title for organ in ORGANS), "seeds"]
    return ["## Background's weight alone", _markdown(rows, header)] if rows else []


@dataclass(frozen=True)
class Rival:
    """p = 0 and p = 2 with something changed, over the seeds that both have."""

    title: str  # `none`: nothing is changed
    means: tuple[float, float]  # foreground Dice in per cent of p = 0 and p = 2
    gap: OverSeeds  # p = 2 minus p = 0
    square: Sequence[Entry]  # p = 2

    @property
    def explains(self) -> bool:
        """Whether p = 2 comes near p = 0 with it."""
        return self.gap.mean >= -EXPLAINED

    @classmethod
    def of(cls, title: str, arms: Arms, variant: str, rate: float = RATE) -> "list[Rival]":
        """One, or none where it has not been run."""
        plain, square = (points(arms, Arm(power, rate, variant)) for power in (0.0, 2.0))
        gap = difference(square, plain)
        if gap is None:
            return []
        entries = arms[Arm(2.0, rate, variant).name]
        seeds = difference_by_seed(square, plain)
        means = fmean(plain[seed] for seed in seeds), fmean(square[seed] for seed in seeds)
        return [cls(title, means, gap, [entries[seed] for seed in seeds])]


def rivals(studies: Mapping[str, Any]) -> list[Rival]:
    """Those that were run; what they stand beside, with nothing changed, comes first."""
    arms: Arms = studies.get("rivals", {}).get("300", {})
    longer: Arms = studies.get("rate_times_steps", {}).get("3000", {})
    variants = study_config("rivals").study.variants
    found = [rival for variant in variants for rival in Rival.of(variant or "none", arms, variant)]
    return found + Rival.of("rate 0.001, 3,000 steps", longer, "", 0.001)


def rivals_section(studies: Mapping[str, Any]) -> list[str]:
    """Each rival beside p = 0 and p = 2 without it."""
    rows = [_rival_row(each) for each in rivals(studies)]
    header = ["", "p = 0", "p = 2", "p = 2 - p = 0, points", "failing at p = 2", "of these by batch", "explains it"]
    text = (
        "Foreground mean of Dice in per cent; intervals over the seeds. *By batch*: Dice of the failing organs on "
        "training patches by each batch's own statistics. A rival explains the failure where p = 2 with it lies within "
        f"{EXPLAINED:g} points of p = 0 with it, by the mean."
    )
    return ["## Rivals", text, _markdown(rows, header)] if rows else ["## Rivals", "Not run yet."]


def _rival_row(of: Rival) -> list[str]:
    lost = failing(of.square)
    by_batch = [each["dice_by_batch"].get(organ) for organ in lost for each in of.square]
    known = [value for value in by_batch if value is not None]
    return [
        of.title,
        *(f"{mean:.1f}" for mean in of.means),
        of.gap.text(),
        ", ".join(map(title_of, lost)) or "none",
        f"{100 * fmean(known):.0f}" if known else "–",
        "–" if of.title == "none" else "yes" if of.explains else "no",
    ]


def _markdown(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    """Write the page of the collected results."""
    write_text(PAGE, page(collected("permutation")))
    print(PAGE)


if __name__ == "__main__":
    main()
