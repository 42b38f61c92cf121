"""One test case through all arms, as pictures: what each calls its organs, how well, and what should be looked at."""

from collections.abc import Mapping
from typing import NamedTuple

from viscera.core.anatomy import IGNORED, title_of
from viscera.core.arms import FUSED
from viscera.drawing.canvas import Pixels, data_uri, pixels_to_png, to_pixels
from viscera.drawing.renders import Surface, common_box, render_figure, surfaces
from viscera.drawing.slices import LabelView, slice_figure
from viscera.io.scores import ScoreRow
from viscera.study.report.page_section import Picture, Report
from viscera.study.results import Scene, StudyResult, mean_defined

TRUTH = "ground truth"


class Views(NamedTuple):
    """A label map as RGB pixels."""

    axial: Pixels
    surface: Pixels


class Tile(NamedTuple):
    """One label map of the case."""

    name: str  # of the arm, `fused`, or `ground truth`
    title: str
    axial: Picture | None  # axial, surface: None where there is no prediction
    surface: Picture | None
    percent: float | None = None  # mean foreground Dice of this case, per cent; None where it is not scored
    flagged: tuple[str, ...] = ()  # titles of organs


class Gallery(NamedTuple):
    """The ground truth, and the arms in the order of Table 1, the best model per organ last."""

    truth: Tile
    arms: tuple[Tile, ...]
    columns: int  # of the arms: one for each weighting, so that a row is a learning rate

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All that have pictures."""
        return tuple(tile for tile in (self.truth, *self.arms) if tile.axial is not None)


def label_views(scene: Scene) -> dict[str, LabelView]:
    """All label maps of the case, by name of arm, and `ground truth`."""
    return {TRUTH: scene.truth, **scene.predictions}


def scene_surfaces(report: Report) -> dict[str, tuple[Surface, ...]]:
    """Those of each label map of the case; none without a scene."""
    views = label_views(report.scene) if report.scene else {}
    return {name: surfaces(view.coarse, report.study.classes) for name, view in views.items()}


def views_of(study: StudyResult, scene: Scene, organs: Mapping[str, tuple[Surface, ...]]) -> dict[str, Views]:
    """Slice and 3D view of each label map of the case, all from the same side."""
    box = common_box(list(organs.values()))
    return {
        name: Views(
            to_pixels(slice_figure(scene.backdrop, view.axial, view.spacing_mm, study.classes)),
            to_pixels(render_figure(organs[name], box)),
        )
        for name, view in label_views(scene).items()
    }


def scene_views(report: Report) -> dict[str, Views]:
    """Those of the study's case; none without a scene."""
    return views_of(report.study, report.scene, report.once(scene_surfaces)) if report.scene else {}


def gallery_of(report: Report) -> Gallery | None:
    """The case of Figures 2-4 through all arms; None where it could not be read."""
    scene, study = report.scene, report.study
    if scene is None:
        return None
    views = report.once(scene_views)

    def tile(name: str, title: str, about: str) -> Tile:
        pictures = [
            Picture(data_uri(pixels_to_png(pixels), "png"), f"{about}, {title}") for pixels in views.get(name, ())
        ]
        axial, surface = pictures or (None, None)
        flagged = tuple(map(title_of, scene.flagged.get(name, ())))
        return Tile(name, title, axial, surface, case_percent(report, name), flagged)

    about = f"Case {scene.case}"
    truth = tile(TRUTH, TRUTH, about)
    arms = [tile(arm.name, arm.title, about) for arm in study.arms]
    if FUSED in scene.predictions:
        arms.append(tile(FUSED, "best arm per organ", about))
    weightings = len(study.record.config.study.weightings)
    return Gallery(truth, tuple(arms), weightings if weightings > 1 else min(3, len(arms)))


def case_percent(report: Report, name: str) -> float | None:
    """Mean Dice over the organs of the shown case in the shown run, per cent, on the primary grid."""
    scene, study = report.scene, report.study
    assert scene is not None  # noqa: S101 - as `gallery_of` asks
    rows: tuple[ScoreRow, ...] = ()
    if name == FUSED:
        rows = study.fused.scores if study.fused else ()
    else:
        of = (run.scores or () for run in study.runs if (run.arm.name, run.seed) == (name, scene.seeds.get(name)))
        rows = next(of, ())
    organs = {organ.name for organ in study.classes.organs}
    mean = mean_defined(
        row.value
        for row in rows
        if (row.case, row.grid, row.metric) == (scene.case, report.grid, "dice") and row.organ in organs
    )
    return None if mean is None else 100 * mean


def has_ignored(scene: Scene | None) -> bool:
    """Whether the slice that is shown has voxels that nobody labelled."""
    return scene is not None and bool((scene.truth.axial == IGNORED).any())
