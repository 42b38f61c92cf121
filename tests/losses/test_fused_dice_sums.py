"""The Triton kernels against the blocks, run by Triton's interpreter on the CPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import torch, viscera
from viscera.losses import dice_of_logits as blocks, fused_dice_sums
torch.manual_seed(0)
for dtype, step in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        for classes in (1, 3, 8):
            logits = (3 * torch.randn(2, classes, 7, 9, 31)).to(dtype).to(memory_format=layout)
            labels = torch.randint(0, classes, (2, 7, 9, 31), dtype=torch.uint8)
            labelled = torch.rand(2, classes) < 0.6
            labelled[:, 0] = True
            by_sums = torch.randn(2, classes), torch.randn(2, classes)
            unknown = torch.rand(labels.shape) < 0.3
            spoilt = logits.clone(memory_format=torch.preserve_format)
            spoilt.movedim(1, -1)[unknown] = float("nan")
            partly = labels.masked_fill(unknown, 255)
            for mask in (None, labelled):
                for given, numbers, ignored in ((logits, labels, None), (spoilt, partly, 255), (logits, labels, 255)):
                    ours = fused_dice_sums.fused_sums(given, numbers, mask, ignored)
                    expected = blocks._sums(logits, numbers, mask, ignored=ignored)
                    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
                    ours = fused_dice_sums.fused_gradient(given, numbers, mask, *by_sums, ignored=ignored)
                    expected = blocks._gradient(logits, numbers, mask, *by_sums, ignored=ignored)
                    torch.testing.assert_close(ours, expected, rtol=step, atol=1e-6)
logits, labels = torch.randn(2, 3, 4, 5, 6, requires_grad=True), torch.randint(0, 3, (2, 4, 5, 6))
loss = viscera.WeightedDiceLoss([1.0, 2.0, 3.0])
plain, = torch.autograd.grad(loss(logits, labels), logits)
blocks._FUSED_ON = {"cpu"}
fused, = torch.autograd.grad(loss(logits, labels), logits)
torch.testing.assert_close(fused, plain)
assert blocks._FUSED == {torch.device("cpu"): fused_dice_sums}, blocks._FUSED
loss = viscera.WeightedDiceLoss([1.0, 2.0, 3.0], ignore_index=7)
partly = labels.masked_fill(torch.rand(labels.shape) < 0.3, 7)
fused, = torch.autograd.grad(loss(logits, partly), logits)
blocks._FUSED_ON = set()
torch.testing.assert_close(fused, torch.autograd.grad(loss(logits, partly), logits)[0])
assert blocks._FUSED_IGNORING == {torch.device("cpu"): fused_dice_sums}, blocks._FUSED_IGNORING
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_give_what_the_blocks_give() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
