"""How a run is applied: windows, grid, and what is mended in the label map."""

from typing import Literal

from pydantic import Field

from viscera.core.settings import AxisNames, Fraction, Positive, Settings, setting


class CleanupConfig(Settings):
    """What is mended in a label map, organ by organ (docs/metrics.md)."""

    largest_component: tuple[str, ...] = setting(
        (), "organs of which only the largest component is kept: names, or all"
    )
    fill_holes: tuple[str, ...] = setting((), "organs whose enclosed background is filled: names, or all")


class PredictConfig(Settings):
    """From a Run and a scan to a label map on the scan's own grid."""

    mode: Literal["auto", "sub_volumes", "whole_volume"] = setting(
        "auto",
        "auto: few large sub-volumes, as memory allows, without the air around the body (without batch norm: "
        "sub_volumes); sub_volumes: of the training patch's size; whole_volume: one pass",
    )
    overlap: Fraction = setting(0.5, "sub_volumes: share of the edge by which neighbouring sub-volumes overlap")
    blend: Literal["gaussian", "constant"] = setting(
        "gaussian", "sub_volumes: weight of the voxels of each in the mean of those that overlap"
    )
    mirror_axes: AxisNames = setting(
        (),
        "axes R, A, S along which the scan is also mirrored, to average the probabilities: each doubles the time "
        "(nnU-Net: all)",
    )
    grid: Literal["auto", "prepared", "spacing"] = setting(
        "auto",
        "prepared: downsample as for training; spacing: resample to the median training spacing; "
        "auto: prepared, unless that is more than 1.5 times finer or coarser than the training scans",
    )
    restore: Literal["probabilities", "labels"] = setting(
        "probabilities", "what is resampled to the scan's grid: probabilities, by interpolation, or labels"
    )
    checkpoint: Literal["last", "best"] = setting(
        "last", "last: last.pt; best: best.pt, chosen on the validation cases"
    )
    batch_windows: Positive = setting(4, "sub-volumes in one forward pass", role="machine")
    cleanup: CleanupConfig = Field(default_factory=CleanupConfig)
