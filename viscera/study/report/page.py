"""The page: one self-contained index.html, pictures inside, every text from the data escaped."""

from collections.abc import Sequence
from dataclasses import dataclass

from viscera.core.arms import weighting_name
from viscera.drawing.canvas import Pixels, data_uri, pixels_to_png, to_bytes
from viscera.drawing.page_environment import page_environment
from viscera.drawing.scene import Scene
from viscera.metrics.learning import starving_share
from viscera.study.rate_range import RateRange
from viscera.study.report.comparisons import Comparisons
from viscera.study.report.curves import arm_panel
from viscera.study.report.figures import OrganFigure
from viscera.study.report.forecast_section import forecast_rows, forecast_sentence
from viscera.study.report.fusion_section import fusion_rows, fusion_sentences
from viscera.study.report.gradients import arm_reasons, gradient_panel, has_gradients
from viscera.study.report.iterations import organ_stages, settling_rows, settling_sentence, stage_rows
from viscera.study.report.ledger import Ledger
from viscera.study.report.outcomes import arm_standings, conclusions, organ_findings
from viscera.study.report.paper import BesidePaper
from viscera.study.report.rate_ranges import rate_range_panel, sentence
from viscera.study.report.spread import DRAWS
from viscera.study.report.summaries import cost_rows, gap_rows, headline, settings
from viscera.study.report.tables import DAGGER, Table1, foreground_percent
from viscera.study.report.trust_section import trust_rows, trust_sentence
from viscera.study.results import StudyResult


@dataclass(frozen=True)
class Picture:
    """A picture of the page: address, text for those who do not see it, caption."""

    uri: str
    alt: str
    title: str = ""


@dataclass(frozen=True)
class PictureGroup:
    """One of Figures 2-4 on the page: its columns, each with title, slice, 3D view (None: no prediction) and a note."""

    number: int
    title: str
    columns: tuple[tuple[str, Picture | None, Picture | None, str], ...]


@dataclass(frozen=True, eq=False)
class PageParts:
    """All that the page is made from.

    Attributes:
        study: numbers and curves.
        tables: Table 1 on each scored grid, the primary one first; on an empty grid where nothing is scored.
        scene: the case of Figures 2-4; None where its scan or truth is not at hand.
        figures: Figures 2-4; empty without a scene.
        problems: what could not be read or shown, in sentences.
        version: of viscera that makes the page.
        comparisons: of the arms on the primary grid.
        ledger: the paper's claims on it; None leaves the section out.
        beside: the paper's Table 1 beside it; None where too few of the paper's models are in the study.
        rate_ranges: learning-rate range tests, where some were made.
    """

    study: StudyResult
    tables: Sequence[Table1]
    scene: Scene | None
    figures: Sequence[OrganFigure]
    problems: Sequence[str]
    version: str
    comparisons: Comparisons
    ledger: Ledger | None = None
    beside: BesidePaper | None = None
    rate_ranges: Sequence[RateRange] = ()


def render_page(parts: PageParts) -> str:
    """The HTML, under 5 MB for a study of six arms; opens from disk without a network."""
    environment = page_environment("viscera.study.report")
    environment.filters["one_decimal"] = _one_decimal
    environment.filters["two_decimals"] = _two_decimals
    environment.filters["share"] = _share
    study, primary = parts.study, parts.tables[0]
    settled = settling_rows(study)
    return environment.get_template("index.html.j2").render(
        study=study,
        config=study.record.config,
        weightings=[weighting_name(w) for w in study.record.config.study.weightings],
        of_phantom=" (phantom)" if study.phantom else "",
        headline=headline(study, primary),
        tables=parts.tables,
        dagger=DAGGER,
        comparisons=parts.comparisons,
        conclusions=conclusions(parts.comparisons),
        organ_findings=organ_findings(study, primary, parts.comparisons),
        standings=arm_standings(study, primary, parts.comparisons),
        draws=DRAWS,
        ledger=parts.ledger,
        beside=parts.beside,
        curves=_curve_pictures(study, primary),
        reasons=arm_reasons(study) if has_gradients(study) else [],
        gradients=_gradient_pictures(study) if has_gradients(study) else [],
        forecasts=(foreseen := forecast_rows(study, primary.grid)),
        forecast_sentence=forecast_sentence(foreseen),
        classes=study.classes.classes,
        starving=starving_share(len(study.classes)),
        has_validation=any(point.validation_dice for run in study.runs for point in run.curve),
        rate_ranges=_rate_range_pictures(parts),
        gaps=gap_rows(study, primary),
        trust=(trusted := trust_rows(study, primary.grid)),
        trust_sentence=trust_sentence(trusted),
        stages=study.record.all_stages,
        stage_rows=stage_rows(study, primary.grid),
        organ_stages=organ_stages(study, primary.grid),
        settlings=settled,
        settling_sentence=settling_sentence(settled),
        fusion=fusion_rows(study, primary),
        fusion_sentences=fusion_sentences(study, primary),
        costs=cost_rows(study),
        scene=parts.scene,
        shown_seeds=sorted(set(parts.scene.seeds.values())) if parts.scene else [],
        figures=_picture_groups(parts.figures),
        organs=study.classes.organs,
        settings=settings(study),
        problems=parts.problems,
        version=parts.version,
    )


def dice_on_test(study: StudyResult, table: Table1) -> dict[str, float | None]:
    """Mean foreground Dice by name of arm, 0 to 1."""
    percents = {arm.name: foreground_percent(table, arm) for arm in study.arms}
    return {name: None if percent is None else percent / 100 for name, percent in percents.items()}


def _curve_pictures(study: StudyResult, table: Table1) -> list[Picture]:
    dice = dice_on_test(study, table)
    return [
        Picture(
            data_uri(to_bytes(arm_panel(study, arm, dice[arm.name]), "svg"), "svg"),
            f"Learning curve of {arm.title}: mean foreground Dice and loss over steps",
        )
        for arm in study.arms
    ]


def _rate_range_pictures(parts: PageParts) -> list[Picture]:
    tried = parts.study.record.config.study.learning_rates
    return [
        Picture(
            data_uri(to_bytes(rate_range_panel(test, tried, phantom=parts.study.phantom), "svg"), "svg"),
            f"Range test of {weighting_name(test.weighting)} weighting: loss over learning rate",
            sentence(test),
        )
        for test in parts.rate_ranges
    ]


def _gradient_pictures(study: StudyResult) -> list[Picture]:
    return [
        Picture(
            data_uri(to_bytes(gradient_panel(study, arm), "svg"), "svg"),
            f"{arm.title}: share of the gradient of each class over steps",
        )
        for arm in study.arms
    ]


def _picture_groups(figures: Sequence[OrganFigure]) -> list[PictureGroup]:
    uris: dict[int, str] = {}

    def picture(pixels: Pixels | None, alt: str) -> Picture | None:
        if pixels is None:
            return None
        if id(pixels) not in uris:  # the ground truth is shared by all figures: encoded once
            uris[id(pixels)] = data_uri(pixels_to_png(pixels), "png")
        return Picture(uris[id(pixels)], alt)

    return [
        PictureGroup(
            figure.number,
            figure.title,
            tuple(
                (
                    panel.title,
                    picture(panel.axial, f"{figure.title}, {panel.title}: axial slice with organs in colour"),
                    picture(panel.surface, f"{figure.title}, {panel.title}: organs in 3D from the front"),
                    panel.note,
                )
                for panel in figure.panels
            ),
        )
        for figure in figures
    ]


def _one_decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}".replace("-", "−")  # noqa: RUF001 - a minus sign is meant


def _two_decimals(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")  # noqa: RUF001 - a minus sign is meant


def _share(value: float | None) -> str:
    """A share of 1 for people: `12 %`, `0.4 %`, `<0.01 %`."""
    if value is None:
        return "–"
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %" if percent >= 0.01 else "<0.01 %"
