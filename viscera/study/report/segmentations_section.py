"""Figures 2-4: for each weighting the same slice and the same 3D view of truth and of every learning rate."""

from collections.abc import Mapping
from textwrap import fill
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from viscera.core.anatomy import ABDOMEN, ClassTable, title_of
from viscera.core.arms import FUSED, weighting_name
from viscera.drawing.canvas import Pixels, house_style, to_bytes
from viscera.drawing.renders import common_box
from viscera.drawing.slices import HATCH, IGNORED_COLOUR
from viscera.drawing.turning_surfaces import packed_maps
from viscera.study.report.case_gallery import TRUTH, Views, gallery_of, has_ignored, scene_surfaces, scene_views
from viscera.study.report.page_section import Content, Group, Report, Section
from viscera.study.results import Scene, StudyResult


class Panel(NamedTuple):
    """One column of Figures 2-4."""

    title: str  # `ground truth`, or the learning rate
    axial: Pixels | None  # axial, surface: RGB pixels of slice and 3D view; None where the arm has no prediction
    surface: Pixels | None
    note: str = ""  # which organs are flagged; empty: none


class OrganFigure(NamedTuple):
    """One of Figures 2-4."""

    number: int  # 2 for the first weighting of the plan
    weighting: str  # whose; `fused` for the best model per organ
    panels: tuple[Panel, ...]  # ground truth, then one per learning rate in the order of the plan

    @property
    def title(self) -> str:
        """For people."""
        return "best model per organ" if self.weighting == FUSED else f"{self.weighting} weighting"


def organ_figures(study: StudyResult, scene: Scene, views: Mapping[str, Views]) -> list[OrganFigure]:
    """Arrange the pictures of a case by weighting; the fused predictor's last."""
    truth = Panel(TRUTH, *views[TRUTH])
    figures = []
    for number, weighting in enumerate(study.record.config.study.weightings, start=2):
        panels = []
        for arm in (arm for arm in study.arms if arm.weighting == weighting):
            title = f"rate {arm.learning_rate:g}" + (f", {arm.variant}" if arm.variant else "")
            flagged = ", ".join(map(title_of, scene.flagged.get(arm.name, ())))
            note = f"flagged: {flagged}" if flagged else ""
            axial, surface = views.get(arm.name, (None, None))
            panels.append(Panel(title, axial, surface, note))
        figures.append(OrganFigure(number, weighting_name(weighting), (truth, *panels)))
    if FUSED in views:
        figures.append(OrganFigure(2 + len(figures), FUSED, (truth, Panel(FUSED, *views[FUSED]))))
    return figures


def composite_png(figure: OrganFigure, heading: str, classes: ClassTable = ABDOMEN, *, ignored: bool = False) -> bytes:
    """The whole figure as one picture file: slices above, 3D views below, organs' colours at the foot.

    `ignored`: whether the slice of the ground truth has voxels that nobody labelled.
    """
    columns, truth = len(figure.panels), figure.panels[0]  # ground truth has both pictures
    heights = [0 if p is None else p.shape[0] / p.shape[1] for p in (truth.axial, truth.surface)]
    size_in = (3.2 * columns, 3.2 * sum(heights) + 1.0)
    with house_style():
        canvas = Figure(figsize=size_in, layout="constrained", facecolor="white")
        axes = canvas.subplots(2, columns, squeeze=False, height_ratios=heights)
        for column, panel in enumerate(figure.panels):
            axes[0, column].set_title(panel.title)
            axes[1, column].set_title(fill(panel.note, 44), size=8, color="#b45309")
            for row, picture in enumerate((panel.axial, panel.surface)):
                axes[row, column].set_axis_off()
                if picture is None:
                    axes[row, column].text(0.5, 0.5, "no prediction", ha="center", va="center", color="#6b7280")
                else:
                    axes[row, column].imshow(picture)
        canvas.suptitle(heading, weight="bold", size=11)
        handles = [Patch(facecolor=organ.colour, label=organ.title) for organ in classes.organs]
        if ignored:
            handles.append(Patch(facecolor="white", edgecolor=IGNORED_COLOUR, hatch=HATCH, label="nobody labelled"))
        in_a_row = 4 if ignored else min(len(handles), 7)
        canvas.legend(handles=handles, loc="outside lower center", ncols=in_a_row, frameon=False)
    return to_bytes(canvas, "png", dpi=150)


def figures_of(report: Report) -> list[OrganFigure]:
    """Figures 2-4; none without a scene."""
    return organ_figures(report.study, report.scene, report.once(scene_views)) if report.scene else []


def _values(report: Report) -> Mapping[str, object] | None:
    scene, gallery = report.scene, report.once(gallery_of)
    if scene is None or gallery is None:
        return None
    organs = report.once(scene_surfaces)
    shown = {tile.name: tile.title for tile in gallery.tiles}
    maps = {shown[name]: of for name, of in organs.items()}
    arms = [tile for tile in gallery.tiles if tile.name != TRUTH]
    best = max(range(len(arms)), key=lambda at: arms[at].percent or 0.0, default=0)
    return {
        "scene": scene,
        "gallery": gallery,
        "shown_seeds": sorted(set(scene.seeds.values())),
        "meshes": packed_maps(maps, report.study.classes, common_box(list(organs.values()))) if arms else None,
        "best": best,
    }


def _files(report: Report) -> Mapping[str, Content]:
    scene, files = report.scene, dict[str, Content]()
    of = f"{scene.case}, slice {scene.slice_index + 1}" if scene else ""
    for figure in report.once(figures_of):
        heading = f"Figure {figure.number}: {figure.title}{report.of_phantom}, {of}"
        name = f"figures/figure{figure.number}_{figure.weighting}.png"
        files[name] = composite_png(figure, heading, report.study.classes, ignored=has_ignored(scene))
    return files


SEGMENTATIONS = Section(
    "segmentations",
    "In 3D",
    _values,
    _files,
    owns=("figures/figure[0-9]*.*",),
    group=Group.REASONS,
    heading="The same case in 3D, as in Figures 2–4 of the paper",
)
