"""The model that is exported: its network as other programs take it, and what is said of it."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viscera.card.card_markdown import escaped
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.machine_errors import lacking
from viscera.engine.ensemble import MeanOfNetworks
from viscera.engine.predictor import Predictor
from viscera.engine.trained_model import Model
from viscera.io.runlog import RunFolder, refuse_export, runs_in
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

INTENDED_USE = "For research; not a medical device."


class OfAnySize(nn.Module):
    """A network whose padding and cropping are operations of tensors, which stay with it when it is traced."""

    def __init__(self, network: UNet3D) -> None:
        super().__init__()
        self.network = network
        self.multiples = network.design.scale_of(network.levels - 1, network.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, L, I, J, K) of (B, 1, I, J, K) of any size, as of the network."""
        i, j, k = x.shape[2:]
        after_i, after_j, after_k = (-n % multiple for n, multiple in zip((i, j, k), self.multiples, strict=True))
        logits: Tensor = self.network(F.pad(x, (0, after_k, 0, after_j, 0, after_i), mode="replicate"))
        return logits[..., :i, :j, :k]


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """One model, or the mean of several, that can be written in other forms."""

    run: Path
    predictor: Predictor  # whose networks are as they were trained, on the CPU
    given: PredictConfig | None  # how it shall predict; None: as its own configuration says
    network: nn.Module  # in evaluation mode, (B, 1, I, J, K) of any size to logits (B, L, I, J, K)

    @classmethod
    def read(cls, run: Path, config: PredictConfig | None = None) -> "ExportedModel":
        """Of a run or a folder of runs; without `config`, it predicts as its own configuration says.

        Raises BadInputError as `Predictor.load`, and for several models of which each organ has its own.
        """
        for path in (run, *runs_in(run)):
            refuse_export(RunFolder(path))
        predictor = Predictor.load(run, config, "cpu", folded=False)
        if predictor.combination is not None:
            raise BadInputError(
                f"{run}: several models as one, each organ from its own (`viscera study --fuse`), so that there is no "
                "one network. Export the run of one of them, or a folder of runs whose mean is taken."
            )
        (model,) = predictor.models.values()
        network = model.network
        if isinstance(network, MeanOfNetworks):
            each = [OfAnySize(one) for one in network.networks if isinstance(one, UNet3D)]
            network = MeanOfNetworks(each, network.inputs, network.temperatures)
        elif isinstance(network, UNet3D):
            network = OfAnySize(network)
        return cls(run, predictor, config, network.eval())

    @property
    def model(self) -> Model:
        """The one that the predictor has."""
        (model,) = self.predictor.models.values()
        return model

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.run.resolve().name

    @property
    def trained_precision(self) -> str:
        """In which the network was trained; exported, it computes in float32."""
        return self.model.trained_with.train.precision

    @property
    def networks(self) -> list[UNet3D]:
        """Those that it is, or is the mean of."""
        return [each for each in self.network.modules() if isinstance(each, UNet3D)]

    @property
    def bytes_per_voxel(self) -> int:
        """What `viscera predict` takes for a voxel of a window in float32, by which it chooses large windows."""
        return 4 * max(FoldedUNet3D(each).values_per_voxel for each in self.networks)


def example_of(network: nn.Module) -> torch.Tensor:
    """(1, 1, I, J, K) to trace a network with: large enough for the statistics of its lowest level."""
    multiples = [each.multiples for each in network.modules() if isinstance(each, OfAnySize)]
    return torch.rand(1, 1, *(2 * int(np.lcm.reduce([each[axis] for each in multiples])) for axis in range(3)))


def needed(module: str, target: str) -> ModuleType:
    """A library of the extra `export`; raises BadInputError where it is missing, RunFailedError without memory."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if too_little := lacking(error):
            raise RunFailedError(f"--to {target}: {too_little}") from error
        raise BadInputError(
            f"--to {target} needs {module} ({error}). Install it: pip install 'viscera[export]'."
        ) from error


def readme_of(model: ExportedModel, form: str) -> str:
    """The page that goes with a form, from its template."""
    template = Path(__file__).parent / "templates" / f"{form}_readme.md"
    text = template.read_text(encoding="utf-8")
    return text.replace("{name}", escaped(model.name)).replace("{use}", INTENDED_USE)
