"""The section "What was planned": the plan from before the first run beside what is here, and what that changes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import viscera
from viscera.core.arms import arms_of
from viscera.core.settings import written
from viscera.core.wording import counted
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.study.analysis_plan import AnalysisPlan, planned_settings
from viscera.study.report import claims
from viscera.study.report.claim_rules import Evidence
from viscera.study.report.claims_section import primary_ledger
from viscera.study.report.comparisons import ALPHA, Family, compare
from viscera.study.report.comparisons_section import primary_comparisons
from viscera.study.report.ledger import Entry, ledger
from viscera.study.report.page_section import Report, Section
from viscera.study.results import RunResult, StudyResult

_MARGINS = ("FAILED", "MARKED", "ALIKE", "OVERFIT", "FELL", "SETTLED")
_OF_THE_GRID = {f"study.{axis}" for axis in ("weightings", "learning_rates", "seeds", "variants")}


RUNS = "runs"
_MOST_NAMED = 6


class Change(NamedTuple):
    """One thing that is not as it was planned, for people."""

    what: str
    planned: str
    now: str


class Outcome(NamedTuple):
    """What the planned runs alone say, and what all runs say."""

    what: str
    planned: str
    now: str

    @property
    def differs(self) -> bool:
        """Whether the runs that were added change it."""
        return self.planned != self.now


def analysis_rules() -> dict[str, float]:
    """Numbers that verdicts depend on, by name; margins in points of Dice."""
    margins = {name.lower(): float(getattr(claims, name)) for name in _MARGINS}
    return {"alpha": ALPHA, "seeds_for_conclusions": float(SEEDS_FOR_SETTINGS), **margins}


def changes(plan: AnalysisPlan, study: StudyResult, test_sha256: str = "") -> list[Change]:
    """What was added to a study or changed in it since it was planned, and which planned runs it lacks."""
    record, config = study.record, study.record.config
    added = [arm.title for arm in study.arms if arm.name not in plan.arms]
    seeds = [seed for seed in config.study.seeds if seed not in plan.seeds]
    steps = record.all_stages[-1]
    found = []
    planned, there = len(plan.arms) * len(plan.seeds), as_planned(plan, study).runs
    done = sum(run.counts for run in there)
    if done < planned:
        lacking = [f"{run.arm.title}, seed {run.seed} ({_state(run)})" for run in there if not run.counts]
        more = f"; {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
        named = "".join(f"; {each}" for each in lacking[:_MOST_NAMED])
        found.append(Change(RUNS, str(planned), f"{done} finished and scored{named}{more}"))
    if added:
        found.append(Change("arms", str(len(plan.arms)), f"{len(study.arms)}; added: {'; '.join(added)}"))
    if seeds:
        both = (", ".join(map(str, each)) for each in (plan.seeds, config.study.seeds))
        found.append(Change("seeds", *both))
    if steps != plan.iterations:
        found.append(Change("iterations", f"{plan.iterations:,}", f"{steps:,}"))
    if record.training_sha256 not in {"", plan.training_sha256}:
        found.append(Change("training cases", _hash(plan.training_sha256), _hash(record.training_sha256)))
    if test_sha256 not in {"", plan.test_sha256}:
        found.append(Change("test cases", _hash(plan.test_sha256), _hash(test_sha256)))
    now = planned_settings(config) | {"train.iterations": plan.settings.get("train.iterations")}
    variants = [each["study.variants"] for each in (plan.settings, now)]
    each_way = [
        {f"variant {name}": of[name] for name in of if all(name in each for each in variants)} for of in variants
    ]
    found += _unlike(*each_way)
    apart = {name: value for name, value in plan.settings.items() if name not in _OF_THE_GRID}
    found += _unlike(apart, {name: value for name, value in now.items() if name not in _OF_THE_GRID})
    found += [change._replace(what=f"analysis: {change.what}") for change in _unlike(plan.rules, analysis_rules())]
    if plan.version != viscera.__version__:
        found.append(Change("viscera", plan.version, viscera.__version__))
    return found


def _state(run: RunResult) -> str:
    """Why a run does not count, in a few words."""
    if run.status is None:
        return "not trained"
    if run.status.state != "finished":
        state = "not finished" if run.status.state == "running" else run.status.state
        return f"{state}, step {run.status.step:,}"
    return "not trained to the end" if run.scores else "not scored"


def _unlike(planned: Mapping[str, object], now: Mapping[str, object]) -> list[Change]:
    names = dict.fromkeys([*planned, *now])
    pairs = {name: (planned.get(name), now.get(name)) for name in names}
    return [Change(name, written(then), written(value)) for name, (then, value) in pairs.items() if then != value]


def as_planned(plan: AnalysisPlan, study: StudyResult) -> StudyResult:
    """The planned arms and seeds of a study alone, scored after the planned steps, and nothing that came later."""
    grid = plan.grid_of(study.record.config.study)
    train = study.record.config.train.model_copy(update={"iterations": plan.iterations})
    stages = tuple(stage for stage in study.record.all_stages if stage <= plan.iterations)
    at_its_end = study.at_stage(plan.iterations) if plan.iterations in study.record.all_stages else study
    config = study.record.config.model_copy(update={"study": grid, "train": train})
    arms = arms_of(grid)
    return replace(
        at_its_end,
        record=study.record.model_copy(update={"config": config, "stages": stages or (plan.iterations,)}),
        runs=tuple(run for run in at_its_end.runs if run.arm in arms and run.seed in grid.seeds),
        fused=at_its_end.fused if len(arms) == len(study.arms) else None,  # it was chosen among all of them
    )


def outcomes(plan: AnalysisPlan, report: Report) -> list[Outcome]:
    """The tests of the comparisons by Dice, and the verdict on each claim that is tested in either."""
    only, grid = as_planned(plan, report.study), report.grid
    families = (each.family("dice") for each in (compare(only, grid, ["dice"]), report.once(primary_comparisons)))
    found = [Outcome("Dice of organs: significant differences", *map(_significant, families))]
    if report.study.has_papers_classes:
        ledgers = ledger(Evidence(only, grid)), report.once(primary_ledger)
        for planned, now in zip(*ledgers, strict=True):
            if planned.numbers or now.numbers:
                found.append(Outcome(f"Claim {now.claim}: {now.statement}", *map(_verdict, (planned, now))))
    return found


def _significant(family: Family | None) -> str:
    if family is None:
        return "0 of 0"
    models = f"; these models: {family.of_models}" if family.of_models else ""
    return f"{family.significant} of {family.tests}{models}"


def _verdict(entry: Entry) -> str:
    models = "" if entry.models == "undecided" else f"; these models: {entry.models}"
    return f"{entry.word}{models}" if entry.numbers else "not tested"


def _hash(sha256: str) -> str:
    return f"SHA-256 {sha256[:12]}…"


def _values(report: Report) -> Mapping[str, object]:
    plan, study = report.plan, report.study
    if plan is None:
        return {"plan": None, "damaged": report.plan_is_damaged}
    changed = changes(plan, study, report.test_sha256)
    return {
        "plan": plan,
        "unchanged": report.plan_unchanged,
        "sha256": plan.sha256,
        "changes": changed,
        "outcomes": outcomes(plan, report) if report.has_added_runs and report.grid else [],
    }


def _brief(report: Report) -> str:
    if report.plan is None:
        return "the plan cannot be read" if report.plan_is_damaged else "nothing was planned in advance"
    found = changes(report.plan, report.study, report.test_sha256)
    if not report.plan_unchanged:
        return "the plan was changed afterwards"
    lacking = [
        f"{change.now.split()[0]} of {change.planned} planned runs finished and scored"
        for change in found
        if change.what == RUNS
    ]
    changed = [f"{counted(number, 'change')} since the plan"] if (number := len(found) - len(lacking)) else []
    return ", ".join([*lacking, *changed]) or "as planned"


PLAN = Section("plan", "What was planned, and what was looked at afterwards", _values, brief=_brief)
