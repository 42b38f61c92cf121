import csv
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fabricated_studies import draw_nothing
from viscera.core.anatomy import CLASS_NAMES, CLASSES
from viscera.core.arms import arms_of
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.progress import Progress
from viscera.core.resolve import resolve_config
from viscera.core.scan import LabelMap, Volume
from viscera.io.files import write_bytes
from viscera.io.manifest import Split
from viscera.io.nifti import write_nifti
from viscera.io.prepared_case import PreparedCase
from viscera.io.runlog import RunFolder, RunStatus, StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.study.rate_range import RateRange, rate_range_path, write_rate_range
from viscera.study.report.report_stage import make_report

TEST_CASES = ("test_a", "test_b", "test_c")
DICE = {"test_a": 0.2, "test_b": 0.9, "test_c": 0.5}  # test_c is the median case
SPACING_MM = (8.0, 8.0, 8.0)
SHAPE = (24, 20, 16)


def boxes(shift: int = 0) -> npt.NDArray[np.uint8]:
    """Seven organs as boxes along I, each three voxels long."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for c in CLASSES[1:]:
        labels[3 * c.label - 2 + shift : 3 * c.label + 1 + shift, 5:15, 4 : 6 + c.label] = c.label
    return labels


def fabricate_store(path: Path) -> None:
    store = Store.create(path, PrepareConfig(downsample=1), "phantom")
    geometry = Geometry.from_spacing(SHAPE, SPACING_MM)
    to_the_left = AxisOrder((0, 1, 2), (True, False, False))  # scans whose files run to the left, as many do
    splits: dict[str, Split] = {"train_a": "train", "train_b": "train", "val_a": "validation"}
    splits |= dict.fromkeys(TEST_CASES, "test")
    for name in splits:
        labels = boxes()
        hu = np.where(labels > 0, 40 + 20 * labels.astype(np.int16), np.int16(-80)).astype(np.int16)
        original = LabelMap(to_the_left.apply(labels), to_the_left.apply_to_geometry(geometry))
        store.add(PreparedCase(name, Volume(hu, geometry), LabelMap(labels, geometry), original, {}))
    store.assign(splits)


def fabricate_run(run: RunFolder, arm_index: int) -> None:
    run.path.mkdir(parents=True)
    for step in range(0, 301, 60):
        dice = dict.fromkeys(CLASS_NAMES, step / 400)
        run.append_curve({"step": step, "loss": -step / 400, "dice": dice, "validation_dice": dice})
    run.write_status(
        RunStatus(
            state="finished",
            step=300,
            iterations=300,
            wall_seconds=100.0,
            device="cpu",
            hardware="Test CPU",
            threads=1,
            peak_memory_mib=512.0,
            versions={"viscera": "0.1.0", "torch": "2.11"},
        )
    )
    rows = [
        ScoreRow(case, organ, "original", "dice", max(0.0, DICE[case] - 0.05 * arm_index))
        for case in TEST_CASES
        for organ in CLASS_NAMES
    ]
    write_scores(run.scores, rows)
    geometry = Geometry.from_spacing(SHAPE, SPACING_MM)
    for case in TEST_CASES:
        write_nifti(run.predictions / f"{case}.nii.gz", LabelMap(boxes(shift=1), geometry))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    fabricate_store(root / "store")
    config = resolve_config("demo")
    study = StudyFolder(root / "study")
    record = StudyRecord(version="0.1.0", store=str(root / "store"), dataset="phantom", config=config)
    study.write_record(record)
    for index, arm in enumerate(arms_of(config.study)):
        fabricate_run(study.run(arm, 0), index)
    return root / "study"


@pytest.fixture
def drawn_study(pristine: Path, tmp_path: Path) -> StudyFolder:
    """A copy to spoil; the store is shared."""
    shutil.copytree(pristine, tmp_path / "study")
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def study(drawn_study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """The same, and nothing is drawn."""
    draw_nothing(monkeypatch)
    return drawn_study


def run_of(study: StudyFolder, arm_index: int) -> RunFolder:
    return study.run(arms_of(study.read_record().config.study)[arm_index], 0)


def table_of(study: StudyFolder) -> dict[str, dict[str, str]]:
    with (study.path / "report" / "table1.csv").open(newline="", encoding="utf-8") as file:
        return {line["class"]: line for line in csv.DictReader(file)}


def test_a_whole_study_gives_page_tables_and_figures(drawn_study: StudyFolder) -> None:
    study = drawn_study
    told: list[Progress] = []
    page = make_report(study.path, told.append)
    assert page == study.path / "report" / "index.html"
    files = sorted(str(path.relative_to(page.parent)) for path in page.parent.rglob("*") if path.is_file())
    assert files == [
        "beside_paper.csv",
        "claims.csv",
        "comparisons.csv",
        "figures/figure1.svg",
        "figures/figure2_uniform.png",
        "figures/figure3_simple.png",
        "figures/figure4_square.png",
        "index.html",
        "rank_correlation.csv",
        "table1.csv",
        "table1.md",
        "table1.tex",
        "table1_intervals.csv",
    ]
    assert table_of(study)["FOREGROUND"]["uniform_lr0.001"] == "53.3333"  # mean of 0.2, 0.9 and 0.5
    text = page.read_text(encoding="utf-8")
    assert "Case test_c, axial slice" in text
    assert "2 training, 1 validation, 3 test" in text
    assert (told[0].done, told[0].total) == (0, 3)
    assert (told[-1].done, told[-1].total) == (3, 3)


def test_comparisons_and_intervals_are_tables_beside_the_page(study: StudyFolder) -> None:
    make_report(study.path)
    with (study.path / "report" / "comparisons.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert ",".join(lines[0]) == (
        "organ,metric,arm_a,arm_b,n,statistic,p,p_holm,effect,ci_low,ci_high,"
        "mean,mean_low,mean_high,p_mean,seeds,p_trainings,outcome"
    )
    assert len(lines) == 1 + 7 * 15  # organs times pairs of six arms
    # every arm is 5 points below the one before it on each of three cases: T = 0, p = 2 / 2^3, no interval of 95 %
    first = ["artery", "dice", "uniform_lr0.001", "simple_lr0.001", "3", "0", "0.25", "1", "5.0000", "", "", "5.0000"]
    assert lines[1][:12] == first
    assert lines[1][14:] == ["0.25", "1", "", "not shown"]  # sign flips: 2 / 2^3; one seed
    with (study.path / "report" / "table1_intervals.csv").open(newline="", encoding="utf-8") as file:
        intervals = {(line["class"], line["arm"]): line for line in csv.DictReader(file)}
    assert len(intervals) == 10 * 6
    # 20, 90 and 50 %: a standard error of 20.3 points, Student's t of two degrees is 4.3, and Dice ends at 0 and at 100
    assert list(intervals["FOREGROUND", "uniform_lr0.001"].values())[2:] == ["53.3333", "0.0000", "100.0000"]


def test_nothing_but_the_report_is_written(study: StudyFolder) -> None:
    before = {path: path.read_bytes() for path in study.path.rglob("*") if path.is_file()}
    make_report(study.path)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.relative_to(study.path).parts[0] for path in study.path.rglob("*")} == {"arms", "report", "study.yaml"}


def test_what_is_missing_or_damaged_is_said_and_the_rest_is_made(study: StudyFolder) -> None:
    shutil.rmtree(run_of(study, 0).path)
    run_of(study, 1).scores.unlink()
    run_of(study, 2).scores.write_text("case,organ,grid,metric,value\na,liver,original,dice,0.x", encoding="utf-8")
    (run_of(study, 3).path / "run.json").write_text("{", encoding="utf-8")
    half = run_of(study, 4).predictions / "test_c.nii.gz"
    half.write_bytes(half.read_bytes()[:80])
    run_of(study, 5).write_status(RunStatus(state="failed", step=12, iterations=300, message="out of memory"))
    text = make_report(study.path).read_text(encoding="utf-8")
    assert "uniform, rate 0.001, seed 0: not trained yet (no run.json)." in text
    assert "simple, rate 0.001, seed 0: No scores" in text
    assert "not a table of scores" in text
    assert "this is not valid JSON" in text
    assert "truncated or damaged" in text
    assert "failed at step 12 of 300: out of memory." in text
    scored = {arm for arm, value in table_of(study)["liver"].items() if value} - {"class"}
    assert scored == {"simple_lr0.01"}  # one arm is known to be finished and scored
    assert "5 of 6 arms have no finished and scored run" in text
    with (study.path / "report" / "comparisons.csv").open(newline="", encoding="utf-8") as file:
        assert not any(line["p"] for line in csv.DictReader(file))


def test_the_ledger_and_the_papers_table_are_files_beside_the_page(study: StudyFolder) -> None:
    make_report(study.path)
    with (study.path / "report" / "claims.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["claim", "statement", "tested_by", "result", "verdict", "data"]
    assert [line["claim"] for line in lines] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10a", "10b"]
    assert all(line["verdict"] == "undecided on this phantom" for line in lines)  # three cases show nothing
    assert {line["data"] for line in lines} == {"phantom: 3 test cases, 1 seed, 300 iterations"}
    with (study.path / "report" / "beside_paper.csv").open(newline="", encoding="utf-8") as file:
        beside = {(line["class"], line["arm"]): line for line in csv.DictReader(file)}
    assert len(beside) == 10 * 6
    assert beside["spleen", "square_lr0.001"]["paper_percent"] == "0.0000"
    assert beside["spleen", "square_lr0.001"]["study_percent"] == "43.3333"  # 10 points below 0.2, 0.9 and 0.5


def test_damaged_runs_leave_their_claims_undecided_and_the_papers_table_out(study: StudyFolder) -> None:
    make_report(study.path)
    for index in (1, 2, 3, 5):
        run_of(study, index).scores.write_text("case,organ\n", encoding="utf-8")
    make_report(study.path)
    with (study.path / "report" / "claims.csv").open(newline="", encoding="utf-8") as file:
        results = {line["claim"]: line["result"] for line in csv.DictReader(file)}
    assert "No finished and scored run: simple at 0.001, square at 0.001;" in results["1"]
    assert "--fuse" in results["9"]
    assert not (study.path / "report" / "beside_paper.csv").exists()
    assert not (study.path / "report" / "rank_correlation.csv").exists()


def test_scores_cut_short_are_said_and_the_rest_is_compared(study: StudyFolder) -> None:
    cut = run_of(study, 1).scores
    cut.write_text(cut.read_text(encoding="utf-8")[:-25], encoding="utf-8")  # amid its last row
    whole_rows = run_of(study, 2).scores
    lines = whole_rows.read_text(encoding="utf-8").splitlines(keepends=True)
    whole_rows.write_text("".join(line for line in lines if not line.startswith("test_c")), encoding="utf-8")
    text = make_report(study.path).read_text(encoding="utf-8")
    assert "the row of case test_c is cut short" in text
    assert "Arms with fewer than all 3 cases: square, rate 0.001: 2." in text
    assert {arm for arm, value in table_of(study)["liver"].items() if not value} == {"simple_lr0.001"}


def test_a_half_written_curve_is_read_as_far_as_it_goes(study: StudyFolder) -> None:
    with run_of(study, 0).curve_path.open("a", encoding="utf-8") as file:
        file.write('{"step": 999, "lo')
    run_of(study, 1).curve_path.write_bytes(b"\xff\xfe\n")
    text = make_report(study.path).read_text(encoding="utf-8")
    assert text.count("curve.jsonl: damaged") == 1
    assert all(table_of(study)["liver"].values())  # no score depends on a curve


def test_without_the_store_there_are_no_slices_and_the_page_says_so(study: StudyFolder) -> None:
    stale = study.path / "report" / "figures" / "figure2_uniform.png"  # of an earlier report
    write_bytes(stale, b"a picture")
    record = study.read_record()
    study.write_record(record.model_copy(update={"store": str(study.path / "gone")}))
    text = make_report(study.path).read_text(encoding="utf-8")
    assert "The report was made without the store" in text
    assert "not known: the store is not available" in text
    assert table_of(study)["liver"]["uniform_lr0.001"] == "53.3333"
    # the slices of the earlier report would claim to belong to this one
    assert [path.name for path in (study.path / "report" / "figures").iterdir()] == ["figure1.svg"]


def test_both_grids_give_two_tables(study: StudyFolder) -> None:
    write_scores(
        run_of(study, 0).scores,
        [ScoreRow("test_a", o, g, "dice", d) for o in CLASS_NAMES for g, d in (("original", 0.5), ("prepared", 0.6))],
    )
    text = make_report(study.path).read_text(encoding="utf-8")
    assert "Table 1 on the prepared grid" in text
    assert table_of(study)["liver"]["uniform_lr0.001"] == "50.0000"
    assert "liver,60.0000" in (study.path / "report" / "table1_prepared.csv").read_text(encoding="utf-8")


def test_range_tests_are_shown_where_they_were_made(study: StudyFolder) -> None:
    page = make_report(study.path)
    assert "range test" not in page.read_text()
    rates = tuple(10.0**-k for k in range(6, 0, -1))
    test = RateRange(
        weighting="simple",
        seed=0,
        steps=6,
        rates=rates,
        losses=(0.0, 0, -0.2, -0.5, -0.5, 0),
        smoothed=(0.0, 0, -0.2, -0.5, -0.5, 0),
        falls_from=1e-4,
        slows_from=1e-3,
        rises_from=1e-2,
        suggestion=1e-3,
    )
    write_rate_range(rate_range_path(study.rate_ranges, "simple"), test)
    (study.rate_ranges / "square.json").write_text("[]")
    text = make_report(study.path).read_text()
    assert "Learning-rate range tests" in text
    assert "simple: falls from 0.0001 on, slows at 0.001 (suggested), rises above 0.01." in text
    assert text.count("Range test of") == 1
    assert "square.json: damaged" in text


def test_a_folder_that_is_no_study_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="this is not a study"):
        make_report(tmp_path)
