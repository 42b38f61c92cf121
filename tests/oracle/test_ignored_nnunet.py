"""What nnU-Net and MONAI make of voxels that nobody labelled; nnU-Net's in its own environment, `.venv-bench`."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bench_environment import lines_of, needs_nnunet
from tests.layout_examples import save_labels
from viscera.core.anatomy import CLASS_NAMES, IGNORED
from viscera.core.config import EvaluateConfig
from viscera.plugins.monai import MonaiDiceLoss
from viscera.stages.evaluate import evaluate

COMPUTE_METRICS = """
import json, sys
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager

manager = LabelManager(json.load(open(sys.argv[1] + "/r/dataset.json"))["labels"], None)
names = ("a", "b")
found = [compute_metrics(*(f"{sys.argv[1]}/{kind}/{name}.nii.gz" for kind in "rp"), NibabelIO(),
                         manager.foreground_labels, manager.ignore_label) for name in names]
print(json.dumps([{str(label): {key: float(value) for key, value in of.items()}
                   for label, of in case["metrics"].items()} for case in found]))
"""


@pytest.mark.slow
@needs_nnunet
def test_the_summary_has_nnunets_values(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    for name in ("a", "b"):
        for kind, numbers in (("p", 8), ("r", 9)):  # 8 is ignored; case b has no gallbladder
            labels = random.integers(0, numbers, (11, 9, 7)).astype(np.uint8)
            labels[labels == 6] = 6 * (name == "a")
            save_labels(tmp_path / kind / f"{name}.nii.gz", labels, np.diag([2.0, 1, 3, 1]))
    table = {"labels": {**{name: number for number, name in enumerate(CLASS_NAMES)}, "ignore": 8}}
    (tmp_path / "r" / "dataset.json").write_text(json.dumps(table))
    evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", EvaluateConfig(), summary=tmp_path / "ours.json")
    ours = [case["metrics"] for case in json.loads((tmp_path / "ours.json").read_text())["metric_per_case"]]
    folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "x")
    theirs = json.loads(lines_of(COMPUTE_METRICS, tmp_path, **folders)[-1])
    assert ours[0].keys() == theirs[0].keys()
    for mine, nnunets in zip(ours, theirs, strict=True):
        for label, values in nnunets.items():
            assert mine[label] == pytest.approx(values, nan_ok=True, rel=1e-12)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 1e-5])
def test_the_dice_loss_is_monais(batch: bool, smoothing: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monai_losses = pytest.importorskip(
            "monai.losses", reason="MONAI is not installed: pip install 'viscera[oracle]'"
        )
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 8, 5, 4, 6, generator=random, dtype=torch.float64)
    labels = torch.randint(0, 8, (2, 1, 5, 4, 6), generator=random)
    labels[torch.rand(labels.shape, generator=random) < 0.4] = IGNORED
    options: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "batch": batch, "ignore_index": IGNORED}
    options |= {"smooth_nr": smoothing, "smooth_dr": smoothing}
    gradients = []
    for loss, minus in ((monai_losses.DiceLoss(**options), 1), (MonaiDiceLoss(np.ones(8), **options), 0)):
        given = logits.clone().requires_grad_()
        value = loss(given, labels)
        gradients.append((value.item() - minus, torch.autograd.grad(value, given)[0]))
    assert gradients[1][0] == pytest.approx(gradients[0][0], rel=1e-9)
    torch.testing.assert_close(gradients[1][1], gradients[0][1], rtol=1e-7, atol=1e-12)
