"""`viscera report`: from a Study to `report/`: the page, Table 1 and the figures.

Whatever is there is read and shown; whatever is missing or damaged becomes a sentence.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from viscera.core.anatomy import ClassTable, title_of
from viscera.core.arms import FUSED, Arm, arms_of
from viscera.core.errors import BadInputError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.scan import LabelMap
from viscera.doctor.forecast import ArmForecast, load_forecasts
from viscera.doctor.probe_record import Probe, read_probe
from viscera.drawing.slices import LabelView, backdrop, busiest_slice
from viscera.engine.fusion import FusionRecord
from viscera.io.confusion_table import read_confusion
from viscera.io.disk.file_sets import together
from viscera.io.files import write_bytes, write_text
from viscera.io.nifti import read_labels
from viscera.io.predictions import Measured, read_measurements
from viscera.io.records import write_csv
from viscera.io.reliability_table import NAME as RELIABILITY
from viscera.io.reliability_table import ReliabilityRow, read_reliability
from viscera.io.remote.mirror_index import mirror_of, remove
from viscera.io.runlog import RunFolder, RunStatus, StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.io.training_data import training_set_sha256
from viscera.metrics.confusion import Confusion
from viscera.study.analysis_plan import read_analysis_plan
from viscera.study.rate_range import RateRange, rate_range_path, read_rate_range
from viscera.study.report import curves_section, summary_section
from viscera.study.report.calibration_section import CALIBRATION
from viscera.study.report.claims_section import CLAIMS_SECTION
from viscera.study.report.comparisons_section import COMPARISONS
from viscera.study.report.confusion_section import CONFUSION
from viscera.study.report.gradients_section import GRADIENTS
from viscera.study.report.iterations_section import ITERATIONS
from viscera.study.report.methods_section import METHODS
from viscera.study.report.page_section import Report, Rows, Section, render_page
from viscera.study.report.plan_section import PLAN
from viscera.study.report.segmentations_section import SEGMENTATIONS
from viscera.study.report.table1_section import TABLE1
from viscera.study.results import CurvePoint, FusedResult, RunResult, Scene, SplitSizes, StudyResult, median_case

SECTIONS: tuple[Section, ...] = (
    summary_section.SUMMARY,
    TABLE1,
    SEGMENTATIONS,
    curves_section.FIGURE1,
    CONFUSION,
    GRADIENTS,
    ITERATIONS,
    COMPARISONS,
    CLAIMS_SECTION,
    CALIBRATION,
    summary_section.GAP,
    summary_section.TRUST,
    summary_section.FUSED_SECTION,
    curves_section.RATES,
    METHODS,
    summary_section.COST,
    PLAN,
    summary_section.SETTINGS,
    summary_section.PROBLEMS,
)


def make_report(study: Path, progress: OnProgress = unseen) -> Path:
    """Write `report/` of a Study, finished or not: whatever is there is shown, whatever is missing is said.

    Returns:
        `STUDY/report/index.html`; beside it `table1.{csv,md,tex}` and `table1_intervals.csv` (and `table1_prepared*`
        where both grids are scored), `comparisons.csv` and `claims.csv` on the primary grid, `beside_paper.csv` and
        `rank_correlation.csv` where the study has three of the paper's six models or more, and `figures/`. The last
        three are left out where the classes are not the paper's.

    Raises:
        BadInputError: no Study there, or its folder cannot be written to.
    """
    progress(Progress("report", 0, 3, "reading"))
    report = read_report(study)
    progress(Progress("report", 1, 3, "page"))
    page = render_page(report, SECTIONS)
    progress(Progress("report", 2, 3, "tables and figures"))
    files = {name: content for section in SECTIONS for name, content in section.files(report).items()}
    folder = study / "report"
    with together(folder):
        for name, content in files.items():
            if isinstance(content, Rows):
                write_csv(folder / name, content.header, content.rows)
            elif isinstance(content, str):
                write_text(folder / name, content)
            else:
                write_bytes(folder / name, content)
        for path in (path for section in SECTIONS for pattern in section.owns for path in folder.glob(pattern)):
            if path.relative_to(folder).as_posix() not in files and not path.name.startswith("."):
                remove(path)
        write_text(folder / "index.html", page)
    progress(Progress("report", 3, 3))
    return folder / "index.html"


def read_report(study: Path) -> Report:
    """All that the sections of the report are made from; BadInputError where there is no Study."""
    folder, problems = StudyFolder(study), list[str]()
    store = _open_store(folder, problems)
    result = _result(folder, store, problems)
    scene: Scene | None = None
    with noted(problems, "There are no slices and 3D views: "):
        scene = _read_scene(folder, result, store, problems)
    plan, unchanged = None, False
    with noted(problems):
        plan, unchanged = read_analysis_plan(folder)
    test_sha256 = training_set_sha256(store, "test") if store else ""
    rate_ranges: list[RateRange] = []
    for weighting in result.record.config.study.weightings:
        path = rate_range_path(folder.rate_ranges, weighting)
        if path.exists():
            with noted(problems):
                rate_ranges.append(read_rate_range(path))
    damaged = plan is None and folder.plan_path.exists()
    return Report(result, scene, problems, rate_ranges, plan, unchanged, damaged, test_sha256)


def read_study(study: Path) -> StudyResult:
    """All numbers and curves of a Study, as the report sees them; BadInputError where there is no Study."""
    folder, problems = StudyFolder(study), list[str]()
    return _result(folder, _open_store(folder, problems), problems)


def _open_store(folder: StudyFolder, problems: list[str]) -> Store | None:
    path = mirror_of(folder.read_record().store)
    try:
        return Store.open(path)
    except BadInputError as error:
        problems.append(f"The report was made without the store, so it has no slices and 3D views. {error}")
        return None


def _result(folder: StudyFolder, store: Store | None, problems: list[str]) -> StudyResult:
    record = folder.read_record()
    plan = record.config.study
    runs = tuple(
        _read_run(folder.run(arm, seed), arm, seed, record, problems) for arm in arms_of(plan) for seed in plan.seeds
    )
    sizes: SplitSizes | None = None
    forecasts: tuple[ArmForecast, ...] = ()
    fused: FusedResult | None = None
    if store is not None:
        with noted(problems, "How many cases are in each part is not shown. "):
            seen = store.of_fold(record.config.train.fold)
            sizes = SplitSizes(*(len(seen.names(split)) for split in ("train", "validation", "test")))
    with noted(problems, "The forecast is not shown. "):
        forecasts = load_forecasts(folder.forecast_path, record.config.train.iterations)
    if plan.fuse:
        with noted(problems, "The best model per organ is not shown. "):
            of = folder.fused
            scores, validation = (tuple(read_scores(path)) for path in (of.scores, of.validation_scores))
            earlier = _read_earlier(of, record.all_stages, problems)
            fused = FusedResult(FusionRecord.read(of), scores, validation, earlier)
    return StudyResult(record, runs, sizes, fused, forecasts)


@contextmanager
def noted(problems: list[str], what: str = "") -> Iterator[None]:
    """Whatever of the study cannot be read inside becomes a sentence of the report, after the words given."""
    try:
        yield
    except BadInputError as error:
        problems.append(f"{what}{error}")


def _read_run(folder: RunFolder, arm: Arm, seed: int, record: StudyRecord, asides: list[str]) -> RunResult:
    """Read what is there of one run; a file that cannot be read becomes its `problem`, or one of the asides.

    The latter where no score depends on it: the run counts.
    """
    problems: list[str] = []
    stages, classes = record.all_stages, ClassTable.of_names(record.classes)
    status: RunStatus | None = None
    curve: tuple[CurvePoint, ...] = ()
    scores: tuple[ScoreRow, ...] | None = None
    with noted(problems):
        status = folder.read_status()
    try:
        curve = tuple(CurvePoint.from_line(line, classes) for line in folder.read_curve())
    except BadInputError as error:
        asides.append(str(error))
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        asides.append(f"{folder.curve_path}: damaged ({error}).")
    if folder.scores.exists():
        with noted(problems):
            scores = tuple(read_scores(folder.scores))
    if status is not None and status.state == "finished" and status.step < stages[-1]:
        problems.append(f"trained for {status.step} of {stages[-1]} steps so far.")
    earlier = _read_earlier(folder, stages, asides)
    measured: dict[str, Mapping[str, Measured]] = {}
    if folder.training_ranges.exists():  # else there was nothing to compare the measurements with
        with noted(asides, "What is flagged is not shown. "):
            cases = dict.fromkeys(row.case for row in scores or ())
            measured = {case: read_measurements(folder.predictions / f"{case}.json") for case in cases}
    reasons = {(case, organ): each.reasons for case, found in measured.items() for organ, each in found.items()}
    reliability: tuple[ReliabilityRow, ...] = ()
    if record.config.study_evaluation.calibration and folder.scores.with_name(RELIABILITY).exists():
        with noted(asides, "Its calibration is not shown. "):
            reliability = tuple(read_reliability(folder.scores.with_name(RELIABILITY)))
    confusion: Confusion | None = None
    probe: Probe | None = None
    if scores and folder.confusion.exists():
        with noted(asides, "Which class its voxels are called is not shown. "):
            confusion = Confusion(classes, read_confusion(folder.confusion, classes.names))
    with noted(asides, "A probe is not shown. "):
        probe = read_probe(folder)
    said = " ".join(problems)
    return RunResult(arm, seed, status, curve, scores, said, earlier, reasons, reliability, confusion, probe)


def _read_earlier(folder: RunFolder, stages: Sequence[int], problems: list[str]) -> dict[int, tuple[ScoreRow, ...]]:
    """Scores that were put aside at the earlier stages, as far as they can be read."""
    earlier = {}
    for stage in stages[:-1]:
        if folder.scores_at(stage).exists():
            with noted(problems):
                earlier[stage] = tuple(read_scores(folder.scores_at(stage)))
    return earlier


def _read_scene(folder: StudyFolder, study: StudyResult, store: Store | None, problems: list[str]) -> Scene | None:
    """The case of Figures 2-4 with all its predictions, each cut down as soon as it is read."""
    if store is None:
        return None
    case = median_case(study, store.names("test"))
    if case is None:
        problems.append("The store has no test case, so there are no slices and 3D views.")
        return None
    truth = store.original_labels(case).canonical()
    index = busiest_slice(truth)
    scan = backdrop(store.volume(case), truth.geometry, index)
    predictions: dict[str, LabelView] = {}
    seeds: dict[str, int] = {}
    flagged: dict[str, tuple[str, ...]] = {}
    for run in sorted(study.runs, key=lambda each: not each.counts):  # else as they come
        if run.arm.name not in predictions:
            path = folder.run(run.arm, run.seed).predictions / f"{case}.nii.gz"
            prediction = _read_prediction(path, truth, study.classes, problems)
            if prediction is not None:
                predictions[run.arm.name] = LabelView.of(prediction, index)
                seeds[run.arm.name] = run.seed
                flagged[run.arm.name] = summary_section.flagged_organs(run.reasons, case)
    path = folder.fused.predictions / f"{case}.nii.gz"
    fused = _read_prediction(path, truth, study.classes, problems) if study.fused else None
    if fused is not None:
        predictions[FUSED] = LabelView.of(fused, index)
    if case in study.record.unlabelled:
        missing = ", ".join(map(title_of, study.record.unlabelled[case]))
        problems.append(f"{case}, the case of the pictures, does not label {missing}: its ground truth lacks them.")
    if truth.ignored:
        problems.append(f"{case}, the case of the pictures, has voxels that nobody labelled: hatched, and in no score.")
    view = LabelView.of(truth, index)
    return Scene(case, index, truth.geometry.shape[2], scan, view, predictions, seeds, flagged)


def _read_prediction(path: Path, truth: LabelMap, classes: ClassTable, problems: list[str]) -> LabelMap | None:
    if not path.exists():
        return None
    with noted(problems):
        prediction = read_labels(path, classes=classes).in_order_of(truth.geometry)
        if truth.geometry.fits(prediction.geometry):
            return prediction
        apart = prediction.geometry.difference(truth.geometry)
        problems.append(f"{path}: not on the grid of the case's scan ({apart}), so it is not shown. Predict it again.")
    return None
