"""Studies in memory: what `study.report.report_stage` reads from disk, with answers known beforehand."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from markupsafe import Markup

from viscera.core.anatomy import CLASS_NAMES, CLASSES, ORGANS
from viscera.core.arms import Arm, arms_of
from viscera.core.resolve import resolve_config
from viscera.core.scan import LabelMap, Volume
from viscera.drawing.inline_chart import Chart
from viscera.drawing.slices import LabelView, backdrop
from viscera.io.runlog import RunStatus, StudyRecord
from viscera.io.scores import ScoreRow
from viscera.study.report import curves_section, gradients_section, segmentations_section, summary_section
from viscera.study.report.page_section import Report, Section, render_page
from viscera.study.report.report_stage import SECTIONS
from viscera.study.results import CurvePoint, RunResult, Scene, StudyResult

# Table 1 of the paper: per cent, columns Wu, Ws, Wq at 0.001, then at 0.01
PAPER_PERCENT = {
    "background": (99.9, 99.1, 79.2, 99.8, 99.8, 99.6),
    "artery": (80.4, 63.6, 63.4, 79.5, 89.2, 72.4),
    "portal_vein": (78.6, 68.8, 69.1, 75.1, 79.3, 73.0),
    "liver": (96.5, 73.4, 10.1, 95.6, 96.3, 87.7),
    "spleen": (94.7, 71.6, 0.0, 92.0, 93.9, 91.6),
    "stomach": (96.3, 64.1, 6.9, 93.9, 96.1, 82.4),
    "gallbladder": (77.3, 74.7, 54.3, 73.2, 80.8, 54.2),
    "pancreas": (82.7, 78.0, 69.1, 82.4, 84.7, 70.3),
}
StudyMaker = Callable[..., StudyResult]
Array = npt.NDArray[np.float64]
FIVE_SEEDS = (0, 1, 2, 3, 4)
HOSTILE = "<script>alert(1)</script> phantom \"'&" + "x" * 200


def words_of(of: StudyResult | Report, section: Section) -> str:
    """What a section of the page says, without tags; every white space is one blank."""
    page = render_page(of if isinstance(of, Report) else Report(of), [section])
    text = re.sub(
        r"<script.*?</script>|<[^>]*>", " ", page[page.index("<main>") : page.index("</main>")], flags=re.DOTALL
    )
    return " ".join(html.unescape(text).split())


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """For tests of words and numbers alone: reports without pictures, which take most of their time."""
    for section in (segmentations_section, summary_section):
        patch.setattr(section, "gallery_of", lambda _: None)
    patch.setattr(segmentations_section, "figures_of", lambda _: [])
    draw_no_curves(patch)


def draw_no_curves(patch: pytest.MonkeyPatch) -> None:
    """For tests of label maps in reports: those are all that is drawn."""
    patch.setattr(curves_section, "to_bytes", lambda *_: b"")
    for section in (curves_section, gradients_section):
        patch.setattr(section, "inline_chart", lambda _figure, alt: Chart(Markup("<svg></svg>"), alt))


def rows_of(values_PO: Array, metric: str = "dice") -> tuple[ScoreRow, ...]:
    """Rows of one run: (patients, organs); NaN is an undefined value."""
    return tuple(
        ScoreRow(f"case_{p:03}", organ.name, "original", metric, None if np.isnan(value) else round(float(value), 6))
        for p, of_patient in enumerate(values_PO)
        for organ, value in zip(ORGANS, of_patient, strict=True)
    )


def ladder(patients: int, step: float = 0.05) -> list[Array]:
    """Six arms, each `step` below the one before it on every patient, all but equal noise."""
    base = 0.9 - 0.01 * np.random.default_rng(0).random((patients, 7))
    return [base - step * arm - 1e-4 * np.random.default_rng(arm).random((patients, 7)) for arm in range(6)]


def five_seeds(make_study: StudyMaker, arms: Sequence[Array], luck: float = 0.0) -> StudyResult:
    """Each arm trained with five seeds, worth 0 to 4 times `luck` on every patient, in an order of its own."""
    order = np.random.default_rng(0)
    rows = [rows_of(values + luck * place) for values in arms for place in order.permutation(len(FIVE_SEEDS))]
    return make_study(rows, seeds=FIVE_SEEDS)


@pytest.fixture(scope="session")
def paper_rows() -> list[tuple[ScoreRow, ...]]:
    """Scores of each arm whose class means are the paper's."""
    return [
        tuple(ScoreRow("case", organ, "original", "dice", values[arm] / 100) for organ, values in PAPER_PERCENT.items())
        for arm in range(6)
    ]


@pytest.fixture(scope="session")
def make_study() -> StudyMaker:
    """A study of the six arms; `rows[arm][seed]` are its scores, None for an arm without."""

    def make(
        rows: list[tuple[ScoreRow, ...] | None],
        dataset: str = "clinical CT",
        statuses: Mapping[int, RunStatus] | None = None,
        seeds: tuple[int, ...] = (0,),
    ) -> StudyResult:
        config = resolve_config("demo", options={"study.seeds": seeds})
        record = StudyRecord(version="0.1.0", store="/store", dataset=dataset, config=config)
        done = RunStatus(state="finished", step=300, iterations=300, wall_seconds=60, device="cpu", hardware="A CPU")
        runs = [
            RunResult(arm, seed, (statuses or {}).get(index, done), curve(), rows[index * len(seeds) + at])
            for index, arm in enumerate(arms_of(config.study))
            for at, seed in enumerate(seeds)
        ]
        return StudyResult(record, tuple(runs))

    return make


@pytest.fixture(scope="session")
def study_of_dice() -> StudyMaker:
    """A study by formula: `dice(arm, seed, case, organ)` is a Dice, or None where an arm has no scores at all.

    `curve_dice(arm, seed)` gives foreground Dice on (training patches, validation cases) at each of its steps.
    """

    def make(
        dice: Callable[[Arm, int, int, str], float | None],
        cases: int = 12,
        dataset: str = "clinical CT",
        curve_dice: Callable[[Arm, int], list[tuple[float, float | None]]] | None = None,
        **options: object,
    ) -> StudyResult:
        config = resolve_config("demo", options=options)
        record = StudyRecord(version="0.1.0", store="/store", dataset=dataset, config=config)
        steps = config.train.iterations
        done = RunStatus(state="finished", step=steps, iterations=steps)
        runs = []
        for arm in arms_of(config.study):
            for seed in config.study.seeds:
                rows = tuple(
                    ScoreRow(f"case_{case:02}", organ.name, "original", "dice", value)
                    for case in range(cases)
                    for organ in CLASSES[1:]
                    if (value := dice(arm, seed, case, organ.name)) is not None
                )
                points = tuple(
                    CurvePoint(step, 0.0, (training,) * 8, () if validation is None else (validation,) * 8)
                    for step, (training, validation) in enumerate(curve_dice(arm, seed) if curve_dice else [])
                )
                runs.append(RunResult(arm, seed, done if rows else None, points, rows or None))
        return StudyResult(record, tuple(runs))

    return make


@pytest.fixture(scope="session")
def scene(label_map: LabelMap) -> Scene:
    """One case, predicted perfectly by all arms but the last, which predicts nothing."""
    scan = Volume(np.where(label_map.labels > 0, 120, -80).astype(np.int16), label_map.geometry)
    view = LabelView.of(label_map, 12)
    nothing = LabelView.of(LabelMap(np.zeros_like(label_map.labels), label_map.geometry), 12)
    names = [arm.name for arm in arms_of(resolve_config("demo").study)]
    predictions = {**dict.fromkeys(names[:-1], view), names[-1]: nothing}
    behind = backdrop(scan, label_map.geometry, 12)
    return Scene("case_1", 12, 24, behind, view, predictions, dict.fromkeys(names, 0))


@pytest.fixture(scope="session")
def hostile_page(make_study: StudyMaker, paper_rows: list[tuple[ScoreRow, ...] | None], scene: Scene) -> str:
    """The whole page of a phantom study whose last arm failed; data set, case, message and hardware are hostile."""
    failed = RunStatus(state="failed", step=131, iterations=300, message=HOSTILE, hardware=HOSTILE)
    study = make_study([*paper_rows[:5], None], dataset=HOSTILE, statuses={5: failed})
    return render_page(Report(study, replace(scene, case=HOSTILE), [HOSTILE]), SECTIONS)


def curve() -> tuple[CurvePoint, ...]:
    """Training Dice 0.9 of every organ at the last of four steps; background, which does not count, 0.1."""
    dice = [(0.1, *[0.3 * n] * (len(CLASS_NAMES) - 1)) for n in range(4)]
    return tuple(CurvePoint(step=100 * n, loss=-0.2 * n, dice=dice[n], validation_dice=()) for n in range(4))
