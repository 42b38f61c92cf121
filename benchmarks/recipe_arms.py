"""What the ablation of docs/decisions/0035 varies, and the rule by which an ingredient enters `--preset strong`."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from statistics import fmean, median
from typing import Any

from viscera.core.resolve import PRESETS

Settings = Mapping[str, Any]  # of `train`, by dotted key
Seeds = Mapping[Any, float]  # mean foreground Dice, 0 to 1, by seed: a number, or as JSON has it
Scores = Mapping[str, Seeds]  # by arm

BASE: Settings = {
    "learning_rate": 0.01,  # uniform at this rate is the paper's best arm on the phantom
    "diagnose": False,
    "validate_every": 1_000_000,  # at the end alone
    "log_every": 200,
    "checkpoint_every": 1_000_000,
}
BASE_STEPS = 600  # whose processor time every arm has
SEEDS = (0, 1, 2)
CONFIRMING_SEEDS = (3, 4, 5)
WEIGHTINGS = ("uniform", "simple", "square")
BUDGETS = (300, 1200, 4800)  # steps of the base, whose time there is to confirm in

INGREDIENTS: dict[str, Settings] = {
    "cosine": {"rate_schedule.shape": "cosine"},
    "adamw": {"optimiser.name": "adamw", "optimiser.weight_decay": 0.01},
    "clip": {"optimiser.clip_norm": 12.0},
    "cross_entropy": {"loss.cross_entropy": 1.0},
    "organ_windows": {"organ_windows": 0.33},
    "average": {"average": 0.999},
    "instance": {"network.normalisation": "instance"},
    "residual": {"network.encoder": "residual", "network.blocks": [1, 1, 1]},
    "deep_supervision": {"network.deep_supervision": True},
    "dropout": {"network.dropout": 0.2},
    "augment": {"augment.enabled": True},
    "window_hu": {"intensity.low_hu": -160.0, "intensity.high_hu": 240.0},
}
# other ways to the same end, each alone: name to the settings
ALTERNATIVES: dict[str, Settings] = {
    "polynomial": {"rate_schedule.shape": "polynomial"},
    "warm_up": {"rate_schedule.warm_up": 30},
    "cosine_rate_0.003": {"learning_rate": 0.003, "rate_schedule.shape": "cosine"},
    "cosine_rate_0.03": {"learning_rate": 0.03, "rate_schedule.shape": "cosine"},
    "cross_entropy_root": {"loss.cross_entropy": 1.0, "loss.cross_entropy_weighting": 0.5},
    "group": {"network.normalisation": "group"},
    "sgd": {
        "optimiser.name": "sgd",
        "optimiser.weight_decay": 3e-5,
        "optimiser.clip_norm": 12.0,
        "rate_schedule.shape": "polynomial",
    },
    "patch_32": {"patch": 32, "batch_size": 2},
}
# the second round of docs/decisions/0035, written after seed 0 of the first had been seen
_EARLY: Settings = {**INGREDIENTS["organ_windows"], **INGREDIENTS["window_hu"]}
SECOND_ROUND: dict[str, Settings] = {
    "batch_1": {"batch_size": 1},
    "batch_2": {"batch_size": 2},
    "patch_32_batch_1": {"patch": 32, "batch_size": 1},
    "rate_0.02": {"learning_rate": 0.02},
    "rate_0.005": {"learning_rate": 0.005},
    "cosine_rate_0.02_to_0.1": {
        "learning_rate": 0.02,
        "rate_schedule.shape": "cosine",
        "rate_schedule.lowest": 0.1,
    },
    "filters_16": {"filters": 16},
    "levels_4": {"levels": 4},
    "early": _EARLY,
    "early_average": {**_EARLY, **INGREDIENTS["average"]},
    "early_average_ce": {**_EARLY, **INGREDIENTS["average"], **INGREDIENTS["cross_entropy"]},
    "early_batch_1": {**_EARLY, "batch_size": 1},
    "early_batch_1_average_ce": {
        **_EARLY,
        **INGREDIENTS["average"],
        **INGREDIENTS["cross_entropy"],
        "batch_size": 1,
    },
}
# the third, written after seed 0 of the second had been seen
_MILD: Settings = {**_EARLY, **INGREDIENTS["average"], **ALTERNATIVES["cross_entropy_root"]}
THIRD_ROUND: dict[str, Settings] = {
    "mild": _MILD,
    "mild_rate_0.005": {**_MILD, "learning_rate": 0.005},
    "mild_rate_0.007": {**_MILD, "learning_rate": 0.007},
    "mild_warm_up": {**_MILD, **ALTERNATIVES["warm_up"]},
    "mild_deep_supervision": {**_MILD, **INGREDIENTS["deep_supervision"]},
    "mild_cross_entropy_2": {**_MILD, "loss.cross_entropy": 2.0},
    "mild_organ_windows_0.67": {**_MILD, "organ_windows": 0.67},
    "mild_window_-100_to_250": {**_MILD, "intensity.low_hu": -100.0, "intensity.high_hu": 250.0},
}
# the fourth, written after two seeds of the third had been seen
_BEST: Settings = SECOND_ROUND["early_average_ce"]
FOURTH_ROUND: dict[str, Settings] = {
    "early_average_ce_warm_up": {**_BEST, **ALTERNATIVES["warm_up"]},
    "early_average_ce_rate_0.02": {**_BEST, "learning_rate": 0.02},
    "early_average_ce_cosine_to_0.1": {**_BEST, "rate_schedule.shape": "cosine", "rate_schedule.lowest": 0.1},
    "early_average_ce_organ_windows_0.67": {**_BEST, "organ_windows": 0.67},
    "early_average_ce_half": {**_BEST, "loss.cross_entropy": 0.5},
}
# the sixth, written after two seeds of the fifth had been seen
_ROBUST: Settings = SECOND_ROUND["early_average"]
SIXTH_ROUND: dict[str, Settings] = {
    "early_average_organ_windows_0.67": {**_ROBUST, "organ_windows": 0.67},
    "early_average_warm_up": {**_ROBUST, **ALTERNATIVES["warm_up"]},
    "early_average_ce_quarter": {**_ROBUST, "organ_windows": 0.67, "loss.cross_entropy": 0.25},
}
# the eighth, around what the seventh chose
EIGHTH_ROUND: dict[str, Settings] = {
    "early_average_ce_beta2_0.99": {**_BEST, "adam.beta2": 0.99},
    "early_average_ce_beta2_0.99_warm_up": {**_BEST, "adam.beta2": 0.99, **ALTERNATIVES["warm_up"]},
    "early_average_ce_z_score": {**_BEST, "intensity.scaling": "z_score"},
    "early_average_ce_warm_up_organ_windows_0.67": {**_BEST, **ALTERNATIVES["warm_up"], "organ_windows": 0.67},
}
# the fifth round, on real shapes with simulated HU: names of arms of the others, and the budgets in steps of the base
ON_SHAPES = (
    "early",
    "early_average",
    "early_average_ce_warm_up",
    "early_average_ce_organ_windows_0.67",
    "mild",
    "mild_warm_up",
    *SIXTH_ROUND,
    "early_average_ce",  # the seventh round
    "early_average_ce_half",
)
ON_REAL_SCANS = (
    "early_average",
    "early_average_ce_quarter",
    "early_average_ce_half",
    "early_average_ce",
)  # the seventh
SHAPES_BUDGETS = (300, 1200)
LATER_ROUNDS = SECOND_ROUND | THIRD_ROUND | FOURTH_ROUND | SIXTH_ROUND | EIGHTH_ROUND
EARNED, HARM = 0.5, -1.0  # points of Dice: rule 1
GOAL = 5.0  # points of strong over the paper's best arm in the demo's time: rule 4
MATTERS = 5.0  # points between the best and the worst weighting: rule 5
ALIKE = 0.5  # points of gain: arms between which the number of ingredients decides
_ONE_INGREDIENT = ("intensity", "loss", "rate_schedule", "augment")  # whatever is set of these sections


@dataclass(frozen=True)
class RecipeArm:
    """One recipe: a name, and what it sets beyond the base."""

    name: str
    settings: Settings


def arms() -> list[RecipeArm]:
    """The base, each ingredient alone, all of them, all but each, the alternatives, and the later rounds."""
    everything = {key: value for settings in INGREDIENTS.values() for key, value in settings.items()}
    return [
        RecipeArm("base", {}),
        *(RecipeArm(name, settings) for name, settings in INGREDIENTS.items()),
        RecipeArm("all", everything),
        *(
            RecipeArm(f"all_but_{name}", {key: value for key, value in everything.items() if key not in settings})
            for name, settings in INGREDIENTS.items()
        ),
        *(RecipeArm(name, settings) for name, settings in ALTERNATIVES.items()),
        *(RecipeArm(name, settings) for name, settings in LATER_ROUNDS.items()),
    ]


def strong(weighting: str = "uniform", *, mean_of_one: bool = False) -> RecipeArm:
    """The recipe of `--preset strong`, with the base's network and sizes; class weights scaled to a mean of 1 if asked.

    Their scale decides how much the Dice loss counts beside cross-entropy.
    """
    settings = {key: value for key, value in _flat(PRESETS["strong"]["train"]) if key != "weighting"}
    scaled = {"loss.normalise": "sum_to_L"} if mean_of_one else {}
    parts = ["strong", *([weighting] if weighting != "uniform" else []), *(["mean_of_one"] if mean_of_one else [])]
    return RecipeArm("_".join(parts), {**settings, **scaled, "weighting": weighting})


def name_of_strong() -> str:
    """The arm of the ablation whose recipe `--preset strong` is, under whose name its steps were timed."""
    of_base = {"learning_rate": 0.01, "weighting": "uniform"}
    return next(arm.name for arm in arms() if {**of_base, **arm.settings} == strong().settings)


def gain(of: Seeds, over: Seeds) -> float:
    """Points of Dice, the median over the seeds that both have, paired by seed; there must be one."""
    return 100 * median(of[seed] - over[seed] for seed in of.keys() & over.keys())


def mean_gains(phantom: Scores, shapes: Mapping[Any, Scores]) -> dict[str, float]:
    """Points over the base, by arm: the mean over set A and, at each of their budgets, the real shapes (set C).

    Only arms that were trained on all of these have one.
    """
    on = [phantom, *shapes.values()]

    def is_in_all(arm: str) -> bool:
        return all(dice.get(arm, {}).keys() & dice.get("base", {}).keys() for dice in on)

    return {arm.name: fmean(gain(dice[arm.name], dice["base"]) for dice in on) for arm in arms() if is_in_all(arm.name)}


def chosen(phantom: Scores, shapes: Mapping[Any, Scores], stay: Container[str] = ()) -> RecipeArm:
    """What `strong` is: of all arms within half a point of the highest mean gain, that with the fewest ingredients.

    Of arms with equally many ingredients the higher gain counts. Where any `stay` that reached all bars on real scans,
    of these alone (the seventh round).
    """
    gains = mean_gains(phantom, shapes)
    gains = {name: value for name, value in gains.items() if name in stay} or gains
    alike = [arm for arm in arms() if gains.get(arm.name, -inf) >= max(gains.values()) - ALIKE]
    return min(alike, key=lambda arm: (number_of_ingredients(arm), -gains[arm.name]))


def number_of_ingredients(arm: RecipeArm) -> int:
    """By how many settings an arm differs from the base, where one ingredient with several counts once."""
    parts = ((key, key.split(".")[0]) for key in arm.settings)
    return len({section if section in _ONE_INGREDIENT else key for key, section in parts})


def _flat(nested: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{key}.")
        else:
            yield within + key, value


def confirmed_on(name: str, base_steps: int) -> list[RecipeArm]:
    """What is trained on a set in the time of so many steps of the base: rules 3 to 5 of docs/decisions/0035."""
    if name == "a" and base_steps == max(BUDGETS):
        return []
    found = [RecipeArm("base", {}), strong()]
    if name != "c" and base_steps == BUDGETS[1]:
        found += [strong(each, mean_of_one=scaled) for scaled in (False, True) for each in WEIGHTINGS[1:]]
    return found


def steps_of(times_base: float, base_steps: int) -> int:
    """As many steps, each so many times as long as one of the base, as take the time of so many steps of the base."""
    return max(1, round(base_steps / times_base))


@dataclass(frozen=True)
class Effect:
    """What an ingredient gives, in points of mean foreground Dice, medians over the seeds."""

    ingredient: str
    alone: float  # beside the base
    within_all: float  # beside all but it

    @property
    def enters(self) -> bool:
        """Rule 1 of docs/decisions/0035."""
        return (self.alone + self.within_all) / 2 >= EARNED and min(self.alone, self.within_all) >= HARM


def effects(dice: Scores) -> list[Effect]:
    """Of each ingredient whose four arms are all there."""
    return [
        Effect(name, gain(dice[name], dice["base"]), gain(dice["all"], dice[f"all_but_{name}"]))
        for name in INGREDIENTS
        if {"base", "all", name, f"all_but_{name}"} <= dice.keys()
    ]
