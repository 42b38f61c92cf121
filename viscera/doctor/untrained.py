"""What untrained networks say of each arm of a store: whose gradient it will be, and what Adam's epsilon takes away."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from viscera.core.anatomy import IGNORED
from viscera.core.arms import Arm, arm_config
from viscera.core.config import AdamConfig, AugmentConfig, Config, TrainConfig
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.wording import counted
from viscera.doctor.forecast import ArmForecast, Array, Outlook, unforeseen
from viscera.doctor.surrogate import MOST_STEPS, Speed, SurrogateArm, trained
from viscera.doctor.voxel_sample import VoxelSample
from viscera.engine.diagnostics import logit_gradient_norms
from viscera.engine.feed import Feed, feed_of, with_training_set
from viscera.engine.hardware import choose_device
from viscera.engine.optimiser import keras_epsilon
from viscera.engine.trained_model import build_network
from viscera.imaging.windows import network_input
from viscera.io.store import Store
from viscera.losses.balance import Weights, WeightSchedule
from viscera.losses.dice import training_loss

_BATCHES_AT_THE_LOGITS = 6
_BATCHES_OVER_THE_PARAMETERS = 1
_WIDEST = 8  # filters of the network that is looked at: shares hardly depend on its width, and it is quick
_BATCHES_OF_WINDOWS = 200
_POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)
_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_SEEN_BY_THE_NETWORK: dict[str, Any] = {
    **dict.fromkeys(("patch", "batch_size", "filters", "levels", "seed", "initialisation"), True),
    **dict.fromkeys(("intensity", "network", "organ_windows"), True),
    "loss": {"sums", "smoothing"},
}
_SEEDS = (0, 1, 2)  # of the trainings in miniature
_STEPS_TO_CHOOSE_BY = 3000  # at most, of the arms that are tried for the advice


class View:
    """What arms see alike whose networks and windows are alike: looked at when it is first asked for."""

    def __init__(self, store: Store, train: TrainConfig) -> None:
        self.store, self._train = store, train

    @cached_property
    def unit(self) -> "UnitGradients":
        """Of the first batches, on untrained networks."""
        return UnitGradients.of(plain_feed(self.store, self._train), self._train, choose_device(self._train.device))

    @cached_property
    def sample(self) -> VoxelSample:
        """For trainings in miniature."""
        return VoxelSample.of(self.store, self._train)

    @cached_property
    def speed(self) -> Speed:
        """Of the network that will be trained."""
        return Speed.of(self._train, len(self.store.classes))


Seen = dict[str, View]  # by what the network sees


def forecast_and_choose(
    store: Store, config: Config, arms: Sequence[Arm], progress: OnProgress = unseen
) -> tuple[tuple[ArmForecast, ...], Arm | None]:
    """What to expect of arms, and the plain arm of any power and rate with the least chance of a failing organ.

    None where a plain arm is trained with something that nothing is forecast of.
    """
    progress(Progress("doctor", 1, 3, f"training in miniature, {counted(len(arms), 'arm')}"))
    if unforeseen(config.train):
        return forecast_arms(store, config, arms), None
    others = [Arm(power, rate) for rate in _RATES for power in _POWERS]
    variants = {"": {}, **config.study.variants}  # the others are plain
    with_plain = config.model_copy(update={"study": config.study.model_copy(update={"variants": variants})})
    seen: Seen = {}  # the others differ from plain arms in power and rate alone
    forecasts = forecast_arms(store, with_plain, arms, seen, progress)
    progress(Progress("doctor", 2, 3, "other weightings and rates"))
    found = outlooks(store, with_plain, others, _SEEDS[:1], _STEPS_TO_CHOOSE_BY, seen=seen, progress=progress)
    progress(Progress("doctor", 3, 3))
    chances = [sum(ArmForecast.of(arm.name, outlook, store.classes).failing_chance) for arm, outlook in found]
    return forecasts, others[int(np.argmin(chances))]


def forecast_arms(
    store: Store, config: Config, arms: Sequence[Arm], seen: Seen | None = None, progress: OnProgress = unseen
) -> tuple[ArmForecast, ...]:
    """What to expect of arms, from untrained networks on the first batches and from trainings in miniature."""
    found = outlooks(store, config, arms, seen=seen, progress=progress)
    return tuple(ArmForecast.of(arm.name, outlook, store.classes) for arm, outlook in found)


def outlooks(  # noqa: PLR0913 - what is looked at, how, and who is told
    store: Store,
    config: Config,
    arms: Sequence[Arm],
    seeds: Sequence[int] = _SEEDS,
    most_steps: int = MOST_STEPS,
    *,
    seen: Seen | None = None,  # what an earlier call looked at in this store; filled
    progress: OnProgress = unseen,
) -> list[tuple[Arm, Outlook]]:
    """Each arm with what can be known of it; those whose networks and windows are alike are looked at together."""
    seen = {} if seen is None else seen
    config = with_training_set(config, store)
    cases = len(store.names("train"))
    alike: dict[str, list[tuple[int, TrainConfig]]] = {}
    for number, arm in enumerate(arms):
        train = with_training_set(arm_config(config, arm, 0), store).train
        train = train.model_copy(update={"batch_size": min(train.batch_size, cases)})
        alike.setdefault(train.model_dump_json(include=_SEEN_BY_THE_NETWORK), []).append((number, train))
    found: dict[int, Outlook] = {}
    for key, members in alike.items():
        numbers, trains = zip(*members, strict=True)
        view = seen.setdefault(key, View(store, trains[0]))
        found |= zip(numbers, _outlooks(view, trains, seeds, most_steps, progress), strict=True)
    return [(arm, found[number]) for number, arm in enumerate(arms)]


def _outlooks(
    view: View, trains: Sequence[TrainConfig], seeds: Sequence[int], most_steps: int, progress: OnProgress
) -> Iterator[Outlook]:
    """Of arms that differ in class weights, rate and epsilon alone."""
    first, store, unit = trains[0], view.store, view.unit
    classes, names = store.classes.names, store.names("train")
    absent = tuple(name for name, count in zip(classes, store.voxel_counts(), strict=True) if count == 0)
    unmet = tuple(name for name, met in zip(classes, unit.met, strict=True) if not met and name not in absent)
    schedules = [
        WeightSchedule.of(store.voxel_counts(t.loss.counts), t.weighting, t.loss, len(names), classes) for t in trains
    ]
    scales = [float(np.sqrt(np.square(unit.root_second_moment(each.start)).mean())) for each in schedules]
    foreseen = [number for number, train in enumerate(trains) if not unforeseen(train)]
    ends: dict[int, tuple[Array, Array]] = {}
    if foreseen:
        arms = [SurrogateArm.of(trains[n], schedules[n], scales[n], most_steps) for n in foreseen]
        outcome = trained(view.sample, arms, first, view.speed, seeds, progress=progress)
        measured = np.where(view.sample.trained_on(len(classes)), outcome.dice, np.nan)
        ends = {n: (measured[:, at], outcome.confusion[:, at].sum(axis=0)) for at, n in enumerate(foreseen)}
    for number, (train, weights, scale) in enumerate(zip(trains, schedules, scales, strict=True)):
        dice, confusion = ends.get(number, (np.zeros((0, len(classes))), np.zeros((0, 0))))
        sgd = train.optimiser.name == "sgd"  # it has no epsilon
        yield Outlook(
            gradient_share=tuple(unit.shares(weights.start).tolist()),
            gradient_rms=scale,
            step_kept=1.0 if sgd else unit.step_kept(weights.start, train.adam, train.iterations),
            dice=dice,
            confusion=confusion,
            unforeseen=unforeseen(train),
            absent=absent,
            unmet=unmet,
        )


def plain_feed(store: Store, train: TrainConfig) -> Feed:
    """The training windows as they are, whatever augmentation will do to them."""
    return feed_of(store, train.model_copy(update={"augment": AugmentConfig()}))


@dataclass(frozen=True, eq=False)
class UnitGradients:
    """Gradients of each class's Eq. 2 with weight 1, on an untrained network: those of any weights follow linearly."""

    logit_norms: npt.NDArray[np.float64]  # (batches, L) at the logits; 0 where a batch has no voxel of the class
    parameters: Tensor  # (batches, L, P) float32, over all parameters
    parameters_of_the_model: int  # of the network that will be trained, which may be wider than the one looked at

    @classmethod
    def of(cls, feed: Feed, config: TrainConfig, device: torch.device) -> "UnitGradients":
        """From the first batches of a training, each seen by a network of another seed: one alone may favour a class.

        A network of more than 8 filters is looked at in a narrower version.
        """
        num_classes = len(feed.classes)
        filters = min(config.filters, _WIDEST)
        changes = {"groups": math.gcd(config.network.groups, filters), "dropout": 0.0}
        design = config.network.model_copy(update=changes)
        narrow = config.model_copy(update={"filters": filters, "network": design})
        with torch.random.fork_rng(devices=[]):  # not on "meta": initialising there loads PyTorch's compiler, in 2 s
            size = sum(p.numel() for p in build_network(config, num_classes).parameters())
        dice_alone = config.loss.model_copy(update={"cross_entropy": 0.0})
        loss = training_loss(dice_alone, np.ones(num_classes), ignore_index=IGNORED).to(device)
        norms, gradients = [], []
        for number in range(_BATCHES_AT_THE_LOGITS):
            over_parameters = number < _BATCHES_OVER_THE_PARAMETERS
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((config.seed + number) % 2**64)
                network = build_network(narrow, num_classes).to(device).train()
            batch = feed.batch(number + 1)
            x, labels = network_input(batch.hu.to(device), config.intensity), batch.labels.to(device)
            labelled = None if batch.labelled is None else batch.labelled.to(device)
            with torch.set_grad_enabled(over_parameters):
                logits_BLIJK = network(x)
            norms.append(logit_gradient_norms(logits_BLIJK, labels, loss, labelled).cpu().numpy())
            if over_parameters:
                parameters = list(network.parameters())
                terms_L = loss.per_class(logits_BLIJK, labels, labelled) / num_classes
                gradients_of = partial(
                    torch.autograd.grad, retain_graph=True, materialize_grads=True
                )  # 0 of lower heads
                rows = [gradients_of(term, parameters) for term in terms_L]
                gradients.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).cpu())
        return cls(np.array(norms), torch.stack(gradients), size)

    @property
    def met(self) -> tuple[bool, ...]:
        """(L,) whether any of these batches has the class."""
        return tuple(bool(norms_B.any()) for norms_B in self.logit_norms.T)

    def shares(self, weights: Weights) -> npt.NDArray[np.float64]:
        """(L,) share of each class in the gradient at the logits, mean over the batches that have one."""
        norms = self.logit_norms * weights
        norms = norms[norms.sum(axis=1) > 0] if norms.any() else norms[:1] + 1.0
        result: npt.NDArray[np.float64] = (norms / norms.sum(axis=1, keepdims=True)).mean(axis=0)
        return result

    def root_second_moment(self, weights: Weights) -> npt.NDArray[np.float64]:
        """(P,) root of the mean squared gradient of each parameter over the batches: Adam's √v at the start.

        A wider network has the same gradient norm, spread over more parameters.
        """
        gradient = torch.einsum("l,blp->bp", torch.from_numpy(weights), self.parameters.double())
        narrower = (self.parameters.shape[2] / self.parameters_of_the_model) ** 0.5
        root: npt.NDArray[np.float64] = gradient.square().mean(dim=0).sqrt().mul_(narrower).numpy()
        return root

    def step_kept(self, weights: Weights, adam: AdamConfig, iterations: int) -> float:
        """Share of Adam's step that its epsilon leaves, mean over the parameters: √v / (√v + ε), half-way through."""
        root = self.root_second_moment(weights)
        half_way = max(iterations // 2, 1)
        epsilon = keras_epsilon(adam.epsilon, half_way, adam.beta2) if adam.epsilon_place == "keras" else adam.epsilon
        moving = root[root > 0]
        return float((moving / (moving + epsilon)).mean()) if moving.size else 0.0


def windows_with_class(feed: Feed) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Share of random windows, and of mini-batches, that contain each class; (L,) each, from 200 batches."""
    labels, length = (feed.batch(step + 1).labels.numpy() for step in range(_BATCHES_OF_WINDOWS)), len(feed.classes)
    present_SBL = np.array(
        [[np.bincount(window.ravel(), minlength=length)[:length] > 0 for window in batch] for batch in labels]
    )
    windows, batches = present_SBL.mean(axis=(0, 1)), present_SBL.any(axis=1).mean(axis=0)
    return tuple(windows.tolist()), tuple(batches.tolist())
