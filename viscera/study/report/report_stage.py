"""`viscera report`: from a Study to `report/`: the page, Table 1 and the figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import viscera
from viscera.core.anatomy import ClassTable, title_of
from viscera.core.arms import FUSED, Arm, arms_of
from viscera.core.errors import BadInputError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.scan import LabelMap
from viscera.doctor.forecast import ArmForecast, load_forecasts
from viscera.drawing.canvas import to_bytes
from viscera.drawing.scene import LabelView, Scene
from viscera.drawing.slices import backdrop, busiest_slice
from viscera.engine.fusion_record import FusionRecord
from viscera.io.files import write_bytes, write_text
from viscera.io.measurements import read_measurements
from viscera.io.nifti import read_labels
from viscera.io.records import write_csv
from viscera.io.runlog import RunFolder, RunStatus, StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.study.rate_range import RateRange, rate_range_path, read_rate_range
from viscera.study.report.comparisons import Comparison, compare
from viscera.study.report.curves import figure1
from viscera.study.report.figures import OrganFigure, composite_png, organ_figures
from viscera.study.report.fusion_section import with_fused
from viscera.study.report.ledger import COLUMNS as LEDGER_COLUMNS
from viscera.study.report.ledger import Ledger, evidence_of, ledger
from viscera.study.report.page import PageParts, dice_on_test, render_page
from viscera.study.report.paper import COLUMNS as BESIDE_COLUMNS
from viscera.study.report.paper import CORRELATION_COLUMNS, BesidePaper, beside_paper, correlation_cells
from viscera.study.report.table_formats import to_csv, to_latex, to_markdown
from viscera.study.report.tables import Table1, table1
from viscera.study.report.trust_section import flagged_organs
from viscera.study.results import CurvePoint, FusedResult, RunResult, SplitSizes, StudyResult, median_case

_OTHER_CLASSES = (
    "The paper's claims and its Table 1 are left out: they are about its eight classes, and this study has others."
)
_STEPS = ("reading", "slices and surfaces", "tables and curves", "page")


def make_report(study: Path, progress: OnProgress = unseen) -> Path:
    """Write `report/` of a Study: whatever is there is shown, whatever is missing is said.

    Args:
        study: a Study, finished or not; nothing but its `report/` is written.
        progress: called before each part, and at the end.

    Returns:
        `STUDY/report/index.html`; beside it `table1.{csv,md,tex}` and `table1_intervals.csv` (and `table1_prepared*`
        where both grids are scored), `comparisons.csv` and `claims.csv` on the primary grid, `beside_paper.csv` and
        `rank_correlation.csv` where the study has three of the paper's six models or more, and `figures/`. The last
        three are left out where the classes are not the paper's.

    Raises:
        BadInputError: no Study there, or its folder cannot be written to.
    """
    _tell(progress, 0)
    folder = StudyFolder(study)
    problems: list[str] = []
    store = _open_store(folder.read_record(), problems)
    result = _result(folder, store, problems)
    _tell(progress, 1)
    scene = _read_scene(folder, result, store, problems)
    figures = organ_figures(result, scene) if scene else []
    _tell(progress, 2)
    primary, *other_grids = result.grids or [""]
    compared = compare(result, primary)
    plain = [table1(result, primary, compared), *(table1(result, grid) for grid in other_grids)]
    tables = [with_fused(table, result) for table in plain]
    _write_tables(study / "report", tables)
    write_csv(study / "report" / "comparisons.csv", Comparison._fields, (row.cells() for row in compared.rows))
    claims, beside = None, None
    if result.has_papers_classes:
        evidence = evidence_of(result, primary)
        claims, beside = ledger(evidence), beside_paper(evidence, tables[0])
    else:
        problems.append(_OTHER_CLASSES)
    _write_claims(study / "report", claims, beside)
    _write_figures(study / "report" / "figures", result, tables[0], scene, figures)
    _tell(progress, 3)
    page = study / "report" / "index.html"
    tests = _read_rate_ranges(folder, result.record.config.study.weightings, problems)
    parts = PageParts(result, tables, scene, figures, problems, viscera.__version__, compared, claims, beside, tests)
    write_text(page, render_page(parts))
    _tell(progress, 4)
    return page


def _tell(progress: OnProgress, done: int) -> None:
    progress(Progress("report", done, len(_STEPS), "".join(_STEPS[done : done + 1])))


def read_study(study: Path) -> StudyResult:
    """All numbers and curves of a Study, as the report sees them.

    Raises:
        BadInputError: no Study there.
    """
    folder, problems = StudyFolder(study), list[str]()
    return _result(folder, _open_store(folder.read_record(), problems), problems)


def _result(folder: StudyFolder, store: Store | None, problems: list[str]) -> StudyResult:
    record = folder.read_record()
    plan = record.config.study
    read = [(arm, seed) for arm in arms_of(plan) for seed in plan.seeds]
    runs = tuple(_read_run(folder.run(arm, seed), arm, seed, record) for arm, seed in read)
    sizes = SplitSizes(*(len(store.names(s)) for s in ("train", "validation", "test"))) if store else None
    forecasts: tuple[ArmForecast, ...] = ()
    try:
        forecasts = load_forecasts(folder.forecast_path, record.config.train.iterations)
    except BadInputError as error:
        problems.append(f"The forecast is not shown. {error}")
    return StudyResult(record, runs, sizes, _read_fused(folder, record, problems), forecasts)


def _read_fused(folder: StudyFolder, record: StudyRecord, problems: list[str]) -> FusedResult | None:
    """The best model per organ, where it was asked for and is scored."""
    run = folder.fused
    if not record.config.study.fuse:
        return None
    try:
        scores, validation = (tuple(read_scores(path)) for path in (run.scores, run.validation_scores))
        earlier = _read_earlier(run, record.all_stages, problems)
        return FusedResult(FusionRecord.read(run), scores, validation, earlier)
    except BadInputError as error:
        problems.append(f"The best model per organ is not shown. {error}")
        return None


def _read_run(folder: RunFolder, arm: Arm, seed: int, record: StudyRecord) -> RunResult:
    """Read what is there of one run; a file that cannot be read becomes its `problem`."""
    problems: list[str] = []
    stages, classes = record.all_stages, ClassTable.of_names(record.classes)
    status: RunStatus | None = None
    curve: tuple[CurvePoint, ...] = ()
    scores: tuple[ScoreRow, ...] | None = None
    try:
        status = folder.read_status()
    except BadInputError as error:
        problems.append(str(error))
    try:
        curve = tuple(CurvePoint.from_line(line, classes) for line in folder.read_curve())
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        problems.append(f"{folder.curve_path}: damaged ({error}).")
    if folder.scores.exists():
        try:
            scores = tuple(read_scores(folder.scores))
        except BadInputError as error:
            problems.append(str(error))
    if status is not None and status.state == "finished" and status.step < stages[-1]:
        problems.append(f"trained for {status.step} of {stages[-1]} steps so far.")
    earlier = _read_earlier(folder, stages, problems)
    cases = dict.fromkeys(row.case for row in scores or ())
    reasons = _read_reasons(folder, cases, problems)
    return RunResult(arm, seed, status, curve, scores, " ".join(problems), earlier, reasons)


def _read_reasons(
    folder: RunFolder, cases: Iterable[str], problems: list[str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Why organs of the test cases should be looked at; nothing of a run without ranges to hold them against."""
    if not folder.training_ranges.exists():
        return {}
    try:
        records = {case: read_measurements(folder.predictions / f"{case}.json") for case in cases}
    except BadInputError as error:
        problems.append(str(error))
        return {}
    return {(case, organ): each.reasons for case, found in records.items() for organ, each in found.items()}


def _read_earlier(folder: RunFolder, stages: Sequence[int], problems: list[str]) -> dict[int, tuple[ScoreRow, ...]]:
    """Scores that were put aside at the earlier stages, as far as they can be read."""
    earlier = {}
    for stage in stages[:-1]:
        if folder.scores_at(stage).exists():
            try:
                earlier[stage] = tuple(read_scores(folder.scores_at(stage)))
            except BadInputError as error:
                problems.append(str(error))
    return earlier


def _read_rate_ranges(folder: StudyFolder, weightings: Iterable[str | float], problems: list[str]) -> list[RateRange]:
    tests = []
    for weighting in weightings:
        path = rate_range_path(folder.rate_ranges, weighting)
        if path.exists():
            try:
                tests.append(read_rate_range(path))
            except BadInputError as error:
                problems.append(str(error))
    return tests


def _open_store(record: StudyRecord, problems: list[str]) -> Store | None:
    try:
        return Store.open(Path(record.store))
    except BadInputError as error:
        problems.append(f"The report was made without the store, so it has no slices and 3D views. {error}")
        return None


def _read_scene(folder: StudyFolder, study: StudyResult, store: Store | None, problems: list[str]) -> Scene | None:
    """The case of Figures 2-4 with all its predictions, each cut down as soon as it is read."""
    case = median_case(study, store.names("test")) if store else None
    if store is None or case is None:
        if store is not None:
            problems.append("The store has no test case, so there are no slices and 3D views.")
        return None
    try:
        truth = store.original_labels(case).canonical()
        index = busiest_slice(truth)
        scan = backdrop(store.volume(case), truth.geometry, index)
    except BadInputError as error:
        problems.append(f"There are no slices and 3D views: {error}")
        return None
    predictions: dict[str, LabelView] = {}
    seeds: dict[str, int] = {}
    flagged: dict[str, tuple[str, ...]] = {}
    for run in study.runs:
        if run.arm.name not in predictions:
            prediction = _read_prediction(folder.run(run.arm, run.seed), case, truth, study.classes, problems)
            if prediction is not None:
                predictions[run.arm.name] = LabelView.of(prediction, index)
                seeds[run.arm.name] = run.seed
                flagged[run.arm.name] = flagged_organs(run.reasons, case)
    fused = _read_prediction(folder.fused, case, truth, study.classes, problems) if study.fused else None
    if fused is not None:
        predictions[FUSED] = LabelView.of(fused, index)
    if case in study.record.unlabelled:
        missing = ", ".join(map(title_of, study.record.unlabelled[case]))
        problems.append(f"{case}, the case of the pictures, does not label {missing}: its ground truth lacks them.")
    organs = int(np.count_nonzero(np.bincount(truth.labels[:, :, index].ravel())[1:]))
    view = LabelView.of(truth, index)
    return Scene(case, index, truth.geometry.shape[2], organs, scan, view, predictions, seeds, flagged)


def _read_prediction(
    run: RunFolder, case: str, truth: LabelMap, classes: ClassTable, problems: list[str]
) -> LabelMap | None:
    path = run.predictions / f"{case}.nii.gz"
    if not path.exists():
        return None
    try:
        prediction = read_labels(path, classes=classes).canonical()
    except BadInputError as error:
        problems.append(str(error))
        return None
    if not prediction.geometry.same_grid(truth.geometry, tolerance_mm=0.1 * min(truth.geometry.spacing_mm)):
        problems.append(f"{path}: not on the grid of the case's scan, so it is not shown. Predict it again.")
        return None
    return prediction


def _write_tables(folder: Path, tables: list[Table1]) -> None:
    for table in tables:
        stem = "table1" if table is tables[0] else f"table1_{table.grid}"
        for suffix, text in (("csv", to_csv(table)), ("md", to_markdown(table)), ("tex", to_latex(table))):
            write_text(folder / f"{stem}.{suffix}", text)
        intervals = table.spread.interval_rows(table.percent)
        write_csv(folder / f"{stem}_intervals.csv", ("class", "arm", "percent", "ci_low", "ci_high"), intervals)


def _write_claims(folder: Path, claims: Ledger | None, beside: BesidePaper | None) -> None:
    """Write the ledger and the paper's table beside ours; remove what an earlier report had and this one has not."""
    if claims is None:
        (folder / "claims.csv").unlink(missing_ok=True)
    else:
        write_csv(folder / "claims.csv", LEDGER_COLUMNS, (entry.cells() for entry in claims.entries))
    if beside is None:
        (folder / "beside_paper.csv").unlink(missing_ok=True)
        (folder / "rank_correlation.csv").unlink(missing_ok=True)
    else:
        write_csv(folder / "beside_paper.csv", BESIDE_COLUMNS, beside.cells())
        write_csv(folder / "rank_correlation.csv", CORRELATION_COLUMNS, correlation_cells(beside))


def _write_figures(
    folder: Path, study: StudyResult, table: Table1, scene: Scene | None, figures: list[OrganFigure]
) -> None:
    """Write the figures, and remove those of an earlier report that this one does not have."""
    contents = {"figure1.svg": to_bytes(figure1(study, dice_on_test(study, table)), "svg")}
    for figure in figures:
        of = f"{scene.case}, slice {scene.slice_index + 1}" if scene else ""
        phantom = " (phantom)" if study.phantom else ""
        contents[figure.file_name] = composite_png(
            figure, f"Figure {figure.number}: {figure.title}{phantom}, {of}", study.classes
        )
    for name, content in contents.items():
        write_bytes(folder / name, content)
    for path in folder.glob("figure[0-9]*.*"):
        if path.name not in contents:
            path.unlink()
