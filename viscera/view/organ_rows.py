"""The table beside the pictures: of each organ in each label map of a case its volume, HU, Dice and flags."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import IGNORED, AnatomicalClass, ClassTable
from viscera.core.scan import LabelArray, LabelMap
from viscera.metrics.overlap import as_labelled, confusion_matrix, dice
from viscera.view.case_images import CaseImages
from viscera.view.gallery import LabelLayer

_KINDS = 3  # of voxels that differ
_SHARE = 85  # numbers that each kind has in a byte
MISSED, EXTRA, OTHER = range(_KINDS)


def organ_table(images: CaseImages, number: int, layer: int) -> list[dict[str, Any]]:
    """One row an organ: label, volume in mL, mean HU, Dice against the reference, reasons to look at it.

    `in_part`: whether nobody labelled a part of the map, and volumes are of what is labelled.

    Voxels are counted here; HU and reasons are those that `predict` wrote, None and empty where it did not. Dice is
    that of the table of scores where one was given that is not older than the label map, else worked out; None where it
    is undefined or not known.
    """
    case, classes = images.case(number), images.gallery.classes
    shown = images.labels(number, layer)
    layers = case.layers
    truth = next((at for at, each in enumerate(layers) if each.role == "reference"), None)
    scored: Mapping[str, float | None] = layers[layer].dice
    is_old = not scored or layers[layer].is_newer_than_dice
    if layers[layer].role != "reference" and truth is not None and is_old:
        scored = _scored(shown, images.labels(number, truth), layers[truth], classes)
    counts = shown.voxel_counts(len(classes))
    voxel_ml = shown.geometry.voxel_volume_ml
    rows = (_row(organ, int(counts[organ.label]) * voxel_ml, layers[layer], scored) for organ in classes.organs)
    in_part = shown.ignored > 0
    return [row | {"in_part": in_part} for row in rows]


def _row(
    organ: AnatomicalClass, volume_ml: float, layer: LabelLayer, scored: Mapping[str, float | None]
) -> dict[str, Any]:
    measured = layer.measured.get(organ.name)
    return {
        "label": organ.label,
        "volume_ml": round(volume_ml, 3),
        "mean_hu": measured.facts.mean_hu if measured else None,
        "confidence": measured.facts.confidence if measured else None,
        "dice": scored.get(organ.name),
        "reasons": list(measured.reasons) if measured else [],
        "unlabelled": organ.name in layer.unlabelled,
    }


def _scored(prediction: LabelMap, truth: LabelMap, layer: LabelLayer, classes: ClassTable) -> dict[str, float | None]:
    """Eq. 1 of each organ that the truth labels."""
    labelled = np.array([name not in layer.unlabelled for name in classes.names])
    labels = prediction.labels if labelled.all() else as_labelled(prediction.labels, labelled)
    values = dice(confusion_matrix(labels, truth.labels, len(classes)))
    return {c.name: values[c.label] for c in classes.organs if labelled[c.label]}


def difference(prediction: LabelMap, truth: LabelMap, layer: LabelLayer, classes: ClassTable) -> LabelArray:
    """Where a label map differs from the truth, as one byte a voxel: 85 times the kind, plus the organ's label.

    Kinds: 0, the organ is missed; 1, it is labelled where the truth has none; 2, the truth has another organ there. 0
    where both agree, and where nobody labelled the voxel. Of more than 84 organs the label is always 84: the kinds are
    told apart, the organs are not.
    """
    labelled = np.array([name not in layer.unlabelled for name in classes.names])
    found = prediction.labels if labelled.all() else as_labelled(prediction.labels, labelled)
    short = np.minimum(np.arange(256), _SHARE - 1).astype(np.uint8)
    codes = np.zeros(found.shape, dtype=np.uint8, order="F")
    for k in range(found.shape[2]):
        codes[:, :, k] = _codes(found[:, :, k], truth.labels[:, :, k], short)
    return codes


def _codes(found: LabelArray, true: LabelArray, short: npt.NDArray[np.uint8]) -> LabelArray:
    differs = (found != true) & (true != IGNORED)
    kind = np.where(found == 0, MISSED, np.where(true == 0, EXTRA, OTHER)).astype(np.uint8)
    organ = np.where(found == 0, short[true], short[found])
    return np.where(differs, kind * np.uint8(_SHARE) + organ, 0).astype(np.uint8)
