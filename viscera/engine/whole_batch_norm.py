"""Batch normalisation over the windows of all ranks (`engine.distributed`), which PyTorch has for GPUs alone."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viscera.engine.distributed import WholeBatch


class WholeBatchNorm3d(nn.BatchNorm3d):
    """`nn.BatchNorm3d`, with its parameters and buffers, whose mean and variance are those of a whole mini-batch."""

    batch: WholeBatch

    @classmethod
    def instead_of(cls, module: nn.BatchNorm3d, batch: WholeBatch) -> "WholeBatchNorm3d":
        """One that takes over parameters, buffers and settings."""
        new = cls(module.num_features, module.eps, module.momentum)
        new.weight, new.bias = module.weight, module.bias
        new.running_mean, new.running_var = module.running_mean, module.running_var
        new.num_batches_tracked, new.batch = module.num_batches_tracked, batch
        return new.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K), normalised."""
        if not (self.training and self.batch.is_shared):
            return super().forward(x)
        y, mean_C, variance_C = _Normalised.apply(x, self.weight, self.bias, self.eps, self.batch)  # type: ignore[no-untyped-call]
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return y  # type: ignore[no-any-return]
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(variance_C, share)
        return y  # type: ignore[no-any-return]


def over_the_whole_batch(network: nn.Module, batch: WholeBatch) -> None:
    """Replace every batch normalisation of a network; its state is called as before."""
    for name, module in network.named_children():
        if isinstance(module, nn.BatchNorm3d):
            setattr(network, name, WholeBatchNorm3d.instead_of(module, batch))
        else:
            over_the_whole_batch(module, batch)


class _Normalised(torch.autograd.Function):
    """With m and v over all voxels of all ranks, N of them, x' = (x - m) / √(v + ε) and y = w x' + b.

    Backward, dx = w (dy - (Σ dy + x' Σ dy x') / N) / √(v + ε) (Ioffe and Szegedy, 2015, section 3), where the sums run
    over all ranks; those of the parameters are this rank's, which are added up with all other gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - of PyTorch
        x: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        eps: float,
        batch: WholeBatch,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # with running statistics in float32, which are not moved, those of bfloat16 are float32, too
        unmoved = torch.zeros_like(weight_C), torch.ones_like(weight_C)
        mean_C, variance_C = torch.ops.aten.batch_norm_update_stats(x, *unmoved, 0.0)
        own, channels = x.numel() // x.shape[1], len(mean_C)
        of_ranks = mean_C.new_zeros((batch.ranks.size, 2 * channels + 1), dtype=torch.float64)
        of_ranks[batch.ranks.rank] = torch.cat([mean_C, variance_C, mean_C.new_tensor([own])])
        batch.ranks.add_up(of_ranks)
        means_RC, variances_RC, numbers_R1 = of_ranks[:, :channels], of_ranks[:, channels:-1], of_ranks[:, -1:]
        count = numbers_R1.sum()
        whole_C = (numbers_R1 * means_RC).sum(dim=0) / count
        spread_C = (numbers_R1 * (variances_RC + (means_RC - whole_C).square())).sum(dim=0) / count
        mean_C, variance_C = whole_C.to(mean_C.dtype), spread_C.to(mean_C.dtype)
        y = F.batch_norm(x, mean_C, variance_C, weight_C, bias_C, training=False, eps=eps)
        unbiased_C = (spread_C * count / (count - 1)).to(mean_C.dtype)
        ctx.save_for_backward(x, weight_C, mean_C, variance_C)
        ctx.eps, ctx.batch, ctx.count = eps, batch, count.to(mean_C.dtype)
        ctx.mark_non_differentiable(mean_C, unbiased_C)
        return y, mean_C, unbiased_C

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401
        x, weight_C, mean_C, variance_C = ctx.saved_tensors
        dx, by_weight_C, by_bias_C = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight_C, mean_C, variance_C, None, None, False, ctx.eps, [True, True, True]
        )
        sums_2C = ctx.batch.ranks.add_up(torch.stack([by_weight_C, by_bias_C])) / ctx.count
        deviation_C = (variance_C + ctx.eps).rsqrt()
        slope_C = weight_C * deviation_C * deviation_C * sums_2C[0]
        offset_C = weight_C * deviation_C * sums_2C[1] - slope_C * mean_C
        # slope x + offset, as PyTorch's fastest operation by channel: with tensors of float32 beside those of bfloat16
        # each sum and product is slow, and makes a tensor of float32
        unmoved = torch.zeros_like(slope_C), torch.ones_like(slope_C)
        dx -= F.batch_norm(x, *unmoved, slope_C, offset_C, training=False, eps=0.0)
        return dx, by_weight_C, by_bias_C, None, None
