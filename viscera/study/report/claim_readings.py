"""Claims 7-10: those that need a longer training, the training curves, the combined models, or variants."""

from collections.abc import Mapping, Sequence

from viscera.core.arms import Arm, arm_config
from viscera.core.errors import BadInputError
from viscera.core.settings import differences
from viscera.study.report.contrasts import (
    MINUS,
    PAPER_SETTINGS,
    Contrast,
    Evidence,
    PatientDice,
    Setting,
    dice_by_seed,
    dice_of_rows,
    difference,
    mean_contrast,
    training_gap,
)
from viscera.study.report.verdicts import Part, Reading, within
from viscera.study.results import RunResult, mean_defined

OVERFIT = 10.0  # points of training above test that count as strong overfitting
FELL = 2.0  # points that Dice on validation must fall below its best, for the gap to count against claim 8
SETTLED = 1.0  # points of foreground mean within which doubling the iterations changes nothing
FEWER, MORE = 10_000, 20_000  # iterations
_RATES = (0.001, 0.01)
_WEIGHTINGS = ("uniform", "simple", "square")
_MEMORY = ("patch", "batch_size")


def longer_training(evidence: Evidence) -> Reading:
    """Claim 7: the same runs at 10,000 and at 20,000 iterations."""
    now = evidence.study.record.all_stages[-1]
    stages = {**evidence.earlier, now: evidence.study}
    if FEWER not in stages or MORE not in stages:
        have = ", ".join(f"{n:,}" for n in sorted(stages))
        return Reading(
            missing=f"Scores at {have} iterations only. It needs the same study at {FEWER:,} (--iterations {FEWER}) "
            f"and, trained on, at {MORE:,} (--iterations {MORE})."
        )
    at = {n: Evidence(stages[n], evidence.grid) for n in (FEWER, MORE)}
    rates = [r for r in _RATES if any(evidence.arm(Setting(w, r)) for w in _WEIGHTINGS)]
    settings = [Setting(w, r) for r in rates or _RATES for w in _WEIGHTINGS]
    missing = at[FEWER].missing(settings) or at[MORE].missing(settings)
    if missing:
        return Reading(missing=missing)
    parts: list[Part] = []
    for setting in settings:
        later, sooner = (_dice(at[n], setting) for n in (MORE, FEWER))
        contrast = difference(f"{MORE:,} {MINUS} {FEWER:,} with {setting.title}", later, sooner)
        parts += within(contrast, SETTLED) if setting.weighting == "uniform" else (Part(contrast, SETTLED),)
    return Reading(tuple(parts))


def training_against_test(evidence: Evidence) -> Reading:
    """Claim 8: the gap at the end, and whether Dice on validation fell."""
    if evidence.study.record.config.train.augment.enabled:
        return Reading(missing="These models were trained with augmentation; it needs train.augment.enabled=false.")
    parts: list[Part] = []
    falls: dict[str, float] = {}
    for setting in PAPER_SETTINGS:
        arm = evidence.arm(setting)
        if arm is None or not dice_by_seed(evidence.study, arm, evidence.grid):
            continue
        runs = [run for run in evidence.study.runs_of(arm) if not run.standing()]
        gap = training_gap(f"training {MINUS} test with {setting.title}", runs, evidence.grid)
        fall = mean_defined(map(_fall, runs))
        if gap.patients:
            parts.append(Part(gap, OVERFIT, above=False, counts_against=(fall or 0.0) > FELL))
        if fall is not None:
            falls[setting.title] = fall
    if not parts:
        return Reading(missing="No finished and scored run of the paper's settings with Dice on training windows.")
    if not falls:
        return Reading(
            tuple(parts),
            reserve="The gap is large, but it also holds what windows and whole scans differ by. Dice on validation "
            "during training would tell (prepare --validation-fraction).",
        )
    worst = max(falls, key=lambda title: falls[title])
    remark = (
        f"At the end, Dice on validation is at most {falls[worst]:.1f} points below the best of its curve ({worst})."
    )
    return Reading(
        tuple(parts),
        remark=remark,
        reserve=f"The gap is large, but it also holds what windows and whole scans differ by, and Dice on validation "
        f"did not fall by more than {FELL:g} points where it is.",
    )


def combined_models(evidence: Evidence) -> Reading:
    """Claim 9: the combination against the best single arm."""
    fused = dice_of_rows(evidence.fused, evidence.grid)
    if not fused:
        return Reading(missing="No combination of models is scored; --fuse makes and scores one.")
    scored = {arm: dice_by_seed(evidence.study, arm, evidence.grid) for arm in evidence.study.arms}
    scored = {arm: dice for arm, dice in scored.items() if dice}
    if not scored:
        return Reading(missing="No single arm has a finished and scored run; the notes of Table 1 say why.")
    by_validation = {arm: mean for arm in scored if (mean := _on_validation(evidence, arm)) is not None}
    against = {arm: difference(f"fused {MINUS} {arm.title}", {-1: fused}, dice) for arm, dice in scored.items()}
    if by_validation:
        best = max(by_validation, key=lambda arm: by_validation[arm])
        return Reading((Part(against[best]),), remark=f"{best.title} is the single arm that is best on validation.")
    best = min(against, key=lambda arm: sum(against[arm].patients.values()))
    return Reading(
        (Part(against[best], counts_against=False),),
        remark=f"No curve has Dice on validation, so the single arm is the best one on test: {best.title}.",
        reserve="The single arm was picked on the test cases, which favours it: this does not contradict the claim.",
    )


def more_memory(evidence: Evidence) -> Reading:
    """Claim 10a: each variant with larger windows or batches, averaged over the arms that have both."""
    parts = [Part(contrast) for variant in _larger(evidence) if (contrast := _of_variant(evidence, variant))]
    if parts:
        return Reading(tuple(parts))
    return Reading(
        missing="No scored variant has larger windows or batches and nothing else changed. It needs one in "
        "study.variants, for example larger: {train.batch_size: 6}."
    )


def more_data(_: Evidence) -> Reading:
    """Claim 10b: never from a single study."""
    return Reading(
        missing="A study has one training set. It needs a second study with the same test cases and a part of the "
        "training cases (prepare --split)."
    )


def _dice(evidence: Evidence, setting: Setting) -> Mapping[int, PatientDice]:
    arm = evidence.arm(setting)
    return dice_by_seed(evidence.study, arm, evidence.grid) if arm else {}


def _fall(run: RunResult) -> float | None:
    """How far the last foreground Dice on validation lies below the best of the curve, in points."""
    curve = [mean_defined(point.validation_dice[1:]) for point in run.curve if point.validation_dice]
    measured = [mean for mean in curve if mean is not None]
    return 100 * (max(measured) - measured[-1]) if measured else None


def _on_validation(evidence: Evidence, arm: Arm) -> float | None:
    runs = (run for run in evidence.study.runs_of(arm) if not run.standing())
    return mean_defined(run.last_dice(validation=True) for run in runs)


def _larger(evidence: Evidence) -> list[str]:
    """Variants that differ from the base in larger windows or batches alone."""
    config, base = evidence.study.record.config, evidence.base_variant
    arm = evidence.study.arms[0]
    found = []
    for variant in config.study.variants:
        try:
            plain, other = (arm_config(config, Arm(arm.weighting, arm.learning_rate, v), 0) for v in (base, variant))
        except BadInputError:
            continue
        changed = [getattr(other.train, field) - getattr(plain.train, field) for field in _MEMORY]
        alike = not differences(plain.train, other.train, apart_from=_MEMORY) and plain.predict == other.predict
        if alike and min(changed) >= 0 and max(changed) > 0:
            found.append(variant)
    return found


def _of_variant(evidence: Evidence, variant: str) -> Contrast | None:
    contrasts: list[Contrast] = []
    for arm in evidence.study.arms:
        plain = Arm(arm.weighting, arm.learning_rate, evidence.base_variant)
        if arm.variant == variant:
            with_it, without = (dice_by_seed(evidence.study, a, evidence.grid) for a in (arm, plain))
            if with_it and without:
                contrasts.append(difference(arm.title, with_it, without))
    return _over_arms(variant, contrasts)


def _over_arms(variant: str, contrasts: Sequence[Contrast]) -> Contrast | None:
    if not contrasts:
        return None
    arms = "one arm" if len(contrasts) == 1 else f"{len(contrasts)} arms"
    return mean_contrast(f"{variant} {MINUS} without, mean of {arms}", contrasts)
