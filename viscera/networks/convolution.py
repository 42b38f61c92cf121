"""A 3D convolution whose gradient is right on a CPU also where its input is smaller than its kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution3D(nn.Conv3d):
    """`nn.Conv3d`, but that it pads its input itself where oneDNN would read or write beyond its memory.

    The gradient of the weights in bfloat16 holds whatever was in memory before, NaN among it, where the input has fewer
    voxels along an axis than the kernel; with kernels above 3 also float32 can end the process (PyTorch 2.13 and
    oneDNN on x86, found by `torture/resume.py`). An input that is padded already has no fewer.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - PyTorch's
        if not (self.training and torch.is_grad_enabled() and self._is_small(input)):
            found: Tensor = super()._conv_forward(input, weight, bias)
            return found
        i, j, k = (int(each) for each in self.padding)
        padded = F.pad(input, (k, k, j, j, i, i))
        return F.conv3d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def _is_small(self, x: Tensor) -> bool:
        computes_bfloat16 = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        is_meant = x.device.type == "cpu" and (computes_bfloat16 or max(self.kernel_size) > 3)
        return is_meant and any(n < edge for n, edge in zip(x.shape[2:], self.kernel_size, strict=True))
