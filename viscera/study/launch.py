"""A study: every arm trained, applied to the same test cases and scored; then the report. Resumable at any point."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any

import torch

from viscera.core.arms import FUSED
from viscera.core.config import Config
from viscera.core.errors import BadInputError, DefectError, InterruptedRunError, RunFailedError, VisceraError
from viscera.core.processes import names_at_work, start_pool, usable_processors
from viscera.core.progress import OnProgress, StopSignal, unseen
from viscera.core.unused_settings import warn_of_settings
from viscera.doctor.forecast import load_forecasts, save_forecasts
from viscera.doctor.untrained import forecast_arms
from viscera.engine.hardware import free_processors, threads_of_the_user
from viscera.engine.trackers import refuse_missing_trackers
from viscera.io.disk.folder_lock import exclusive
from viscera.io.records import write_csv
from viscera.io.runlog import StudyFolder
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.study.analysis_plan import AnalysisPlan
from viscera.study.find_rates import find_rates
from viscera.study.fuse import fuse_study
from viscera.study.outset import outset_text
from viscera.study.plan import StudyPlan, make_plan
from viscera.study.plan_keeping import keep_plan, renewed_plan
from viscera.study.report.plan_section import analysis_rules
from viscera.study.report.report_stage import make_report
from viscera.study.worker import News, pass_on, run_in_worker, run_task, start_worker

_MOST_JOBS = 4
Launcher = Callable[[StudyPlan, StopSignal, OnProgress], list[VisceraError]]


def run_study(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    store_path: Path,  # a Store with training and test cases
    study_path: Path,  # new, or to go on with: arms and iterations of `config` are added
    config: Config,  # all sections
    *,
    stop: StopSignal | None = None,  # set it to end cleanly; the arms in progress write a checkpoint
    progress: OnProgress = unseen,  # an arm's seed and phase are a job
    launcher: Launcher | None = None,  # where the arms are run; by default in processes on this machine (`launch`)
    announce: Callable[[str], None] | None = None,  # told, before anything is trained, what will be
) -> Path:
    """Run what is missing of a study, join the scores and write the report; returns its page.

    Raises:
        BadInputError: no training or test case; a fusion without validation cases; a study of other settings. Nothing
            has been written then.
        InterruptedRunError: `stop` was set.
        VisceraError: runs that could not be finished, after all others and the report.
    """
    refuse_missing_trackers(config.train.track)
    store = Store.open(store_path).of_fold(config.train.fold)
    stop = stop or threading.Event()
    with _planned(study_path, store, config) as plan:
        folder = plan.folder
        plan.write()
        keep_plan(plan, store, analysis_rules())
        warn_of_settings(
            [task.config for task in plan.tasks], have_weights=all(task.run.has_begun for task in plan.tasks)
        )
        if announce is not None:
            announce(outset_text(plan, None if launcher else _side_by_side(plan)))
        _forecast(plan, store)
        if plan.config.study.find_rates:
            weightings = plan.config.study.weightings
            find_rates(plan.store, folder.rate_ranges, plan.config, weightings, stop=stop, progress=progress)
        failures = (launcher or launch)(plan, stop, progress)
        if stop.is_set():
            raise InterruptedRunError(f"{folder.path}: stopped. Run the same command again to resume.")
        if failures and not any(task.run.scores.exists() for task in plan.tasks):
            raise _summary(plan, failures)
        if plan.config.study.fuse and not failures:
            fuse_study(plan, store, stop, progress)
        _join_scores(plan)
        page = make_report(study_path)
        if failures:
            raise _summary(plan, failures)
        return page


def plan_study(store_path: Path, study_path: Path, config: Config) -> AnalysisPlan:
    """Write what a study is to run and how it is to be analysed, and train nothing; `run_study` goes on from there.

    In place of an earlier plan, whatever that was, as long as no run of the study has begun.

    Raises BadInputError as `run_study` does, and where a run of the study has begun.
    """
    store = Store.open(store_path).of_fold(config.train.fold)
    with _planned(study_path, store, config, anew=True) as plan:
        plan.refuse_begun()
        plan.write()
        return renewed_plan(plan, store, analysis_rules())


@contextlib.contextmanager
def _planned(study_path: Path, store: Store, config: Config, *, anew: bool = False) -> Iterator[StudyPlan]:
    """The plan of a study, whose folder is this process's; what is refused is refused before the folder is made."""
    folder = StudyFolder(study_path)
    make_plan(folder, store, config, anew=anew)
    with exclusive(study_path):
        yield make_plan(folder, store, config, anew=anew)


def _side_by_side(plan: StudyPlan) -> int:
    """How many arms are trained at the same time."""
    on_gpu = plan.config.train.device.startswith("cuda") or (
        plan.config.train.device == "auto" and torch.cuda.is_available()
    )
    return plan.config.study.jobs or (1 if on_gpu else min(_processors(plan), _MOST_JOBS, len(plan.tasks)))


def _processors(plan: StudyPlan) -> int:
    """How many are shared by the arms."""
    return len(usable_processors()) if plan.config.train.deterministic else free_processors()


def launch(plan: StudyPlan, stop: StopSignal, progress: OnProgress) -> list[VisceraError]:
    """Run all tasks of a plan on this machine: side by side in processes, or here where there can be no others.

    Returns why runs could not be finished, one error a run; raises RunFailedError where a process was killed. Whatever
    takes a plan so can take its place: the tasks share nothing but files.
    """
    jobs = _side_by_side(plan)
    threads = threads_of_the_user() or max(1, _processors(plan) // jobs)
    started = start_pool(jobs, start_worker, lambda context: (context.Queue(), context.Event(), threads))
    if started is None:
        return [failure for task in plan.tasks if (failure := run_task(plan, task, stop, progress))]
    pool, (news, stop_workers, *_) = started
    with pool:
        futures = [pool.submit(run_in_worker, plan, task) for task in plan.tasks]
        _follow(futures, news, stop, stop_workers, progress)
    try:
        return [failure for future in futures if not future.cancelled() and (failure := future.result())]
    except BrokenProcessPool as error:
        at_work = names_at_work(futures, [task.name for task in plan.tasks], jobs)
        raise RunFailedError(
            f"{plan.folder.path}: a process of this study was killed, most likely because memory ran out{at_work}. Run "
            "the same command again with fewer --jobs; what was trained so far is kept."
        ) from error


def _follow(
    futures: Sequence[Future[Any]],
    news: "Queue[News]",
    stop: StopSignal,
    stop_workers: ProcessEvent,
    progress: OnProgress,
) -> None:
    """Pass on the workers' news until all are done, or the user stops."""
    pending = set(futures)
    while pending:
        with contextlib.suppress(queue.Empty):
            pass_on(news.get(timeout=0.2), progress)
        _, pending = wait(pending, timeout=0)
        if stop.is_set() and not stop_workers.is_set():
            stop_workers.set()
            for future in pending:
                future.cancel()
    with contextlib.suppress(queue.Empty):
        while True:
            pass_on(news.get(timeout=0.1), progress)


def _forecast(plan: StudyPlan, store: Store) -> None:
    """Say what to expect of the arms before they are trained; made again where arms or iterations have been added."""
    path, iterations = plan.folder.forecast_path, plan.config.train.iterations
    known = {forecast.arm for forecast in load_forecasts(path, iterations)}
    if not {arm.name for arm in plan.arms} <= known:
        save_forecasts(path, iterations, forecast_arms(store, plan.config, plan.arms))


def _join_scores(plan: StudyPlan) -> None:
    """Write `scores.csv` of all runs that have one, with the columns `arm, seed` in front.

    The fused predictor, one for all seeds, is the last arm, with seed 0.
    """
    runs = [(task.arm.name, task.seed, task.run) for task in plan.tasks]
    if plan.config.study.fuse:
        runs.append((FUSED, 0, plan.folder.fused))
    rows = [
        (arm, seed, *row.cells()) for arm, seed, run in runs if run.scores.exists() for row in read_scores(run.scores)
    ]
    write_csv(plan.folder.path / "scores.csv", ("arm", "seed", *ScoreRow._fields), rows, checksum=True)


def _summary(plan: StudyPlan, failures: Sequence[VisceraError]) -> VisceraError:
    """What a study ends with whose runs could not all be finished: the gravest kind, and every reason once."""
    kinds: tuple[type[VisceraError], ...] = (DefectError, RunFailedError, BadInputError)
    kind = next(kind for kind in kinds if any(isinstance(failure, kind) for failure in failures) or kind is kinds[-1])
    reasons = "\n".join(dict.fromkeys(map(str, failures)))
    if len(failures) == len(plan.tasks):
        return kind(reasons)
    return kind(
        f"{plan.folder.path}: {len(failures)} of {len(plan.tasks)} runs could not be finished; the others are, and the "
        f"report shows them. Run the same command again to go on. The reasons:\n{reasons}"
    )
