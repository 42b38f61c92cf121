"""Before training: whose gradient it will be, and how much of Adam's step its epsilon takes away."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from viscera.core.config import AdamConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.doctor.forecast_rule import ArmForecast
from viscera.engine.diagnostics import logit_gradient_norms
from viscera.engine.feed import Feed
from viscera.engine.optimiser import keras_epsilon
from viscera.engine.predictor import build_network
from viscera.imaging.intensity import network_input
from viscera.io.records import read_json, write_json
from viscera.losses.balance import Weights
from viscera.losses.dice import WeightedDiceLoss
from viscera.networks.unet3d import UNet3D

_BATCHES_AT_THE_LOGITS = 6
_BATCHES_OVER_THE_PARAMETERS = 1
_WIDEST = 8  # filters of the network that is looked at: shares hardly depend on its width, and it is quick
_BATCHES_OF_WINDOWS = 200
_ARMS = TypeAdapter(tuple[ArmForecast, ...])


@dataclass(frozen=True, eq=False)
class UnitGradients:
    """Gradients of each class's Eq. 2 with weight 1, on an untrained network: those of any weights follow linearly.

    Attributes:
        logit_norms: (batches, L) norm at the logits; 0 where a batch has no voxel of the class.
        parameters: (batches, L, P) float32, over all parameters.
        parameters_of_the_model: of the network that will be trained, which may be wider than the one looked at.
    """

    logit_norms: npt.NDArray[np.float64]
    parameters: Tensor
    parameters_of_the_model: int

    @classmethod
    def of(cls, feed: Feed, config: TrainConfig, device: torch.device) -> "UnitGradients":
        """From the first batches of a training, each seen by a network of another seed: one alone may favour a class.

        Args:
            feed: of the training windows.
            config: network, first seed, intensity and readings of Eq. 2; a network of more than 8 filters is looked at
                in a narrower version.
            device: to compute on.
        """
        num_classes = len(feed.classes)
        narrow = config.model_copy(update={"filters": min(config.filters, _WIDEST)})
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            size = sum(p.numel() for p in build_network(config, num_classes).parameters())
        loss = WeightedDiceLoss(np.ones(num_classes), sums=config.loss.sums, smoothing=config.loss.smoothing).to(device)
        norms, gradients = [], []
        for number in range(_BATCHES_AT_THE_LOGITS):
            over_parameters = number < _BATCHES_OVER_THE_PARAMETERS
            network = _untrained(narrow, config.seed + number, num_classes).to(device).train()
            batch = feed.batch(number + 1)
            x, labels = network_input(batch.hu.to(device), config.intensity), batch.labels.to(device)
            labelled = None if batch.labelled is None else batch.labelled.to(device)
            with torch.set_grad_enabled(over_parameters):
                logits_BLIJK = network(x)
            norms.append(logit_gradient_norms(logits_BLIJK, labels, loss, labelled).cpu().numpy())
            if over_parameters:
                parameters = list(network.parameters())
                terms_L = loss.per_class(logits_BLIJK, labels, labelled) / num_classes
                rows = [torch.autograd.grad(term, parameters, retain_graph=True) for term in terms_L]
                gradients.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).cpu())
        return cls(np.array(norms), torch.stack(gradients), size)

    def shares(self, weights: Weights) -> npt.NDArray[np.float64]:
        """(L,) share of each class in the gradient at the logits, mean over the batches."""
        norms = self.logit_norms * weights
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
        epsilon = adam.epsilon
        if adam.epsilon_place == "keras":
            epsilon = keras_epsilon(epsilon, max(iterations // 2, 1))
        moving = root[root > 0]
        return float((moving / (moving + epsilon)).mean()) if moving.size else 0.0


def _untrained(config: TrainConfig, seed: int, num_classes: int) -> UNet3D:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(config, num_classes)


def windows_with_class(feed: Feed) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Share of random windows, and of mini-batches, that contain each class; (L,) each, from 200 batches."""
    present_SBL = np.array(
        [
            [np.bincount(window.ravel(), minlength=len(feed.classes)) > 0 for window in feed.batch(step).labels.numpy()]
            for step in range(1, _BATCHES_OF_WINDOWS + 1)
        ]
    )
    windows, batches = present_SBL.mean(axis=(0, 1)), present_SBL.any(axis=1).mean(axis=0)
    return tuple(windows.tolist()), tuple(batches.tolist())


def save_forecasts(path: Path, iterations: int, forecasts: Sequence[ArmForecast]) -> None:
    """Write what was expected of each arm before it was trained for so many iterations."""
    write_json(path, {"iterations": iterations, "arms": [dataclasses.asdict(forecast) for forecast in forecasts]})


def load_forecasts(path: Path, iterations: int) -> tuple[ArmForecast, ...]:
    """Read it; nothing where there is no such file, or one of other iterations.

    Raises:
        BadInputError: damaged.
    """
    if not path.exists():
        return ()
    value = read_json(path)
    try:
        return _ARMS.validate_python(value["arms"]) if value["iterations"] == iterations else ()
    except (KeyError, TypeError, ValidationError) as error:
        raise BadInputError(f"{path}: damaged. Delete it, and the study makes it again.") from error
