"""Commands on many models: study, report, power."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import Address, AsJson, Launcher, Store
from viscera.cli.command import Call, command, new_app
from viscera.cli.model_commands import TRAINING
from viscera.cli.terminal import stop_on_signal

app = new_app("")
_OF_A_STUDY = (
    f"preset study.weightings study.learning_rates study.seeds study.fuse study.jobs train.fold {TRAINING} train.track "
    "train.deterministic"
)


@command(app, "study", _OF_A_STUDY, writes=("study",))
def study(
    call: Call,
    store: Store,
    study: Annotated[Path, "Folder of the study: new, or to continue."],
    launcher: Launcher = "local",
    address: Address = None,
    plan_only: Annotated[
        bool,
        "Only write the plan, with its hash, which can be registered; in place of an earlier one until a run begins.",
    ] = False,
) -> None:
    """Train and compare a grid of models, and write a report.

    Every arm (a weighting at a learning rate) is trained, applied and scored. After an interruption the same command
    resumes; with more weightings, rates, seeds or iterations it extends the study.

    Before the first training, plan.json says what will be trained and how it will be analysed; the report compares
    that with what was done.

    Examples:
        viscera study store study --preset demo
        viscera study store study --weightings uniform,simple --learning-rates 0.001 --seeds 0,1,2
    """
    from viscera.io.runlog import StudyFolder
    from viscera.study.launch import plan_study, run_study
    from viscera.study.outset import end_text

    config = call.config(StudyFolder(study).settings_so_far())
    if plan_only:
        call.result(plan_study(store, study, config).text(StudyFolder(study).plan_path))
        return
    call.choose_threads(deterministic=config.train.deterministic)
    where = shared.arms_on(launcher, address)
    with stop_on_signal() as stop:
        how: dict[str, Any] = {"progress": call.display.update, "announce": call.display.note}
        page = run_study(store, study, config, stop=stop, launcher=where, **how)
    if table := end_text(StudyFolder(study)):
        call.display.note(table)
    call.say(str(page))


@command(app, "report", writes=("study",))
def report(call: Call, study: Annotated[Path, "Folder of the study."]) -> None:
    """Write the report of a study again.

    Table 1, comparisons, learning curves, slices and surfaces, of all that is finished.

    Examples:
        viscera report study
        viscera report s3://bucket/study
    """
    from viscera.study.report.report_stage import make_report

    call.say(str(make_report(study, call.display.update)))


@command(app, "power")
def power(
    call: Call,
    study: Annotated[Path, "Folder of the pilot: a study with at least two seeds."],
    patients: shared.TestCases = "8,16,37,100",
    seeds: shared.Trainings = "3,5,7,10",
    difference: Annotated[
        float | None,
        "Also say how many patients it takes to find a difference of X points of Dice; by default not said.",
    ] = None,
    organ: Annotated[str | None, "Organ whose Dice is compared; by default the mean over the organs."] = None,
    tests: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of tests that are corrected for together.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Say what a larger study could find.

    The smallest difference between two arms that would be significant with a probability of 80 %, from the spread
    between patients, between trainings, and of both together in a pilot study.

    Examples:
        viscera power study
        viscera power study --difference 2 --organ pancreas
    """
    from viscera.study.power import power_of_study, power_text
    from viscera.study.report.report_stage import read_study

    wanted: dict[str, Any] = {"patients": patients, "seeds": seeds, "organ": organ, "difference": difference}
    found = power_of_study(read_study(study), **wanted, tests=tests)
    call.result(json.dumps(asdict(found), indent=1) if as_json else power_text(found))
