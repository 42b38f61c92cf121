"""Things show themselves in a line, and what is given in place of a scan gets a sentence that helps."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import viscera
from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.io.checkpoint import load_checkpoint
from viscera.io.nifti import read_labels
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.metrics.scoring import score

GRID = Geometry.from_spacing((4, 3, 2), (8, 8, 8))


def label_map(classes: ClassTable | None = ABDOMEN) -> LabelMap:
    labels = np.zeros((4, 3, 2), np.uint8)
    labels[0], labels[1, 0, 0] = 3, 4
    return LabelMap(labels, GRID, classes)


def test_scans_and_labels_say_their_grid_and_what_is_in_them() -> None:
    volume = Volume(np.arange(-12, 12, dtype=np.int16).reshape(4, 3, 2), GRID)
    assert repr(volume) == "Volume(4×3×2, 8 mm, RAS, -12 to 11 HU)"
    assert repr(label_map()) == "LabelMap(4×3×2, 8 mm, RAS, liver 6, spleen 1)"
    assert repr(label_map(None)) == "LabelMap(4×3×2, 8 mm, RAS, label 3 6, label 4 1)"
    assert repr(Geometry.from_spacing((4, 3, 2), (1, 1, 2.5))) == "Geometry(4×3×2, 1×1×2.5 mm, RAS)"
    many = LabelMap(np.arange(24, dtype=np.uint8).reshape(4, 3, 2) % 8, GRID, ABDOMEN)
    assert repr(many).endswith("artery 3, portal vein 3, liver 3, …)")
    assert repr(LabelMap(np.zeros((4, 3, 2), np.uint8), GRID)).endswith("no organ)")


def test_artifacts_say_what_they_are(tiny_run: Path, tiny_store: Store) -> None:
    assert repr(viscera.Predictor.load(tiny_run)) == "Predictor(step 6, 8 classes, cpu, 2×2×2.5 mm)"
    assert repr(tiny_store) == f"Store({tiny_store.path}, 6 cases: 4 train, 1 validation, 1 test; 8 classes)"
    assert repr(RunFolder(tiny_run)) == f"RunFolder({tiny_run}, finished, step 6 of 6)"
    assert repr(RunFolder(tiny_run / "nothing")) == f"RunFolder({tiny_run / 'nothing'})"
    assert len(repr(load_checkpoint(tiny_run / "last.pt"))) < 100


def test_signatures_fit_a_screen() -> None:
    for name in ("class_weights", "WeightedDiceLoss", "read_labels", "read_volume", "score", "UNet3D", "LabelMap"):
        assert len(str(inspect.signature(getattr(viscera, name)))) < 500, name


def test_a_label_map_is_saved_on_its_own_grid(tmp_path: Path) -> None:
    path = label_map().save(tmp_path / "a.nii.gz")
    again = read_labels(path)
    assert np.array_equal(again.labels, label_map().labels)
    assert again.geometry.same_grid(GRID)
    assert repr(again) == repr(label_map())
    with pytest.raises(BadInputError, match=r"ends in \.nii or \.nii\.gz was expected"):
        label_map().save(str(tmp_path / "a.png"))


def test_scores_become_a_frame() -> None:
    scores = score(label_map(), label_map(), metrics=("dice", "volume_ml"))
    frame = scores.frame()
    assert frame.loc["liver", "dice"] == 1
    assert bool(frame["dice"].isna()["pancreas"])
    assert list(frame.columns) == ["dice", "volume_ml", "reference_volume_ml"]
    assert isinstance(scores, list)


def test_what_is_no_scan_is_told_with_what_makes_one(tiny_run: Path, tmp_path: Path) -> None:
    predictor = viscera.Predictor.load(tiny_run)
    with pytest.raises(BadTypeError, match=r"ndarray, and a Volume was expected\. An array alone has no voxel size"):
        predictor(np.zeros((4, 4, 4), np.int16))  # type: ignore[arg-type]
    with pytest.raises(BadTypeError, match=r"Read it: viscera\.read_volume\('ct\.nii'\)"):
        predictor("ct.nii")  # type: ignore[arg-type]
    with pytest.raises(BadTypeError, match=r"prediction: .*Path, and a LabelMap was expected\. Read it: .*read_labels"):
        score(tmp_path / "a.nii", label_map())  # type: ignore[arg-type]
    with pytest.raises(BadTypeError, match="reference: NoneType, and a LabelMap was expected"):
        score(label_map(), None)  # type: ignore[arg-type]


def test_one_hot_labels_get_a_hint() -> None:
    loss, logits = viscera.WeightedDiceLoss(np.ones(3)), torch.zeros(2, 3, 4, 4, 4)
    with pytest.raises(BadInputError, match=r"class numbers by labels\.argmax\(1\)"):
        loss(logits, torch.zeros(2, 3, 4, 4, 4, dtype=torch.uint8))
    with pytest.raises(BadInputError, match=r"class numbers by labels\.argmax\(-1\)"):
        loss(logits, torch.zeros(2, 4, 4, 4, 3, dtype=torch.uint8))
    with pytest.raises(BadInputError, match=r"Add the batch axis: labels\[None\]"):
        loss(logits, torch.zeros(4, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((1, 8, 8, 8), r"It has 4 axes, and 5 were expected \(batch, 1 channel, I, J, K\)\. Add the batch axis"),
        ((2, 8, 8, 8), r"Add the channel axis: x\.unsqueeze\(1\)"),
        ((8, 8, 8), r"It has 3 axes, and 5 were expected .* Add two: x\[None, None\]"),
        ((1, 2, 8, 8, 8), r"The axes are batch, 1 channel, I, J, K"),
    ],
)
def test_an_input_of_other_axes_is_told_in_words(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(BadInputError, match=hint):
        viscera.UNet3D(base_filters=2, levels=2)(torch.zeros(shape))
