"""The loss against MONAI's DiceLoss, where the two coincide.

MONAI's is 1 - Dice, ours is -Dice: they differ by 1, then by the weights. MONAI reduces over a sub-volume unless
batch=True, and adds 1e-5 to numerator and denominator unless told otherwise. Its GeneralizedDiceLoss has weightings of
the same names, but takes the volumes of each batch, so there the two do not coincide.
"""

import warnings

import pytest
import torch

import viscera

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai_losses = pytest.importorskip("monai.losses", reason="MONAI is not installed: pip install 'viscera[oracle]'")

torch.manual_seed(3)
LOGITS = torch.randn(3, 8, 6, 6, 6, dtype=torch.float64)
LABELS = torch.randint(0, 8, (3, 1, 6, 6, 6))
WEIGHTS = torch.linspace(0.5, 4, 8, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 1e-5])
@pytest.mark.parametrize("sums", ["batch", "sub_volume"])
def test_unweighted_loss_is_monais_minus_one(sums: str, smoothing: float) -> None:
    monai_loss = monai_losses.DiceLoss(
        to_onehot_y=True, softmax=True, batch=sums == "batch", smooth_nr=smoothing, smooth_dr=smoothing
    )
    ours = viscera.WeightedDiceLoss(torch.ones(8), sums=sums, smoothing=smoothing)  # type: ignore[arg-type]
    assert ours(LOGITS, LABELS).item() == pytest.approx(monai_loss(LOGITS, LABELS).item() - 1, rel=1e-12)


def test_weighted_loss_is_monais_minus_the_mean_weight() -> None:
    monai_loss = monai_losses.DiceLoss(
        to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0, weight=WEIGHTS
    )
    ours = viscera.WeightedDiceLoss(WEIGHTS)(LOGITS, LABELS)
    assert ours.item() == pytest.approx(monai_loss(LOGITS, LABELS).item() - WEIGHTS.mean().item(), rel=1e-12)


def test_gradients_are_the_same() -> None:
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    viscera.WeightedDiceLoss(WEIGHTS)(ours, LABELS).backward()
    monai_losses.DiceLoss(to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0, weight=WEIGHTS)(
        theirs, LABELS
    ).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)
