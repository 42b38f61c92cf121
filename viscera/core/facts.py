"""What is measured of an organ, and travels with a prediction."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OrganFacts:
    """What was measured of one organ in one label map.

    Attributes:
        volume_ml: 0 where it is absent.
        mean_hu, sd_hu: over its voxels (of the population); None where it is absent.
        cut_off: whether it touches the edge of the scan.
        large_fragments: connected components that hold a tenth of the volume or more.
        confidence: mean over its voxels of its probability, 0 to 1; None: not known, or absent.
        voxels: their number.
        box_mm: lowest and highest R, A, S in mm of the box around its voxels; None where it is absent.
        box: first and last I, J, K of its voxels, from 0, in the order of the label map; None where it is absent.
        pieces: connected components (26 neighbours).
        largest_piece: share of its voxels; None where it is absent.
    """

    volume_ml: float
    mean_hu: float | None
    cut_off: bool
    large_fragments: int
    confidence: float | None = None
    sd_hu: float | None = None
    voxels: int = 0
    box_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    box: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    pieces: int = 0
    largest_piece: float | None = None
