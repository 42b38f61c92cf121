"""The paper's claims, what tests each, and the rule that decides it: docs/decisions/0008-claim-ledger.md.

The margins below were fixed before any study was read. Claims 1-6 are inequalities between settings and stand here as
data; 7-10 read more than scores of the plain settings and have a function each in `claim_readings`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from viscera.study.report.claim_readings import (
    OVERFIT,
    SETTLED,
    combined_models,
    longer_training,
    more_data,
    more_memory,
    training_against_test,
)
from viscera.study.report.contrasts import FOREGROUND, Evidence, Setting, between
from viscera.study.report.verdicts import Part, Reading, within

FAILED = 10.0  # points below uniform on an organ that count as failing on it
MARKED = 5.0  # points of foreground mean that count as a marked improvement
ALIKE = 3.0  # points of foreground mean within which two rates count as alike
LARGE = ("liver", "spleen", "stomach")
NAMED_IN_4 = ("artery", "portal_vein", "pancreas")
LOW, HIGH, HIGHEST = 0.001, 0.01, 0.1


class Inequality(NamedTuple):
    """One setting lies more than a margin above another; the mean over some organs is compared.

    Attributes:
        higher, lower: the settings.
        margin: points.
        organs: names.
        of: the organs for people; empty where they are all seven.
        two_sided: whether the claim is that they differ by less than the margin, either way.
    """

    higher: Setting
    lower: Setting
    margin: float = 0.0
    organs: tuple[str, ...] = FOREGROUND
    of: str = ""
    two_sided: bool = False


@dataclass(frozen=True)
class Claim:
    """One line of the ledger before any data.

    Attributes:
        number: as in the list of the paper's claims; 10 has two halves.
        statement: in our own words.
        tested_by: the settings and the rule, in words.
        inequalities: all of which it says; empty where `read` tests it.
        read: from evidence to what it comes to.
    """

    number: str
    statement: str
    tested_by: str
    inequalities: tuple[Inequality, ...] = ()
    read: Callable[[Evidence], Reading] | None = None

    def reading(self, evidence: Evidence) -> Reading:
        """What it comes to in one study."""
        return self.read(evidence) if self.read else _read_inequalities(self.inequalities, evidence)


def _failing(weighting: str) -> tuple[Inequality, ...]:
    """Uniform is more than the margin above on each large organ."""
    settings = Setting("uniform", LOW), Setting(weighting, LOW)
    return tuple(Inequality(*settings, FAILED, (organ,), organ) for organ in LARGE)


def _best_of_high(weighting: str) -> tuple[Inequality, ...]:
    settings = Setting("simple", HIGH), Setting(weighting, HIGH)
    return Inequality(*settings), Inequality(*settings, 0.0, NAMED_IN_4, "artery, portal vein and pancreas")


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "1",
        "At rate 0.001 uniform weights are better than simple ones, and those better than square ones.",
        "foreground mean: uniform above simple and simple above square, at 0.001",
        (
            Inequality(Setting("uniform", LOW), Setting("simple", LOW)),
            Inequality(Setting("simple", LOW), Setting("square", LOW)),
        ),
    ),
    Claim(
        "2",
        "At rate 0.001 simple and square weights fail on the large organs.",
        f"liver, spleen and stomach, each: simple and square more than {FAILED:g} points below uniform, at 0.001",
        _failing("simple") + _failing("square"),
    ),
    Claim(
        "3",
        "Rate 0.01 instead of 0.001 improves simple and square weights markedly.",
        f"foreground mean: simple and square more than {MARKED:g} points higher at 0.01 than at 0.001",
        tuple(Inequality(Setting(w, HIGH), Setting(w, LOW), MARKED) for w in ("simple", "square")),
    ),
    Claim(
        "4",
        "At rate 0.01 simple weights are best, above all for artery, portal vein and pancreas.",
        "foreground mean, and mean of these three: simple above uniform and above square, at 0.01",
        _best_of_high("uniform") + _best_of_high("square"),
    ),
    Claim(
        "5",
        "With uniform weights the result hardly depends on the rate.",
        f"foreground mean: uniform at 0.001 and at 0.01 within ±{ALIKE:g} points of each other (two one-sided tests)",
        (Inequality(Setting("uniform", LOW), Setting("uniform", HIGH), ALIKE, two_sided=True),),
    ),
    Claim(
        "6",
        "Square weights would gain more from a rate of 0.1.",
        "foreground mean: square higher at 0.1 than at 0.01",
        (Inequality(Setting("square", HIGHEST), Setting("square", HIGH)),),
    ),
    Claim(
        "7",
        "After 10,000 iterations uniform weights have converged; simple and square ones still gain until 20,000.",
        f"foreground mean at 20,000 against 10,000 iterations: uniform within ±{SETTLED:g} point (two one-sided "
        f"tests), simple and square more than {SETTLED:g} point higher, at each rate of the study",
        read=longer_training,
    ),
    Claim(
        "8",
        "Without augmentation there is no strong overfitting.",
        f"foreground Dice on training windows less than {OVERFIT:g} points above that on test cases, in each of the "
        "paper's settings that the study has; against it only where Dice on validation fell, too",
        read=training_against_test,
    ),
    Claim(
        "9",
        "Taking each organ from the weighting and rate that suit it best improves the result.",
        "foreground mean: the combination above the single arm that is best on the validation cases",
        read=combined_models,
    ),
    Claim(
        "10a",
        "More memory, for larger windows or batches, improves the result.",
        "foreground mean: each variant with larger train.patch or train.batch_size, and nothing else changed, above "
        "the same arms without it",
        read=more_memory,
    ),
    Claim(
        "10b",
        "More training data improve the result.",
        "the same settings trained on fewer and on more cases, scored on the same test cases",
        read=more_data,
    ),
)


def _read_inequalities(inequalities: tuple[Inequality, ...], evidence: Evidence) -> Reading:
    missing = evidence.missing(setting for i in inequalities for setting in (i.higher, i.lower))
    if missing:
        return Reading(missing=missing)
    parts: list[Part] = []
    for higher, lower, margin, organs, of, two_sided in inequalities:
        contrast = between(evidence, higher, lower, organs, of)
        parts += within(contrast, margin) if two_sided else (Part(contrast, margin),)
    return Reading(tuple(parts))
