"""How a run is applied: windows, grid, and what is mended in the label map."""

from typing import Literal

from pydantic import Field

from viscera.core.settings import AxisNames, Fraction, Positive, Settings, setting


class CleanupConfig(Settings):
    """What is mended in a label map, organ by organ (docs/metrics.md)."""

    largest_component: tuple[str, ...] = setting((), "organs reduced to their largest component: names, or all")
    fill_holes: tuple[str, ...] = setting((), "organs that take the background which they enclose: names, or all")


class PredictConfig(Settings):
    """From a Run and a scan to a label map on the scan's own grid."""

    mode: Literal["auto", "sub_volumes", "whole_volume"] = setting(
        "auto",
        "auto: few large windows, as memory allows, without the air around (without batch norm: sub_volumes); "
        "sub_volumes: windows of the training's size; whole_volume: one pass",
    )
    overlap: Fraction = setting(0.5, "sub_volumes: share of its edge that a window shares with the next")
    blend: Literal["gaussian", "constant"] = setting("gaussian", "sub_volumes: weight of a window's voxels in the mean")
    mirror_axes: AxisNames = setting(
        (), "axes R, A, S over whose mirror images probabilities are averaged: each doubles the time (nnU-Net: all)"
    )
    grid: Literal["auto", "prepared", "spacing"] = setting(
        "auto",
        "prepared: downsample as for training; spacing: resample to the median training spacing; "
        "auto: prepared, unless that is more than 1.5 times finer or coarser than the training scans",
    )
    restore: Literal["probabilities", "labels"] = setting(
        "probabilities", "what is brought back to the scan's grid: interpolated probabilities, or labels"
    )
    checkpoint: Literal["last", "best"] = setting("last", "last.pt, or best.pt (picked on validation)")
    batch_windows: Positive = setting(4, "windows in one forward pass", role="machine")
    cleanup: CleanupConfig = Field(default_factory=CleanupConfig)
