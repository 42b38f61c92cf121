"""What is looked at in one labelled scan before anyone trains on it: measured once, in little extra memory."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from viscera.core.anatomy import IGNORED, ClassTable
from viscera.core.geometry import Geometry, Point
from viscera.core.regions import EMPTY, Box, Mask, borders_on, boxes_of, central_voxel
from viscera.core.scan import Case, HuArray, LabelArray
from viscera.io.records import read_csv
from viscera.metrics.hounsfield import HuFacts, hu_facts

NO_TISSUE_BELOW_HU = -200
SPECK_ML = 0.05  # smaller pieces of an organ are no more than a few voxels of rough edge


@dataclass(frozen=True)
class AdultVolume:
    """A range of one organ's volume for catching mistakes in labels and headers: outside means unusual, not wrong.

    It is far wider than the normal one, so that common disease stays inside; children are smaller.
    """

    low_ml: float  # smaller or larger ones are called unusual
    high_ml: float
    published: str  # what was measured, in words
    source: str  # where that stands


ADULT_VOLUMES: dict[str, AdultVolume] = {
    row["organ"]: AdultVolume(float(row["low_ml"]), float(row["high_ml"]), row["published"], row["source"])
    for row in read_csv(Path(__file__).with_name("adult_volumes.csv"))
}


@dataclass(frozen=True)
class Stray:
    """A piece of an organ apart from its largest one."""

    volume_ml: float  # of the piece
    gap_mm: float  # between the bounding boxes of both; 0 where these meet
    centre_mm: Point  # of the piece's bounding box, RAS+
    at_edge: bool  # whether it touches a face of the scan, which may be why it is apart


@dataclass(frozen=True)
class LabelledOrgan:
    """One organ that is in a label map."""

    name: str  # of its class
    volume_ml: float  # above 0
    mean_hu: float  # over its voxels
    in_air: float  # share of its voxels below -200 HU
    centre_mm: Point  # centre of mass, RAS+
    inside_mm: Point  # its voxel nearest to the centre of mass
    air_mm: Point | None  # its voxel in air nearest to the centre of all those; None where there is none
    edges: str  # faces of the scan that it touches, as in `RLAPSI`
    pieces: int  # connected components, 26 neighbours
    largest_piece: float  # share of its voxels
    # the piece furthest from the largest one, of those that are no mere specks; else the second largest
    stray: Stray | None
    beside_ignored: bool = False  # whether it touches voxels that nobody labelled, and may go on in them

    @property
    def may_go_on(self) -> bool:
        """Whether more of it may lie beyond the edge of the scan, or where nobody labelled."""
        return bool(self.edges) or self.beside_ignored

    @property
    def unusual(self) -> Literal["small", "large", ""]:
        """Whether an adult's organ is seldom like this; one of which more may be there is never called small."""
        usual = ADULT_VOLUMES.get(self.name)
        if usual is not None and self.volume_ml > usual.high_ml:
            return "large"
        return "small" if usual is not None and self.volume_ml < usual.low_ml and not self.may_go_on else ""


@dataclass(frozen=True)
class OverlapFacts:
    """Where the mask of an organ lies in that of another, which keeps the voxels."""

    organ: str  # name of its class
    kept_by: str  # likewise
    volume_ml: float  # in both
    share: float  # of the organ's mask
    inside_mm: Point  # the voxel nearest to the middle of the overlap, RAS+


@dataclass(frozen=True)
class CaseFacts:
    """One labelled scan; `shape` and `spacing_mm` run to the right, to the front and up."""

    case: str  # its name
    shape: tuple[int, int, int]  # voxels
    spacing_mm: tuple[float, float, float]  # of neighbouring voxels
    orientation: str  # of the file's axes, for example `LPS`
    centre_mm: Point  # of the grid, RAS+
    hu: HuFacts  # of the scan
    organs: tuple[LabelledOrgan, ...]  # those that are in the label map, in label order
    overlaps: tuple[OverlapFacts, ...]  # of the masks that the labels were made of
    labelled: tuple[str, ...]  # names of the classes that the case is labelled for
    image_sha256: str  # of voxels and shape, in canonical order; the header does not count
    labels_sha256: str  # likewise
    ignored: int = 0  # voxels that nobody labelled: of no organ, and no background

    def organ(self, name: str) -> LabelledOrgan | None:
        """The organ of a name; None where it is not there."""
        return next((organ for organ in self.organs if organ.name == name), None)


def measure_case(case: Case, table: ClassTable) -> CaseFacts:
    """Everything that the check looks at in one case on the files' own grid, any orientation."""
    volume, label_map = case.volume.canonical(), case.label_map.canonical()
    geometry, voxel_ml = volume.geometry, case.label_map.geometry.voxel_volume_ml
    names, boxes, ignored = table.names, boxes_of(label_map.labels, len(table))[1:], label_map.ignored
    return CaseFacts(
        case=case.name,
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        orientation=case.volume.geometry.orientation,
        centre_mm=geometry.to_mm((np.array(geometry.shape) - 1) / 2),
        hu=hu_facts(volume.hu),
        organs=tuple(
            replace(
                _organ(organ.name, volume.hu[box], label_map.labels[box] == organ.label, box, geometry),
                beside_ignored=ignored > 0 and borders_on(label_map.labels, organ.label, box, IGNORED),
            )
            for organ, box in zip(table.organs, boxes, strict=True)
            if box != EMPTY
        ),
        overlaps=tuple(
            OverlapFacts(names[each.lost], names[each.kept], each.voxels * voxel_ml, each.share, each.inside_mm)
            for each in case.overlaps
        ),
        labelled=tuple(organ.name for organ in table.organs if organ.name not in case.unlabelled),
        image_sha256=_sha256(volume.hu),
        labels_sha256=_sha256(label_map.labels),
        ignored=ignored,
    )


def _sha256(array: HuArray | LabelArray) -> str:
    digest = hashlib.sha256(repr((array.shape, str(array.dtype))).encode())
    for plane in np.moveaxis(array, 2, 0):
        digest.update(np.ascontiguousarray(plane.T).data)
    return digest.hexdigest()


def _organ(name: str, hu: HuArray, mask: Mask, box: Box, geometry: Geometry) -> LabelledOrgan:
    first = np.array([axis.start for axis in box])
    values = hu[mask]
    air = mask & (hu < NO_TISSUE_BELOW_HU)
    numbered, pieces = ndimage.label(mask, np.ones((3, 3, 3)))  # 26 neighbours
    low = "".join(side for side, axis in zip("LPI", box, strict=True) if axis.start == 0)
    high = "".join(side for side, axis, n in zip("RAS", box, geometry.shape, strict=True) if axis.stop == n)
    largest, stray = (1.0, None) if pieces == 1 else _apart(numbered, first, geometry)
    return LabelledOrgan(
        name=name,
        volume_ml=values.size * geometry.voxel_volume_ml,
        mean_hu=float(values.mean(dtype=np.float64)),
        in_air=float((values < NO_TISSUE_BELOW_HU).mean()),
        centre_mm=geometry.to_mm(first + np.array(ndimage.center_of_mass(mask))),
        inside_mm=geometry.to_mm(first + central_voxel(mask)),
        air_mm=geometry.to_mm(first + central_voxel(air)) if air.any() else None,
        edges=low + high,
        pieces=pieces,
        largest_piece=largest,
        stray=stray,
    )


def _apart(
    numbered: npt.NDArray[np.signedinteger], first: npt.NDArray[np.intp], geometry: Geometry
) -> tuple[float, Stray]:
    """Share of the largest of several numbered pieces, and the one that is furthest from it."""
    voxels = np.bincount(numbered.ravel())[1:]
    boxes = ndimage.find_objects(numbered)
    low = first + [[axis.start for axis in box] for box in boxes]
    high = first + [[axis.stop for axis in box] for box in boxes]
    largest = int(voxels.argmax())
    apart = np.maximum(low - high[largest], low[largest] - high).clip(min=0)
    gap_mm = np.linalg.norm(apart * np.array(geometry.spacing_mm), axis=1)
    volume_ml = voxels * geometry.voxel_volume_ml
    others = np.delete(np.arange(len(voxels)), largest)
    chosen = max(others, key=lambda each: (volume_ml[each] >= SPECK_ML, gap_mm[each], voxels[each]))
    stray = Stray(
        volume_ml=float(volume_ml[chosen]),
        gap_mm=float(gap_mm[chosen]),
        centre_mm=geometry.to_mm((low[chosen] + high[chosen] - 1) / 2),
        at_edge=bool((low[chosen] == 0).any() or (high[chosen] == geometry.shape).any()),
    )
    return float(voxels[largest] / voxels.sum()), stray
