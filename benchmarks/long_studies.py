"""The studies of docs/decisions/0009, 0036 and 0038: run seed by seed, collected, taken up elsewhere.

    python -m benchmarks.long_studies run WORK direction printed scale readings repair [--seeds 0,2,4]
    python -m benchmarks.long_studies run WORK permutation rivals rate_times_steps
    python -m benchmarks.long_studies run WORK phantom shapes --shapes FOLDER [--stage 2500] [--device cuda]
    python -m benchmarks.long_studies collect WORK
    python -m benchmarks.long_studies take-up WORK

WORK holds the data and the studies, each a folder that `viscera report` reads; what is there is not done again, so that
a run may be stopped at any time. All arms of one seed come before the next seed. One thread. `collect` writes what
there is to `benchmarks/results/`, of which the pages are made; `take-up`, in a WORK that is empty, goes on from what
was collected there, on the same kind of processor or another: number format and layout of memory go with it, so that
only rounding differs. FOLDER holds real organ shapes with simulated HU, in the raw layout of nnU-Net.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.count_scale import SQUARE_KEEPS, SQUARE_KEEPS_OF_ALL, StepKept, count_scale_for
from benchmarks.list_options import list_of
from benchmarks.record import RESULTS, processor_kind, versions
from benchmarks.stores import phantom_store, shapes_store
from viscera.cli.terminal import stop_on_signal
from viscera.core.arms import arms_of
from viscera.core.config import Config
from viscera.core.progress import StopSignal, unseen
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import choose_device, describe_hardware
from viscera.engine.precision_probe import decided
from viscera.io.records import read_json, read_yaml, write_json
from viscera.io.runlog import StudyFolder
from viscera.io.scores import ScoreRow
from viscera.io.store import Store
from viscera.study.plan import StudyPlan, Task, make_plan
from viscera.study.plan_keeping import keep_plan
from viscera.study.report.plan_section import analysis_rules
from viscera.study.report.report_stage import read_study
from viscera.study.results import RunResult, StudyResult, mean_defined
from viscera.study.worker import run_task

STUDY_FILES = Path(__file__).parents[1] / "studies"
STAGES = (2500, 5000, 10_000)  # of docs/decisions/0038
PER_STUDY = ("counts", "computers", "studies")  # of the results: class counts, what computed, scores
_DIGITS = 5
Entry = dict[str, Any]  # of one training at one stage
Found = dict[str, dict[str, dict[str, dict[str, Entry]]]]  # by study, steps, arm and seed


@dataclass(frozen=True)
class LongStudy:
    """What a study is made of."""

    file: str  # in studies/
    data: str  # the set
    experiment: str  # whose results it is part of
    stages: tuple[int, ...] = ()  # steps at which it is scored; none: those of its file alone
    kept: float | None = None  # share of the step that square keeps, to which the counts are scaled; none: as they are
    large: tuple[str, ...] = ()  # settings for the paper's size


_AT_THE_END = "train.validate_every=10000"  # where a file is for 300 steps
_TO_UNIFORM = "study.variants.to-uniform={train.loss.schedule.to: uniform, train.loss.schedule.last_step: 6667}"


def _weights(file: str, data: str = "demo", large: tuple[str, ...] = (_AT_THE_END,)) -> LongStudy:
    return LongStudy(file, data, "weights", large=large)


STUDIES = {
    **{name: _weights(f"{name}.yaml") for name in ("direction", "printed", "scale", "readings")},
    "repair": _weights("repair.yaml", large=(_AT_THE_END, _TO_UNIFORM)),
    **{f"forecast_{name}": _weights("forecast.yaml", name) for name in ("a", "b", "c", "shapes")},
    "permutation": LongStudy("permutation.yaml", "demo", "permutation"),
    "rivals": LongStudy("rivals.yaml", "demo", "permutation"),
    "rate_times_steps": LongStudy("rate_times_steps.yaml", "demo", "permutation"),
    "phantom": LongStudy("regime.yaml", "phantom", "regime", STAGES, SQUARE_KEEPS),
    "shapes": LongStudy("regime.yaml", "shapes", "regime", STAGES, SQUARE_KEEPS),
    "phantom_direction": LongStudy("regime_direction.yaml", "phantom", "regime", STAGES),
    "shapes_direction": LongStudy("regime_direction.yaml", "shapes", "regime", STAGES),
    "phantom_lower": LongStudy("regime_lower.yaml", "phantom", "regime", STAGES, SQUARE_KEEPS_OF_ALL),
    "shapes_lower": LongStudy("regime_lower.yaml", "shapes", "regime", STAGES, SQUARE_KEEPS_OF_ALL),
}


@dataclass(frozen=True)
class Phantoms:
    """A set of phantoms and its split."""

    cases: int
    seed: int
    shape: tuple[int, int, int]
    test: float
    validation: float


PHANTOMS = {
    "demo": Phantoms(28, 0, (48, 36, 36), 0.286, 0.143),
    "a": Phantoms(28, 100, (44, 36, 40), 0.286, 0.143),
    "b": Phantoms(28, 200, (56, 40, 36), 0.286, 0.143),
    "c": Phantoms(28, 300, (52, 38, 38), 0.286, 0.143),
    "phantom": Phantoms(60, 900, (48, 36, 36), 0.3, 0.1),
}
LARGE = {  # for the paper's network, on a GPU
    "demo": Phantoms(100, 0, (128, 128, 128), 0.286, 0.143),
    "a": Phantoms(100, 100, (112, 112, 128), 0.286, 0.143),
    "b": Phantoms(100, 200, (144, 128, 128), 0.286, 0.143),
    "c": Phantoms(100, 300, (128, 112, 128), 0.286, 0.143),
    "phantom": Phantoms(100, 900, (128, 128, 128), 0.3, 0.1),
}


def store_of(work: Path, name: str, shapes: Path | None, device: str = "cpu") -> Store:
    """The store of a set, made where it is not there."""
    folder = work / "data" / name
    if (folder / "store").exists():
        return Store.open(folder / "store")
    if name == "shapes":
        if shapes is None:
            raise SystemExit("--shapes FOLDER: the real organ shapes with simulated HU are needed for this study.")
        return shapes_store(folder, shapes, test=0.3, validation=0.1)
    of = (PHANTOMS if device == "cpu" else LARGE)[name]
    return phantom_store(folder, of.cases, of.seed, of.shape, of.test, of.validation)


def config_of(work: Path, study: LongStudy, store: Store, device: str = "cpu") -> Config:
    """The configuration of a study: its file, how this WORK computes, and the scale of the counts."""
    preset, large = ("demo", ()) if device == "cpu" else ("paper", study.large)
    values = read_yaml(STUDY_FILES / study.file)
    given = resolve_config(preset, values, large, options={"train.device": device}, found_in=study.file)
    options: dict[str, Any] = {"train.device": device, **_computing(work, given, store)}
    if study.kept is not None:
        options["train.loss.count_scale"] = _count_scale(work, study, store, given)
    return resolve_config(preset, values, large, options=options, found_in=study.file)


def _computing(work: Path, config: Config, store: Store) -> dict[str, str]:
    """Number format and layout of memory, chosen once for all studies of a WORK."""
    path = work / "computing.json"
    if not path.exists():
        chosen = decided(config.train, len(store.classes), choose_device(config.train.device))
        write_json(path, {"train.precision": chosen.precision, "train.memory_layout": chosen.memory_layout})
    found: dict[str, str] = read_json(path)
    return found


def _count_scale(work: Path, study: LongStudy, store: Store, config: Config) -> float:
    path = work / "count_scale.json"
    known = read_json(path) if path.exists() else {}
    name = f"{study.data} {study.kept:g}"
    if name not in known:
        known[name] = count_scale_for(StepKept(store, config), study.kept or 1.0)
        write_json(path, known)
    return float(known[name])


@dataclass(frozen=True)
class Wanted:
    """What of the studies is run now."""

    seeds: tuple[int, ...] = ()  # none: all
    stage: int = 0  # most steps; 0: all
    shapes: Path | None = None  # folder of the real shapes
    device: str = "cpu"


def run(work: Path, names: Iterable[str], wanted: Wanted, stop: StopSignal) -> None:
    """Train and score what is missing of these studies, stage by stage, then seed by seed."""
    for name in names:
        study = STUDIES[name]
        store = store_of(work, study.data, wanted.shapes, wanted.device)
        config = config_of(work, study, store, wanted.device)
        folder = StudyFolder(work / name)
        for steps in study.stages or (config.train.iterations,):
            is_past = folder.record_path.exists() and steps < folder.read_record().all_stages[-1]
            if is_past or steps > wanted.stage > 0:
                continue
            at = config.model_copy(update={"train": config.train.model_copy(update={"iterations": steps})})
            plan = make_plan(folder, store, at)
            plan.write()
            keep_plan(
                make_plan(folder, store, config), store, analysis_rules()
            )  # of the last stage; before the first run
            for task in missing(plan, taken_up(work)["studies"].get(name, {}), wanted.seeds):
                failure = run_task(plan, task, stop, unseen)
                if stop.is_set():
                    return
                print(f"{name} {steps} {task.name}: {failure or 'scored'}", flush=True)


def missing(plan: StudyPlan, known: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[Task]:
    """The tasks of a plan whose scores at its last stage were not taken up; all arms of a seed before the next."""
    of_stage = known.get(str(plan.record.all_stages[-1]), {})
    for seed in seeds or plan.config.study.seeds:
        for task in plan.tasks:
            if task.seed == seed and str(seed) not in of_stage.get(task.arm.name, {}):
                yield task


def study_config(name: str) -> Config:
    """The settings of a study's file, at the demo's size."""
    return resolve_config("demo", read_yaml(STUDY_FILES / STUDIES[name].file))


def trainings(name: str) -> int:
    """How many a study's file plans, at each stage."""
    config = study_config(name).study
    return len(arms_of(config)) * len(config.seeds)


def collect(work: Path, device: str = "cpu") -> None:
    """Write what there is, and what was taken up, to `benchmarks/results/`."""
    known = taken_up(work)
    here = describe_hardware(torch.device(device))
    for name in STUDIES:
        if StudyFolder(work / name).record_path.exists():
            study = read_study(work / name)
            known["counts"][name] = dict(zip(study.record.classes, study.record.training_voxel_counts, strict=True))
            for steps, arms in entries(study).items():
                of_stage = known["studies"].setdefault(name, {}).setdefault(steps, {})
                for arm, found in arms.items():
                    of_stage.setdefault(arm, {}).update(found)
                    known["computers"][name] = sorted({*known["computers"].get(name, []), here})
    about: dict[str, Any] = {"versions": versions(["viscera", "torch", "numpy", "scipy"])}
    for key in ("computing", "count_scale"):
        path = work / f"{key}.json"
        about[key] = read_json(path) if path.exists() else known.get(key, {})
    for experiment in dict.fromkeys(study.experiment for study in STUDIES.values()):
        names = [name for name in known["studies"] if STUDIES[name].experiment == experiment]
        if names:
            of_experiment = {key: {name: known[key].get(name, {}) for name in names} for key in PER_STUDY}
            write_json(results_of(experiment, device), about | of_experiment)


def results_of(experiment: str, device: str = "cpu") -> Path:
    """Where the results of an experiment stand: those of all processors together, those of each GPU apart."""
    name = experiment if device == "cpu" else f"{experiment}_{processor_kind(torch.device(device))}"
    return RESULTS / f"{name}.json"


def collected(experiment: str, device: str = "cpu") -> dict[str, Any]:
    """What was collected of an experiment; empty where nothing was."""
    path = results_of(experiment, device)
    empty: dict[str, Any] = {key: {} for key in (*PER_STUDY, "count_scale", "computing", "versions")}
    return empty | (read_json(path) if path.exists() else {})


def made_with(found: Mapping[str, Any], command: str) -> str:
    """The last line of a page."""
    if not found["studies"]:
        return f"Made by `{command}`."
    precision, torch_version = found["computing"].get("train.precision", "?"), found["versions"].get("torch", "?")
    computers = sorted({computer for of_study in found["computers"].values() for computer in of_study})
    return f"{'; '.join(computers)}, one thread, {precision}; torch {torch_version}. Made by `{command}`."


def entries(study: StudyResult) -> dict[str, dict[str, dict[str, Entry]]]:
    """What was scored, by steps, arm and seed."""
    found: dict[str, dict[str, dict[str, Entry]]] = {}
    for run_result in study.runs:
        now = study.record.all_stages[-1]
        scored = dict(run_result.earlier) | ({now: run_result.scores} if run_result.scores else {})
        for steps, rows in sorted(scored.items()):
            of_arm = found.setdefault(str(steps), {}).setdefault(run_result.arm.name, {})
            of_arm[str(run_result.seed)] = entry(run_result, rows, steps)
    return found


def entry(run_result: RunResult, rows: Sequence[ScoreRow], steps: int) -> Entry:
    """Of one training after so many steps: means over the test cases, and what its curve says."""
    names = list(dict.fromkeys(row.organ for row in rows))
    curve = [point for point in run_result.curve if point.step <= steps]
    by_batch = next((p.logged.dice_batch_statistics for p in reversed(curve) if p.logged.dice_batch_statistics), {})
    validation = next((p.validation_dice for p in reversed(curve) if p.validation_dice), ())
    volumes = {name: [_sum(rows, name, metric) for metric in ("volume_ml", "reference_volume_ml")] for name in names}
    return {
        "dice": {name: _rounded(_mean(rows, "organ", name)) for name in names},
        "volume": {name: _rounded(mine / true) for name, (mine, true) in volumes.items() if true},
        "cases": {case: _rounded(_mean(rows, "case", case)) for case in dict.fromkeys(row.case for row in rows)},
        "dice_by_batch": {name: _rounded(value) for name, value in by_batch.items() if value is not None},
        "validation": _rounded(mean_defined(validation[1:])),
        "step_kept": _rounded(mean_defined(point.step_kept for point in curve)),
        "seconds": round(run_result.status.wall_seconds) if run_result.status else None,
    }


def _mean(rows: Iterable[ScoreRow], field: str, name: str) -> float | None:
    """Mean Dice of an organ, or of the organs of a case."""
    dice = [row for row in rows if row.metric == "dice" and row.grid == "original" and getattr(row, field) == name]
    return mean_defined(row.value for row in dice if field == "organ" or row.organ != "background")


def _sum(rows: Iterable[ScoreRow], organ: str, metric: str) -> float:
    return sum(r.value or 0.0 for r in rows if (r.organ, r.metric, r.grid) == (organ, metric, "original"))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def take_up(work: Path, device: str = "cpu") -> None:
    """Let WORK go on from what was collected."""
    content = _nothing()
    work.mkdir(parents=True, exist_ok=True)
    for experiment in dict.fromkeys(study.experiment for study in STUDIES.values()):
        if results_of(experiment, device).exists():
            found = read_json(results_of(experiment, device))
            for key in PER_STUDY:
                content[key] |= found[key]
            for key in ("computing", "count_scale"):
                if found[key]:
                    write_json(work / f"{key}.json", found[key])
    write_json(work / "taken_up.json", content)


def _nothing() -> dict[str, Any]:
    return {key: {} for key in PER_STUDY}


def taken_up(work: Path) -> dict[str, Any]:
    """What the folder went on from."""
    path = work / "taken_up.json"
    found: dict[str, Any] = read_json(path) if path.exists() else _nothing()
    return found


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=("run", "collect", "take-up"))
    parser.add_argument("work", type=Path)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []])
    parser.add_argument("--seeds", type=list_of(int), default=())
    parser.add_argument("--stage", type=int, default=0, help="steps beyond which nothing is trained now")
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.piece == "run":
        with stop_on_signal() as stop:
            run(given.work, given.studies, Wanted(tuple(given.seeds), given.stage, given.shapes, given.device), stop)
    elif given.piece == "collect":
        collect(given.work, given.device)
    else:
        take_up(given.work, given.device)


if __name__ == "__main__":
    main()
