"""What is looked at in one labelled scan before anyone trains on it."""

from dataclasses import dataclass

from viscera.metrics.hounsfield import HuFacts

Point = tuple[float, float, float]
NO_TISSUE_BELOW_HU = -200
SPECK_ML = 0.05  # smaller pieces of an organ are no more than a few voxels of rough edge


@dataclass(frozen=True)
class Stray:
    """A piece of an organ apart from its largest one.

    Attributes:
        volume_ml: of the piece.
        gap_mm: between the bounding boxes of both; 0 where these meet.
        centre_mm: of the piece's bounding box, RAS+.
        at_edge: whether it touches a face of the scan, which may be why it is apart.
    """

    volume_ml: float
    gap_mm: float
    centre_mm: Point
    at_edge: bool


@dataclass(frozen=True)
class LabelledOrgan:
    """One organ that is in a label map.

    Attributes:
        name: of its class.
        volume_ml: above 0.
        mean_hu: over its voxels.
        in_air: share of its voxels below -200 HU.
        centre_mm: centre of mass, RAS+.
        inside_mm: its voxel nearest to the centre of mass.
        air_mm: its voxel in air nearest to the centre of all those; None where there is none.
        edges: faces of the scan that it touches, as in `RLAPSI`.
        pieces: connected components, 26 neighbours.
        largest_piece: share of its voxels.
        stray: the piece furthest from the largest one, of those that are no mere specks; else the second largest.
    """

    name: str
    volume_ml: float
    mean_hu: float
    in_air: float
    centre_mm: Point
    inside_mm: Point
    air_mm: Point | None
    edges: str
    pieces: int
    largest_piece: float
    stray: Stray | None


@dataclass(frozen=True)
class OverlapFacts:
    """Where the mask of an organ lies in that of another, which keeps the voxels.

    Attributes:
        organ, kept_by: names of the classes.
        volume_ml: in both.
        share: of the organ's mask.
        inside_mm: the voxel nearest to the middle of the overlap, RAS+.
    """

    organ: str
    kept_by: str
    volume_ml: float
    share: float
    inside_mm: Point


@dataclass(frozen=True)
class CaseFacts:
    """One labelled scan; `shape` and `spacing_mm` run to the right, to the front and up.

    Attributes:
        case: its name.
        shape: voxels.
        spacing_mm: of neighbouring voxels.
        orientation: of the file's axes, for example `LPS`.
        centre_mm: of the grid, RAS+.
        hu: of the scan.
        organs: those that are in the label map, in label order.
        overlaps: of the masks that the labels were made of.
        labelled: names of the classes that the case is labelled for.
        image_sha256: of voxels and shape, in canonical order; the header does not count.
        labels_sha256: likewise.
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    centre_mm: Point
    hu: HuFacts
    organs: tuple[LabelledOrgan, ...]
    overlaps: tuple[OverlapFacts, ...]
    labelled: tuple[str, ...]
    image_sha256: str
    labels_sha256: str

    def organ(self, name: str) -> LabelledOrgan | None:
        """The organ of a name; None where it is not there."""
        return next((organ for organ in self.organs if organ.name == name), None)
