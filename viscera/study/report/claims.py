"""The paper's claims, and what tests each (docs/decisions/0008-claim-ledger.md, which dates every change of a margin).

Claims 1-6 are inequalities between settings; 7-10 read more
than scores of the plain settings (a longer training, curves, combined models, variants).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from viscera.core.arms import FUSED, Arm, arm_config
from viscera.core.errors import BadInputError
from viscera.core.settings import differences
from viscera.study.report.claim_rules import (
    FOREGROUND,
    MINUS,
    PAPER_SETTINGS,
    Contrast,
    Evidence,
    Part,
    Reading,
    Setting,
    difference,
    mean_contrast,
    training_gap,
    within,
)
from viscera.study.results import RunResult, mean_defined

FAILED = 10.0  # points below uniform on an organ that count as failing on it
MARKED = 5.0  # points of foreground mean that count as a marked improvement
ALIKE = MARKED  # points of foreground mean within which two rates count as alike: no marked difference
OVERFIT = 10.0  # points of training above test that count as strong overfitting
FELL = 2.0  # points that Dice on validation must fall below its best, for the gap to count against claim 8
SETTLED = 1.0  # points of foreground mean within which doubling the iterations changes nothing
FEWER, MORE = 10_000, 20_000  # iterations
LOW, HIGH, HIGHEST = 0.001, 0.01, 0.1
LARGE = ("liver", "spleen", "stomach")
NAMED_IN_4 = ((FOREGROUND, ""), (("artery", "portal_vein", "pancreas"), "artery, portal vein and pancreas"))
ONE_COMBINATION = "It takes combinations of the models of several seeds, and a study makes one."
_MEMORY = ("patch", "batch_size")


class Inequality(NamedTuple):
    """One setting lies more than a margin above another; the mean over some organs is compared."""

    higher: Setting
    lower: Setting
    margin: float = 0.0  # points
    organs: tuple[str, ...] = FOREGROUND  # names
    of: str = ""  # the organs for people; empty where they are all seven
    two_sided: bool = False  # whether the claim is that they differ by less than the margin, either way

    def parts(self, evidence: Evidence) -> tuple[Part, ...]:
        """Of a study that has both settings (`Evidence.missing` says so)."""
        a, b = self.higher, self.lower
        same_rate = a.learning_rate == b.learning_rate
        title = f"{a.weighting} {MINUS} {b.title}" if same_rate else f"{a.title} {MINUS} at {b.learning_rate:g}"
        dice_a, dice_b = (evidence.dice_by_seed(evidence.arm(setting)) for setting in (a, b))
        contrast = difference(title + (f", {self.of}" if self.of else ""), dice_a, dice_b, self.organs)
        return within(contrast, self.margin) if self.two_sided else (Part(contrast, self.margin),)


class Claim(NamedTuple):
    """One line of the ledger before any data."""

    number: str  # as in the list of the paper's claims; 10 has two halves
    statement: str  # in our own words
    tested_by: str  # the settings and the rule, in words
    reading: Callable[[Evidence], Reading]  # what it comes to in one study


def _all_of(inequalities: Sequence[Inequality]) -> Callable[[Evidence], Reading]:
    def reading(evidence: Evidence) -> Reading:
        missing = evidence.missing(setting for i in inequalities for setting in (i.higher, i.lower))
        return Reading(() if missing else tuple(part for i in inequalities for part in i.parts(evidence)), missing)

    return reading


def longer_training(evidence: Evidence) -> Reading:
    """Claim 7: the same runs at 10,000 and at 20,000 iterations."""
    stages = evidence.study.record.all_stages
    if FEWER not in stages or MORE not in stages:
        have = ", ".join(f"{n:,}" for n in sorted(stages))
        return Reading(
            missing=f"Scores at {have} iterations only. It needs the same study at {FEWER:,} (--iterations {FEWER}) "
            f"and, trained on, at {MORE:,} (--iterations {MORE})."
        )
    at = {n: Evidence(evidence.study.at_stage(n), evidence.grid) for n in (FEWER, MORE)}
    rates = {setting.learning_rate for setting in PAPER_SETTINGS if evidence.arm(setting)} or {LOW, HIGH}
    settings = [setting for setting in PAPER_SETTINGS if setting.learning_rate in rates]
    missing = at[FEWER].missing(settings) or at[MORE].missing(settings)
    if missing:
        return Reading(missing=missing)
    parts: list[Part] = []
    for setting in settings:
        later, sooner = (at[n].dice_by_seed(at[n].arm(setting)) for n in (MORE, FEWER))
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
        if arm is None or not evidence.dice_by_seed(arm):
            continue
        gap = training_gap(f"training {MINUS} test with {setting.title}", evidence, arm)
        fall = mean_defined(_fall(run) for run in evidence.finished(arm))
        if gap.patients:
            parts.append(Part(gap, OVERFIT, above=False, counts_against=(fall or 0.0) > FELL))
        if fall is not None:
            falls[setting.title] = fall
    if not parts:
        return Reading(missing="No finished and scored run of the paper's settings with Dice on training patches.")
    reserve = "The gap is large, but it also holds what patches and whole scans differ by"
    if not falls:
        reserve += ". Dice on validation during training would tell (prepare --validation-fraction)."
        return Reading(tuple(parts), reserve=reserve)
    worst = max(falls, key=lambda title: falls[title])
    return Reading(
        tuple(parts),
        remark=f"At the end, Dice on validation is at most {falls[worst]:.1f} points below the best of its curve "
        f"({worst}).",
        reserve=f"{reserve}, and Dice on validation did not fall by more than {FELL:g} points where it is.",
    )


def combined_models(evidence: Evidence) -> Reading:
    """Claim 9: the combination against the best single arm."""
    fused = evidence.dice(FUSED, evidence.sample.seeds[0])
    if fused.empty:
        return Reading(missing="No combination of models is scored; --fuse makes and scores one.")
    scored = {arm: dice for arm in evidence.study.arms if (dice := evidence.dice_by_seed(arm))}
    if not scored:
        return Reading(missing="No single arm has a finished and scored run; the notes of Table 1 say why.")
    last = {arm: [run.last_dice(validation=True) for run in evidence.finished(arm)] for arm in scored}
    on_validation = {arm: mean for arm, dice in last.items() if (mean := mean_defined(dice)) is not None}
    against = {arm: difference(f"fused {MINUS} {arm.title}", {-1: fused}, dice) for arm, dice in scored.items()}
    if on_validation:
        best = max(on_validation, key=lambda arm: on_validation[arm])
        remark = f"{best.title} is the single arm that is best on validation."
        return Reading((Part(against[best]),), remark=remark, takes=ONE_COMBINATION)
    best = min(against, key=lambda arm: sum(against[arm].patients.values()))
    return Reading(
        (Part(against[best], counts_against=False),),
        remark=f"No curve has Dice on validation, so the single arm is the best one on test: {best.title}.",
        reserve="The single arm was picked on the test cases, which favours it: this does not contradict the claim.",
        takes=ONE_COMBINATION,
    )


def more_memory(evidence: Evidence) -> Reading:
    """Claim 10a: each variant with larger patches or batches, averaged over the arms that have both."""
    parts = []
    for variant in _larger(evidence):
        contrasts: list[Contrast] = []
        for arm in (arm for arm in evidence.study.arms if arm.variant == variant):
            plain = Arm(arm.weighting, arm.learning_rate, evidence.base_variant)
            with_it, without = (evidence.dice_by_seed(a) for a in (arm, plain))
            if with_it and without:
                contrasts.append(difference(arm.title, with_it, without))
        arms = "one arm" if len(contrasts) == 1 else f"{len(contrasts)} arms"
        if contrasts:
            parts.append(Part(mean_contrast(f"{variant} {MINUS} without, mean of {arms}", contrasts)))
    missing = (
        "No scored variant has larger patches or batches and nothing else changed. It needs one in "
        "study.variants, for example larger: {train.batch_size: 6}."
    )
    return Reading(tuple(parts), "" if parts else missing)


def _fall(run: RunResult) -> float | None:
    """How far the last foreground Dice on validation lies below the best of the curve, in points."""
    curve = [mean_defined(point.validation_dice[1:]) for point in run.curve if point.validation_dice]
    measured = [mean for mean in curve if mean is not None]
    return 100 * (max(measured) - measured[-1]) if measured else None


def _larger(evidence: Evidence) -> list[str]:
    """Variants that differ from the base in larger patches or batches alone."""
    config, base = evidence.study.record.config, evidence.base_variant
    arm, found = evidence.study.arms[0], list[str]()
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


_UNIFORM, _SIMPLE, _SQUARE = (
    {rate: Setting(w, rate) for rate in (LOW, HIGH, HIGHEST)} for w in ("uniform", "simple", "square")
)
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1",
        "At rate 0.001 uniform weights are better than simple ones, and those better than square ones.",
        "foreground mean: uniform above simple and simple above square, at 0.001",
        _all_of([Inequality(_UNIFORM[LOW], _SIMPLE[LOW]), Inequality(_SIMPLE[LOW], _SQUARE[LOW])]),
    ),
    Claim(
        "2",
        "At rate 0.001 simple and square weights fail on the large organs.",
        f"liver, spleen and stomach, each: simple and square more than {FAILED:g} points below uniform, at 0.001",
        _all_of([Inequality(_UNIFORM[LOW], of[LOW], FAILED, (o,), o) for of in (_SIMPLE, _SQUARE) for o in LARGE]),
    ),
    Claim(
        "3",
        "Rate 0.01 instead of 0.001 improves simple and square weights markedly.",
        f"foreground mean: simple and square more than {MARKED:g} points higher at 0.01 than at 0.001",
        _all_of([Inequality(of[HIGH], of[LOW], MARKED) for of in (_SIMPLE, _SQUARE)]),
    ),
    Claim(
        "4",
        "At rate 0.01 simple weights are best, above all for artery, portal vein and pancreas.",
        "foreground mean, and mean of these three: simple above uniform and above square, at 0.01",
        _all_of([Inequality(_SIMPLE[HIGH], of[HIGH], 0.0, *in_) for of in (_UNIFORM, _SQUARE) for in_ in NAMED_IN_4]),
    ),
    Claim(
        "5",
        "With uniform weights the result hardly depends on the rate.",
        f"foreground mean: uniform at 0.001 and at 0.01 within ±{ALIKE:g} points of each other (two one-sided tests)",
        _all_of([Inequality(_UNIFORM[LOW], _UNIFORM[HIGH], ALIKE, two_sided=True)]),
    ),
    Claim(
        "6",
        "Square weights would gain more from a rate of 0.1.",
        "foreground mean: square higher at 0.1 than at 0.01",
        _all_of([Inequality(_SQUARE[HIGHEST], _SQUARE[HIGH])]),
    ),
    Claim(
        "7",
        "After 10,000 iterations uniform weights have converged; simple and square ones still gain until 20,000.",
        f"foreground mean at 20,000 against 10,000 iterations: uniform within ±{SETTLED:g} point (two one-sided "
        f"tests), simple and square more than {SETTLED:g} point higher, at each rate of the study",
        longer_training,
    ),
    Claim(
        "8",
        "Without augmentation there is no strong overfitting.",
        f"foreground Dice on training patches less than {OVERFIT:g} points above that on test cases, in each of the "
        "paper's settings that the study has; against it only where Dice on validation fell, too",
        training_against_test,
    ),
    Claim(
        "9",
        "Taking each organ from the weighting and rate that suit it best improves the result.",
        "foreground mean: the combination above the single arm that is best on the validation cases",
        combined_models,
    ),
    Claim(
        "10a",
        "More memory, for larger patches or batches, improves the result.",
        "foreground mean: each variant with larger train.patch or train.batch_size, and nothing else changed, above "
        "the same arms without it",
        more_memory,
    ),
    Claim(
        "10b",
        "More training data improve the result.",
        "the same settings trained on fewer and on more cases, scored on the same test cases",
        lambda _: Reading(
            missing="A study has one training set. What would settle it: the same arms with five seeds or more on all "
            "and on half of the training cases (prepare --split), same test cases, compared by case and seed."
        ),
    ),
)
