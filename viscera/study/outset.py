"""What a study is about to train, said before it begins, and its Table 1 in short, said at its end."""

from collections.abc import Sequence

from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.core.quantities import duration_text
from viscera.core.wording import agreeing, counted, listed
from viscera.engine.hardware import choose_device
from viscera.engine.precision_probe import step_seconds
from viscera.io.records import read_csv
from viscera.io.runlog import StudyFolder
from viscera.study.plan import StudyPlan, Task

_NAMED = 4


def outset_text(plan: StudyPlan, side_by_side: int | None) -> str:
    """`4 arms = 2 weightings × 2 learning rates, × 1 seed = 4 trainings of 300 steps: about 40 s, 2 at a time`.

    Of a study that goes on also which trainings are finished, and which are left. `side_by_side` is how many are
    trained at the same time; None where other machines decide that, and then no time is said.
    """
    grid, steps = plan.config.study, plan.record.all_stages[-1]
    axes = [counted(len(grid.weightings), "weighting"), counted(len(grid.learning_rates), "learning rate")]
    axes += [counted(len(grid.variants), "variant")] if len(grid.variants) > 1 else []
    whole = (
        f"{counted(len(plan.arms), 'arm')} = {' × '.join(axes)}, × {counted(len(grid.seeds), 'seed')} = "
        f"{counted(len(plan.tasks), 'training')} of {counted(steps, 'step')}"
    )
    left = [(task, todo) for task in plan.tasks if (todo := _steps_left(task, steps))]
    finished = len(plan.tasks) - len(left)
    said = f"; {finished} {agreeing(finished)} finished" if finished else ""
    if finished and left:
        said += f", to be trained: {_named([task.name for task, _ in left])}"
    return f"{plan.folder.path}: {whole}{said}{_time(plan, left, side_by_side)}"


def end_text(folder: StudyFolder) -> str:
    """Mean Dice of each arm over the organs, and its lowest organ, by `report/table1.csv`; empty where that is not."""
    path = folder.path / "report" / "table1.csv"
    rows = {row["class"]: row for row in read_csv(path)} if path.exists() else {}
    if "FOREGROUND" not in rows:
        return ""
    organs = [name for name in rows if name not in {"background", "AVG", "MAX", "MIN", "FOREGROUND"}]
    lines = []
    for arm in [name for name in rows["FOREGROUND"] if name != "class"]:
        known = {organ: float(rows[organ][arm]) for organ in organs if rows[organ][arm]}
        lowest = min(known, key=lambda organ: known[organ]) if known else None
        worst = f"{title_of(lowest)} {known[lowest]:.1f}" if lowest else "–"
        mean = rows["FOREGROUND"][arm]
        lines.append((arm, f"{float(mean):.1f}" if mean else "–", worst))
    headers = ("arm", "mean Dice of the organs, %", "lowest, %")
    return tabulate(lines, headers, disable_numparse=True, colalign=("left", "right", "left"))


def _steps_left(task: Task, steps: int) -> int:
    status = task.run.read_status()
    return max(0, steps - status.step) if status is not None else steps


def _named(names: Sequence[str]) -> str:
    return listed(names, _NAMED)


def _time(plan: StudyPlan, left: Sequence[tuple[Task, int]], side_by_side: int | None) -> str:
    """How long the steps take that are left, by the time of one; predictions and the report come on top."""
    if not left or side_by_side is None:
        return ""
    train = plan.config.train
    each = step_seconds(train, len(plan.record.classes), choose_device(train.device))
    if each is None:
        return ""
    at_once = min(side_by_side, len(left))
    seconds = each * sum(todo for _, todo in left) / at_once
    return f": about {duration_text(float(f'{seconds:.1g}'))}" + (f", {at_once} at a time" if at_once > 1 else "")
