"""The first weights of a training, from another one (`viscera train --init-from RUN`)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from viscera.core.anatomy import ClassTable
from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.settings import differences
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder

log = logging.getLogger(__name__)
_HEADS = ("head.", "lower_heads.")  # the layers with a row for each class; the latter of deep supervision
_DECIDES_WEIGHTS = ("filters", "levels", "network.")  # what a network of other weights differs in


class Source(NamedTuple):
    """Another training, as far as it is known here."""

    run: str  # its folder, as it was given
    sha256: str  # of its checkpoint
    checkpoint: Checkpoint

    @classmethod
    def load(cls, run: Path) -> "Source":
        """Raises BadInputError for no run, or several models as one."""
        folder = RunFolder(run)
        if folder.fusion.exists():
            raise BadInputError(f"{run}: several models as one. Give the run of one of them.")
        return cls(str(run), sha256(folder.last) if folder.last.exists() else "", load_checkpoint(folder.last))


class Taken(NamedTuple):
    """What was taken of another training, `started_from.json` of a run."""

    run: str
    sha256: str
    step: int  # of it
    classes: tuple[str, ...]  # whose outputs were taken
    new: tuple[str, ...]  # which it does not have: their outputs begin at random
    left: tuple[str, ...]  # which it alone has

    @property
    def text(self) -> str:
        """A line for people."""
        parts = [f"the network and the outputs of {', '.join(self.classes)} are taken"]
        parts += [f"new, and begun at random: {', '.join(self.new)}"] if self.new else []
        parts += [f"left behind: {', '.join(self.left)}"] if self.left else []
        return f"Beginning with the weights of {self.run} (step {self.step}): {'; '.join(parts)}."


def begin_from(network: nn.Module, classes: ClassTable, train: TrainConfig, source: Source) -> Taken:
    """Give a network the weights of another training, and for each class that both have its output.

    Classes are matched by name. Raises BadInputError for a network of other sizes, which names them.
    """
    before, theirs = source.checkpoint.config.train, source.checkpoint.classes.names
    own, given = network.state_dict(), source.checkpoint.applied
    kinds = {settings.network.normalisation for settings in (before, train)}  # two have weights of the same names
    if _shapes(own) != _shapes(given) or len(kinds) > 1:
        other = [text for text in differences(before, train) if text.startswith(_DECIDES_WEIGHTS)]
        raise BadInputError(
            f"{source.run}: another network ({', '.join(other) or 'of other layers'}). Give its settings, or train "
            "without --init-from."
        )
    seen = [text for text in differences(before, train) if text.startswith("intensity.")]
    if seen:
        log.warning("%s: it saw other numbers for the same HU: %s.", source.run, ", ".join(seen))
    both = [name for name in classes.names if name in theirs]
    rows, from_rows = ([names.index(name) for name in both] for names in (classes.names, theirs))
    state = {name: given[name] if name in given else tensor.clone() for name, tensor in own.items()}
    for name in (name for name in own if name.startswith(_HEADS) and name in given):
        state[name] = own[name].clone()
        state[name][rows] = given[name][from_rows].to(own[name].device)
    network.load_state_dict(state)
    new, left = ([n for n in names if n not in both] for names in (classes.names, theirs))
    return Taken(source.run, source.sha256, source.checkpoint.step, tuple(both), tuple(new), tuple(left))


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if not name.startswith(_HEADS)}
