"""A training in miniature: the loss, weights, optimiser and rates of an arm, with a perceptron for the U-Net.

The perceptron sees the local features of single voxels (`local_features`) of random windows. All that the weights of
Eq. 3-5 do in Eq. 2 and in Adam happens to it as it does to the network: which class a voxel goes to where several look
alike, how many steps that takes, and what epsilon leaves of a step. Arms and seeds are trained side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.config import AdamConfig, LossConfig, TrainConfig
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.wording import counted
from viscera.doctor.voxel_sample import Voxels, VoxelSample
from viscera.engine.optimiser import keras_epsilon, learning_rate_at
from viscera.engine.trained_model import build_network
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import soft_dice_loss
from viscera.losses.marginal import mean_of_labelled

HIDDEN = 32
_BETA1 = 0.9
_STEPS_BETWEEN_NEWS = 20
MOST_STEPS = 10_000  # the paper's
_WINDOWS_FOR_STATISTICS = 24
_TINY = 1e-24  # in place of an epsilon of 0


@dataclass(frozen=True, eq=False)
class SurrogateArm:
    """What the miniature needs of an arm."""

    weights: WeightSchedule
    rates: npt.NDArray[np.float64]  # (steps,) learning rate of each step
    epsilon_over_gradient: float  # Adam's epsilon over the root mean square of the real network's gradient
    adam: AdamConfig

    @classmethod
    def of(
        cls, train: TrainConfig, weights: WeightSchedule, gradient_rms: float, most_steps: int = MOST_STEPS
    ) -> "SurrogateArm":
        """By its settings, and the scale of the gradient in the untrained network.

        Beyond so many steps each of the miniature's stands for several, with a rate that much higher.
        """
        steps = min(train.iterations, most_steps)
        at = np.linspace(1, train.iterations, steps).round().astype(int)
        rates = np.array([learning_rate_at(int(step), train) for step in at]) * (train.iterations / steps)
        return cls(weights, rates, train.adam.epsilon / max(gradient_rms, _TINY), train.adam)

    def weights_at(self, step: int, iterations: int) -> npt.NDArray[np.float64]:
        """(L,) class weights at a step of the miniature, with a mean of 1: their scale is in epsilon."""
        weights = self.weights.at(round(step * iterations / len(self.rates)))
        scaled: npt.NDArray[np.float64] = weights / weights.mean()
        return scaled


@dataclass(frozen=True)
class Speed:
    """How far a step moves the function of the real network, in units of the rate: what the perceptron is held to.

    Adam moves every weight by about the rate. A unit that normalisation follows sees its n incoming weights, of norm √2
    (He), move by rate × √n: relative to them by rate × √(n / 2), so a wide network is faster at the same rate. The last
    layer, which nothing normalises, moves a logit by rate × n.
    """

    hidden: float  # √n, geometric mean over the convolutions
    last: float  # n of the last

    @classmethod
    def of(cls, train: TrainConfig, num_classes: int) -> "Speed":
        """Of the network that will be trained."""
        with torch.random.fork_rng(devices=[]):
            network = build_network(train, num_classes)
        fans = [math.prod(m.weight.shape[1:]) for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
        return cls(math.exp(sum(map(math.log, fans[:-1])) / len(fans[:-1]) / 2), fans[-1])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of the classes on the cases kept apart; (seeds, arms, …)."""

    dice: npt.NDArray[np.float64]  # (S, A, L) mean over cases; NaN where none has the class
    confusion: npt.NDArray[np.float64]  # (S, A, L, L) voxels of a true class (row) that were given to a class (column)


class _Perceptrons:
    """P perceptrons of two hidden layers with batch normalisation, evaluated on the same voxels."""

    def __init__(self, features: int, classes: int, arms: int, seeds: Sequence[int], speed: Speed) -> None:
        def normal(*shape: int) -> Tensor:
            each = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1)) for seed in seeds]
            return torch.stack(each).repeat_interleave(arms, dim=0) * math.sqrt(2 / shape[0])

        number = arms * len(seeds)
        self.parameters, speeds = [], []
        for incoming in (features, HIDDEN):  # weights, and batch normalisation's scale and shift
            self.parameters += [normal(incoming, HIDDEN), torch.ones(number, 1, HIDDEN), torch.zeros(number, 1, HIDDEN)]
            speeds += [speed.hidden / math.sqrt(incoming), 1.0, 1.0]
        self.parameters += [normal(HIDDEN, classes), torch.zeros(number, 1, classes)]
        self.speeds = (*speeds, speed.last / HIDDEN, 1.0)
        for each in self.parameters:
            each.requires_grad_(True)

    def logits(self, x_VF: Tensor, weight_V: Tensor, statistics: list[Tensor] | None = None) -> Tensor:
        """(P, V, L); normalised by weighted moments of these voxels, or by `statistics`, filled with them if empty."""
        w1, scale1, shift1, w2, scale2, shift2, w3, bias = self.parameters
        found = [] if statistics is None or not statistics else list(statistics)
        share_P1V = (weight_V / weight_V.sum().clamp(min=1)).expand(len(w1), 1, -1)

        def normalised(h_PVH: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            if statistics:
                mean, variance = found.pop(0), found.pop(0)
            else:
                mean = torch.bmm(share_P1V, h_PVH)
                variance = (torch.bmm(share_P1V, h_PVH.square()) - mean.square()).clamp(min=0)
                found.extend((mean, variance))
            factor = scale * torch.rsqrt(variance + 1e-5)
            return torch.addcmul(shift - mean * factor, h_PVH, factor).relu()

        h_PVH = normalised(torch.matmul(x_VF, w1), scale1, shift1)
        h_PVH = normalised(torch.bmm(h_PVH, w2), scale2, shift2)
        if statistics is not None and not statistics:
            statistics.extend(found)
        return torch.baddbmm(bias, h_PVH, w3)


def trained(
    sample: VoxelSample,
    arms: Sequence[SurrogateArm],
    train: TrainConfig,
    speed: Speed,
    seeds: Sequence[int] = (0,),
    *,
    progress: OnProgress = unseen,
) -> Outcome:
    """Train all arms, and say what became of them; of `train` the loss, the batch size and the iterations count."""
    windows = _Windows.of(sample)
    perceptrons = _Perceptrons(windows.x.shape[-1], windows.target.shape[-1], len(arms), seeds, speed)
    adam = _Adam(perceptrons, arms, len(seeds))
    constant = all(arm.weights.constant for arm in arms)
    weights_PL = _weights_at(arms, 0, train.iterations, len(seeds))
    rng = np.random.default_rng(seeds[0])
    for step in range(1, len(arms[0].rates) + 1):
        if not constant:
            weights_PL = _weights_at(arms, step, train.iterations, len(seeds))
        terms_PL = windows.dice_loss(perceptrons, windows.batch(rng, train.batch_size), train.loss)
        loss = (weights_PL * terms_PL).mean(dim=1).sum()  # each perceptron has a term of its own
        adam.step(torch.autograd.grad(loss, perceptrons.parameters), step)
        if step % _STEPS_BETWEEN_NEWS == 0 or step == len(arms[0].rates):
            progress(Progress("miniature", step, len(arms[0].rates), f"{counted(len(arms), 'arm')} at once"))
    return windows.outcome(perceptrons, sample.held_out, (len(seeds), len(arms)))


def _weights_at(arms: Sequence[SurrogateArm], step: int, iterations: int, seeds: int) -> Tensor:
    """(P, L)."""
    return torch.from_numpy(np.array([arm.weights_at(step, iterations) for arm in arms])).float().repeat(seeds, 1)


class _Adam:
    """Adam on perceptrons side by side, each with rates and an epsilon of its own."""

    def __init__(self, perceptrons: _Perceptrons, arms: Sequence[SurrogateArm], seeds: int) -> None:
        self.parameters, self.speeds = perceptrons.parameters, perceptrons.speeds
        self.moments = [(torch.zeros_like(each), torch.zeros_like(each)) for each in self.parameters]
        self.arms = [*arms] * seeds
        self.rates_TP = torch.tensor(np.array([arm.rates for arm in self.arms]).T, dtype=torch.float32)
        self.beta2_P = torch.tensor([arm.adam.beta2 for arm in self.arms])[:, None, None]
        self.scale_P = torch.ones(len(self.arms))

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], step: int) -> None:
        """One step, from 1 on; the first one's gradient says what epsilon is to be held against."""
        if step == 1:
            squares_P = sum((g.square().flatten(1).sum(dim=1) for g in gradients), torch.zeros(len(self.arms)))
            self.scale_P = (squares_P / sum(g[0].numel() for g in gradients)).sqrt()
        relative = [
            keras_epsilon(arm.epsilon_over_gradient, step, arm.adam.beta2)
            if arm.adam.epsilon_place == "keras"
            else arm.epsilon_over_gradient
            for arm in self.arms
        ]
        epsilon_P = (torch.tensor(relative) * self.scale_P + _TINY)[:, None, None]
        correction_P = 1 - self.beta2_P**step
        rate_P = self.rates_TP[step - 1][:, None, None] / (1 - _BETA1**step)
        for each, (first, second), gradient, by in zip(
            self.parameters, self.moments, gradients, self.speeds, strict=True
        ):
            first.lerp_(gradient, 1 - _BETA1)
            second.mul_(self.beta2_P).add_(gradient.square().mul_(1 - self.beta2_P))
            each.sub_(by * rate_P * first / ((second / correction_P).sqrt_().add_(epsilon_P)))


@dataclass(frozen=True, eq=False)
class _Windows:
    """The windows of a sample as tensors, features scaled to mean 0 and standard deviation 1."""

    x: Tensor  # (W, V, F)
    weight: Tensor  # (W, V)
    target: Tensor  # (W, V, L): one-hot code times weight
    labelled: Tensor  # (W, L)
    by_case: list[npt.NDArray[np.int64]]
    moments: tuple[Tensor, Tensor]  # (F,) each: mean, standard deviation

    @classmethod
    def of(cls, sample: VoxelSample) -> "_Windows":
        x, labels, weight, labelled = (
            torch.stack([getattr(window, name) for window in sample.windows])
            for name in ("features", "labels", "weight", "labelled")
        )
        share = (weight / weight.sum().clamp(min=1))[..., None]
        mean = (x * share).sum(dim=(0, 1))
        deviation = ((x - mean).square() * share).sum(dim=(0, 1)).sqrt().clamp(min=1e-6)
        code = torch.nn.functional.one_hot(labels, labelled.shape[1]) * weight[..., None]
        cases = sample.case_of_window
        by_case = [np.flatnonzero(cases == case) for case in np.unique(cases)]
        return cls((x - mean) / deviation, weight, code, labelled, by_case, (mean, deviation))

    def batch(self, rng: np.random.Generator, batch_size: int) -> npt.NDArray[np.int64]:
        """Windows of different cases, as far as there are as many."""
        cases = rng.choice(len(self.by_case), batch_size, replace=batch_size > len(self.by_case))
        return np.array([rng.choice(self.by_case[case]) for case in cases])

    def dice_loss(self, perceptrons: _Perceptrons, chosen: npt.NDArray[np.int64], loss: LossConfig) -> Tensor:
        """(P, L): Eq. 2 over the windows of a batch, with the configuration's reading of its sums."""
        x, weight, target, labelled = (t[chosen] for t in (self.x, self.weight, self.target, self.labelled))
        logits = perceptrons.logits(x.flatten(0, 1), weight.flatten())
        s_PBVL = logits.softmax(dim=-1).view(len(logits), *weight.shape, -1)
        if not bool(labelled.all()):
            kept = labelled[:, None].float()
            background = (s_PBVL * (1 - kept)).sum(dim=-1, keepdim=True)
            s_PBVL = s_PBVL * kept + torch.nn.functional.pad(background, (0, kept.shape[-1] - 1))
        intersection_PBL = torch.einsum("pbvl,bvl->pbl", s_PBVL, target)
        cardinality_PBL = torch.einsum("pbvl,bv->pbl", s_PBVL, weight) + target.sum(dim=1)
        if loss.sums == "batch":
            terms = soft_dice_loss(intersection_PBL.sum(dim=1), cardinality_PBL.sum(dim=1), loss.smoothing)
            return terms * labelled.any(dim=0)
        terms = soft_dice_loss(intersection_PBL, cardinality_PBL, loss.smoothing)
        return torch.stack([mean_of_labelled(each, labelled) for each in terms])

    @torch.no_grad()
    def outcome(self, perceptrons: _Perceptrons, cases: Sequence[Voxels], shape: tuple[int, int]) -> Outcome:
        """Dice and confusion on whole cases, normalised by the statistics of training windows."""
        statistics: list[Tensor] = []
        some = np.linspace(0, len(self.x) - 1, min(_WINDOWS_FOR_STATISTICS, len(self.x))).round().astype(int)
        perceptrons.logits(self.x[some].flatten(0, 1), self.weight[some].flatten(), statistics)
        mean, deviation = self.moments
        length, dice, confusion = self.target.shape[-1], [], torch.zeros(())
        for case in cases:
            given = perceptrons.logits((case.features - mean) / deviation, case.weight, statistics).argmax(dim=-1)
            cells = torch.zeros(len(given), length * length)
            cells.scatter_add_(1, case.labels * length + given, case.weight.expand(len(given), -1))
            found = cells.view(-1, length, length)
            both = found.diagonal(dim1=1, dim2=2)
            true = found.sum(dim=2)
            each = 2 * both / (true + found.sum(dim=1))
            dice.append(torch.where(case.labelled & (true > 0), each, torch.nan))
            confusion = confusion + found
        mean_dice = torch.stack(dice).nanmean(dim=0).view(*shape, length)
        return Outcome(mean_dice.double().numpy(), confusion.view(*shape, length, length).double().numpy())
