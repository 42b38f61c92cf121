"""What a notebook shows where a cell ends with a scan, a label map, a store, a run or a study: pictures and words.

IPython asks these functions for HTML; the classes themselves know nothing of notebooks. Names are escaped.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from viscera.core.anatomy import ABDOMEN, IGNORED, AnatomicalClass, ClassTable, title_of
from viscera.core.arms import weighting_name
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import HuArray, LabelMap, Volume
from viscera.core.wording import counted
from viscera.drawing.canvas import data_uri, house_style, pixels_to_png, to_bytes, to_pixels
from viscera.drawing.renders import common_box, render_figure, surfaces
from viscera.drawing.slices import WINDOW_HU, LabelView, backdrop, busiest_slice, slice_figure, thinned
from viscera.io.runlog import RunFolder, StudyFolder, read_config
from viscera.io.store import Store
from viscera.study.report.curves_section import figure1
from viscera.study.report.page_section import one_decimal
from viscera.study.report.report_stage import read_study
from viscera.study.results import mean_defined

CASES = 4  # of a store, that are shown
_LONGEST = 256  # pixels of a plane of a scan


def volume_html(volume: Volume) -> str:
    """The three planes through the middle of a scan, abdominal window."""
    scan = volume.canonical()
    middle = [n // 2 for n in scan.hu.shape]
    planes = [np.asarray(scan.hu[:, :, middle[2]]), np.asarray(scan.hu[:, middle[1]]), np.asarray(scan.hu[middle[0]])]
    mm = scan.geometry.spacing_mm
    sizes = [(mm[0], mm[1]), (mm[0], mm[2]), (mm[1], mm[2])]
    with house_style():
        figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor="white")
        axes = figure.subplots(1, 3)
        for each, plane, size, title in zip(axes, planes, sizes, ("axial", "coronal", "sagittal"), strict=True):
            _draw_plane(each, plane, size, title)
    low, high = int(volume.hu.min()), int(volume.hu.max())
    return _shown(
        f"CT scan, {_grid(volume.geometry)}, {low:,} to {high:,} HU", _picture(figure, "three planes of a CT scan")
    )


def _draw_plane(axes: Any, plane: HuArray, size_mm: tuple[float, float], title: str) -> None:  # noqa: ANN401 - matplotlib's
    step = max(1, -(-max(plane.shape) // _LONGEST))
    extent = (plane.shape[0] * size_mm[0], 0, 0, plane.shape[1] * size_mm[1])  # the right on the viewer's left
    if title == "sagittal":
        extent = (0, plane.shape[0] * size_mm[0], 0, plane.shape[1] * size_mm[1])
    low, high = WINDOW_HU
    shown = plane[::step, ::step].T
    axes.imshow(shown, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def label_map_html(label_map: LabelMap) -> str:
    """The organs in 3D, and the volume of each. A label map has numbers alone: to 7 they are named as the paper's."""
    canonical = label_map.canonical()
    counts = np.bincount(np.asarray(canonical.labels).ravel(), minlength=IGNORED + 1)
    numbers = [int(number) for number in np.flatnonzero(counts[:IGNORED]) if number]
    table, named = ABDOMEN, "Named as the paper's classes; a label map itself has numbers alone."
    if max(numbers, default=0) >= len(ABDOMEN):
        names = ["background", *(f"class_{number}" for number in range(1, max(numbers) + 1))]
        table, named = ClassTable.of_names(names), "A label map has numbers alone."
    if counts[IGNORED]:
        named += " Nobody labelled a part of it. Volumes are of what is labelled."
    organs = surfaces(thinned(canonical), table)
    picture = _picture(render_figure(organs, common_box([organs])), "organs in 3D, from the front")
    ml_of_a_voxel = float(np.prod(label_map.geometry.spacing_mm)) / 1000
    rows = [(_named(table.classes[number]), f"{counts[number] * ml_of_a_voxel:,.0f} mL") for number in numbers]
    return _shown(f"Label map, {_grid(label_map.geometry)}", picture, _table(("organ", "volume"), rows), named)


def store_html(store: Store) -> str:
    """How many cases there are, voxels of each class, and some cases with their labels."""
    splits = {split: len(store.names(split)) for split in ("train", "validation", "test")}
    counts = store.voxel_counts() if splits["train"] else np.zeros(len(store.classes), int)
    rows = [(_named(each), f"{count:,}") for each, count in zip(store.classes.classes, counts, strict=True)]
    pictures = [_case_picture(store, name) for name in store.names()[:CASES]]
    told = ", ".join(f"{number} {split}" for split, number in splits.items())
    return _shown(
        f"Store {escape(str(store.path))}: {told}", "".join(pictures), _table(("class", "training voxels"), rows)
    )


def _case_picture(store: Store, name: str) -> str:
    labels = store.label_map(name).canonical()
    index = busiest_slice(labels)
    view = LabelView.of(labels, index)
    figure = slice_figure(
        backdrop(store.volume(name).canonical(), labels.geometry, index), view.axial, view.spacing_mm, store.classes
    )
    picture = data_uri(pixels_to_png(to_pixels(figure, 60)), "png")
    title = escape(name)
    shown = f'<img src="{picture}" alt="{title}, axial slice with organs in colour"><figcaption>{title}</figcaption>'
    return f'<figure style="display:inline-block;margin:4px">{shown}</figure>'


def run_html(run: RunFolder) -> str:
    """How far a training is, and its learning curve."""
    status, curve = run.read_status(), run.read_curve()
    if status is None:
        return _shown(f"Run {escape(str(run.path))}: not begun")
    config = read_config(run.config_path).train
    told = f"step {status.step:,} of {status.iterations:,}, {status.state}"
    network = f"patch {config.patch}, {config.filters} filters"
    what = f"{escape(weighting_name(config.weighting))} weighting, rate {config.learning_rate:g}, {network}"
    with house_style():
        figure = Figure(figsize=(7.5, 2.6), layout="constrained", facecolor="white")
        dice, loss = figure.subplots(1, 2)
        for key, label, style in (("dice", "training patches", "-"), ("validation_dice", "validation cases", "o--")):
            points = [(line["step"], mean) for line in curve if (mean := _foreground(line.get(key))) is not None]
            if points:
                dice.plot(*zip(*points, strict=True), style, label=label, ms=4)
        dice.set(ylim=(0, 1), xlabel="step", ylabel="mean foreground Dice")
        if dice.lines:
            dice.legend(fontsize=8)
        loss.plot([line["step"] for line in curve], [line["loss"] for line in curve])
        loss.set(xlabel="step", ylabel="loss")
    return _shown(f"Run {escape(str(run.path))}: {told}", _picture(figure, "learning curve"), what)


def _foreground(dice: Mapping[str, float | None] | None) -> float | None:
    return mean_defined(value for name, value in (dice or {}).items() if name != "background")


def study_html(study: StudyFolder) -> str:
    """Table 1 and the learning curves of all arms."""
    found = read_study(study.path)
    titles = {arm.name: arm.title for arm in found.arms}
    parts, on_test = [], dict[str, float]()
    if found.grids:
        percent = found.percent(found.grids[0])
        means = zip(percent.columns, percent.loc["FOREGROUND"].to_numpy(float), strict=True)
        on_test = {str(arm): float(mean) / 100 for arm, mean in means if not np.isnan(mean)}
        rows = [(escape(title_of(name)), *map(one_decimal, percent.loc[name])) for name in percent.index]
        parts.append(_table(("class", *(titles.get(arm, arm) for arm in percent.columns)), rows))
    parts.append(_picture(figure1(found, on_test), "learning curves of all arms"))
    done = sum(run.counts for run in found.runs)
    what = f"{done} of {counted(len(found.runs), 'model')} finished and scored; mean Dice on the test cases, per cent"
    of_phantom = " (phantom)" if found.phantom else ""
    return _shown(f"Study {escape(str(study.path))}{of_phantom}: {what}", *parts)


DISPLAYS: Mapping[type, Callable[[Any], str]] = {
    Volume: volume_html,
    LabelMap: label_map_html,
    Store: store_html,
    RunFolder: run_html,
    StudyFolder: study_html,
}


def html_of(artifact: object) -> str:
    """Whichever of these it is; what is wrong with its files is said in its place."""
    try:
        return DISPLAYS[type(artifact)](artifact)
    except BadInputError as error:
        return _shown(escape(str(error)))


def _shown(heading: str, *parts: str) -> str:
    return f"<div><p><b>{heading}</b></p>{''.join(f'<div>{part}</div>' for part in parts)}</div>"


def _picture(figure: Figure, alt: str) -> str:
    return f'<img src="{data_uri(to_bytes(figure, "png", 90), "png")}" alt="{escape(alt)}">'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(each)}</th>" for each in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _named(each: AnatomicalClass) -> str:
    """A class by its colour and title, as a cell."""
    box = "display:inline-block;width:0.8em;height:0.8em;margin-right:0.4em"
    return f'<span style="{box};background:{each.colour}"></span>{escape(each.title)}'


def _grid(geometry: Geometry) -> str:
    shape, mm = "×".join(map(str, geometry.shape)), "×".join(f"{each:g}" for each in np.round(geometry.spacing_mm, 3))
    return f"{shape} voxels of {mm} mm"
