"""The findings about why class weights need another learning rate, and the tables behind them (docs/decisions/0044).

    make study-phantom
    python -m benchmarks.why_weights_fail [--device cuda]

Made of what `benchmarks.long_studies collect` wrote to `benchmarks/results/`; whatever is missing is said.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.long_studies import collected, made_with, study_config
from benchmarks.over_seeds import OverSeeds
from benchmarks.paper_regime import CLAIM, PAPER, SETS, complete_stage, effects, regime_progress, word_of
from benchmarks.paper_regime import verdict as regime_verdict
from benchmarks.permuted_weights import rivals
from benchmarks.permuted_weights import verdict as permuted_verdict
from benchmarks.record import RESULTS
from benchmarks.seeded_arms import Arms, difference, points, share
from benchmarks.weight_figures import write_figures
from benchmarks.weight_rules import (
    Verdict,
    direction_check,
    last_stage,
    levels,
    placed,
    rate_rule,
    repair_rule,
    repairs,
    scale_rule,
    title_interactions,
)
from benchmarks.weight_tables import progress, tables_page
from viscera.core.arms import Arm
from viscera.io.files import write_text
from viscera.io.records import read_json
from viscera.study.report.claim_rules import Setting
from viscera.study.report.claims_section import paper_column

DOCS = Path(__file__).parents[1] / "docs"
PAGE, TABLES, IMAGES = (
    DOCS / each for each in ("results/why-weights-fail.md", "results/why-weights-tables.md", "images")
)
ABOUT = """What makes organs fail when classes are weighted by 1/volume or its square, tried on phantoms. The rules were
written before the trainings that decide: decisions [0036](../decisions/0036-permuted-weights.md),
[0038](../decisions/0038-the-papers-regime.md), [0044](../decisions/0044-after-the-review.md)."""
LIMITS = """These are procedural phantoms at the demo's size (300 steps, patches of 24³, 8 filters, 8 test cases).
  Nothing is said about patients. Intervals are over trainings on this one set."""
_PLACE = """It is another place than the paper's on the axis of ε: with the counts and the network of the paper, square
  as printed keeps {paper} of Adam's step, here {demo}. A value of ε does not carry over to another network."""
_STEPS = """300 steps are 3 % of the paper's training. That a larger rate does not mend the direction is said of
  these steps alone: in the paper's own Table 1 simple has a stomach of {:.0f} at rate 0.01."""
FORECAST = """**7. A forecast before training** names most organs that will fail; how far it can be trusted is on
[its own page](forecast.md)."""
CAPTIONS = {  # the first sentence stands for the picture where it cannot be seen
    "permuted": """Dice of each organ under p = 2 and its six permutations, rate 0.01. The same 49 cells, means over the
seeds, by the rank of the organ's weight and by the organ. Dashed: below it an organ fails.""",
    "power": """Foreground Dice against the power of 1/R, weights that sum to L, without ε. Bars: 95 % interval over the
seeds.""",
    "scale": """Foreground Dice of p = 2 against the share of Adam's step that ε left. Open markers: interpretations of
the paper as printed. Bars: 95 % interval over the seeds.""",
}


def page(found: Mapping[str, Mapping[str, Any]], claimed: Mapping[str, Any], figures: Mapping[str, bool]) -> str:
    """The findings: `found` holds what was collected of `weights`, `permutation` and `regime`."""
    studies = found["weights"]["studies"]
    of = levels(studies)
    readings = placed(studies, of)
    tried = repairs(studies)
    permuted = found["permutation"]
    permutations = last_stage(permuted["studies"], "permutation")
    word, sentences = permuted_verdict(permutations, permuted["counts"].get("permutation", {}))
    check = f"A check, not evidence, as it is a law at this scale: {direction_check(studies).said}"
    permuting = f"{' '.join(sentences)} [Permuted weights](permuted-weights.md). {check}"
    parts = [
        "# Why class weights need another learning rate (phantom)",
        f"{ABOUT} {progress(studies)} Every figure: [the tables](why-weights-tables.md).",
        "## Limits",
        _limits(title_interactions(studies), claimed),
        "## Findings",
        f"**1. Who fails follows the weight, not the organ: {word}.** {permuting}",
        *_figure("permuted", figures),
        *_figure("power", figures),
        _finding(2, "Scale decides how slowly everything learns", scale_rule(of, readings)),
        *_figure("scale", figures),
        _finding(3, "A larger rate repairs mainly scale", rate_rule(of)),
        f"**4. Rivals.** {_rivals(permuted['studies'])}",
        _finding(5, "Something repairs the direction and beats uniform weights", repair_rule(tried)),
        f"**6. In the paper's regime.** {_regime(found['regime']['studies'])}",
        FORECAST,
        "## What to do",
        _advice(last_stage(studies, "direction"), repair_rule(tried)),
        made_with(found["weights"], "make study-phantom"),
    ]
    return "\n\n".join(parts) + "\n"


def _finding(number: int, title: str, verdict: Verdict) -> str:
    said = verdict.said if verdict.said.startswith("p = ") else verdict.said[:1].upper() + verdict.said[1:]
    return f"**{number}. {title}: {verdict.word}.** {said}"


def _figure(name: str, there: Mapping[str, bool]) -> list[str]:
    picture = f"![{CAPTIONS[name].partition('. ')[0]}](../images/why-weights-{name}.svg)"
    return [f"{picture}\n\n*{CAPTIONS[name]}*"] if there[name] else []


def _limits(interactions: Mapping[str, Sequence[float]], claimed: Mapping[str, Any]) -> str:
    paper, demo = claimed["kept"]["paper"]["1e-08"]["square"], claimed["kept"]["demo"]["1e-08"]["square"]
    lines = [
        LIMITS,
        _effect(interactions),
        _PLACE.format(paper=share(paper), demo=share(demo)),
        _STEPS.format(paper_column(Setting("simple", 0.01))["stomach"]),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _effect(interactions: Mapping[str, Sequence[float]]) -> str:
    if not interactions:
        return "Whether the phantom shows the effect in the title is open: not run yet."
    words = [word_of(each) for each in interactions.values()]
    told = {"there": "shows", "not there": "does not show"}
    shown = told.get(words[0], "leaves open") if len(set(words)) == 1 else "shows only in part"
    gains = " and ".join(f"{name} {OverSeeds.of(each).text()}" for name, each in interactions.items())
    return (
        f"**At this size the phantom {shown} the effect in the title.** From rate 0.001 to 0.01 and without ε, the "
        "gain beyond that of "
        f"uniform weights is, in points: {gains}. In the paper it is {PAPER['simple']:+.1f} for simple and "
        f"{PAPER['square']:+.1f} for square."
    )


def _rivals(studies: Mapping[str, Any]) -> str:
    known = [each for each in rivals(studies) if each.title != "none"]
    if not known:
        return "Not run yet."
    explaining = [each.title for each in known if each.explains]
    said = (
        f"these explain the failure of p = 2: {', '.join(explaining)}"
        if explaining
        else "none explains the failure of p = 2"
    )
    return (
        f"Of {len(known)} other causes that were tried, among them batch statistics, initial weights, absent classes, "
        f"the moments of Adam and the way of predicting, {said} ([table](permuted-weights.md#rivals))."
    )


def _regime(studies: Mapping[str, Any]) -> str:
    said = []
    for name, title in SETS.items():
        stage = complete_stage(studies.get(name, {}))
        if stage is not None:
            arms, alone = studies[name][str(stage)], studies.get(f"{name}_direction", {}).get(str(stage), {})
            read_at = f"{title[0].upper()}{title[1:]}, {stage:,} steps"
            said.append(f"{read_at}: {regime_verdict(effects(arms, alone))}.")
    told = " ".join(said) or "No stage is complete, so there is no verdict."
    return f"{told} [The study of the regime](regime.md): {regime_progress(studies)}"


def _advice(direction: Arms, repair: Verdict) -> str:
    """What a user should do, from the same figures."""
    lines = []
    for rate in study_config("direction").study.learning_rates:
        at_rate = {p: values for p in (0.0, 0.5, 1.0, 1.5, 2.0) if (values := points(direction, Arm(p, rate)))}
        best = max(at_rate, key=lambda p: sum(at_rate[p].values()) / len(at_rate[p]), default=None)
        if best is not None and 0.0 in at_rate:
            ahead = difference(at_rate[best], at_rate[0.0])
            told = "uniform weights are highest"
            if best > 0 and ahead is not None:
                told = f"p = {best:g} is highest, {ahead.text()} points from uniform weights" + (
                    "" if ahead.is_above else ", which cannot be told from none"
                )
            lines.append(f"Rate {rate:g}: {told}.")
    if repair.word == "not confirmed":
        lines.append(
            "Begin with uniform weights or a low power (`--weighting 0.5`): nothing that was tried on p = 1 or p = 2 "
            "was better."
        )
    lines.append(
        "`viscera doctor STORE` says what share of Adam's step your counts and network keep, before you train; "
        "`train.loss.normalise: sum_to_L` or a smaller `train.adam.epsilon` gives it back."
    )
    return "\n".join(f"- {line}" for line in lines)


def main() -> None:
    """Write both pages and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="whose results of the studies to read")
    device = parser.parse_args().device
    found = {name: collected(name, device) for name in ("weights", "permutation", "regime")}
    of = levels(found["weights"]["studies"])
    figures = write_figures(IMAGES, found, of, placed(found["weights"]["studies"], of))
    write_text(PAGE, page(found, read_json(RESULTS / f"{CLAIM}.json"), figures))
    write_text(TABLES, tables_page(found["weights"]))
    print(PAGE, TABLES, sep="\n")


if __name__ == "__main__":
    main()
