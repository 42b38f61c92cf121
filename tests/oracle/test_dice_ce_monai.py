"""Dice with cross-entropy against MONAI's DiceCELoss, which takes 1 - Dice and the same class weights for both."""

import warnings

import pytest
import torch

from viscera.losses.dice import DiceAndCrossEntropyLoss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai_losses = pytest.importorskip("monai.losses", reason="MONAI is not installed: pip install 'viscera[oracle]'")

torch.manual_seed(3)
LOGITS = torch.randn(3, 8, 6, 6, 6, dtype=torch.float64)
LABELS = torch.randint(0, 8, (3, 1, 6, 6, 6))
WEIGHTS = torch.linspace(0.5, 4, 8, dtype=torch.float64)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_value_and_gradient_are_monais(factor: float) -> None:
    theirs = monai_losses.DiceCELoss(
        to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0, weight=WEIGHTS, lambda_ce=factor
    )
    ours = DiceAndCrossEntropyLoss(WEIGHTS, WEIGHTS, factor=factor)
    mine, monais = (LOGITS.clone().requires_grad_() for _ in range(2))
    value, expected = ours(mine, LABELS), theirs(monais, LABELS)
    assert value.item() == pytest.approx(expected.item() - WEIGHTS.mean().item(), rel=1e-10)
    value.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, monais.grad, rtol=1e-8, atol=1e-12)
