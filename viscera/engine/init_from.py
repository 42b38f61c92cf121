"""The first weights of a training, from another one or its export (`viscera train --init-from RUN`)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import ClassTable
from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import size_text
from viscera.core.settings import differences
from viscera.io.checkpoint import Checkpoint, load_with_checksum
from viscera.io.files import write_text
from viscera.io.records import read_text
from viscera.io.remote.mirror_index import address_of, mirror_of
from viscera.io.runlog import RunFolder, runs_in
from viscera.io.started_from import NOT_KNOWN, StartedFrom, seen_before, trained_on
from viscera.io.store import Store

log = logging.getLogger(__name__)
_HEADS = ("head.", "lower_heads.")  # the layers with a row for each class; the latter of deep supervision
_TOLERATED_RATIO = 1.5  # of voxel sizes, as of a scan that is predicted
Spacing = tuple[float, float, float]
_DECIDES_WEIGHTS = ("filters ", "levels ", "network.", "initialisation ")  # what a network of other weights differs in


class Source(NamedTuple):
    """Another training, as far as it is known here."""

    run: str  # its folder, or URL, as it was given
    name: str  # of its folder alone
    sha256: str  # of its checkpoint
    checkpoint: Checkpoint
    trained_on: tuple[str, ...]  # as of `StartedFrom`
    held_out_unseen: bool = False  # likewise; known once the store is (`held_against`)

    @classmethod
    def load(cls, run: Path) -> "Source":
        """Raises BadInputError for no run, one that has no weights yet, or several models as one."""
        folder, inside = RunFolder(run), runs_in(run)
        if folder.fusion.exists() or inside:
            named = f", such as {inside[0]}" if inside else ""
            raise BadInputError(f"{run}: several models as one. Give the run of one of them{named}.")
        if run.is_file():
            raise BadInputError(f"{run}: a file; the folder of a run was expected. Give {run.parent}.")
        if not folder.weights.exists():
            raise BadInputError(
                f"{run}: {_without_weights(folder)}. Give the folder of a run that `viscera train` made."
            )
        checkpoint, checksum = load_with_checksum(folder.weights)
        if unfinished := folder.unfinished(checkpoint.step):
            log.warning("%s: this run is %s; its weights are taken as they are.", run, unfinished)
        return cls(address_of(run), run.resolve().name, checksum, checkpoint, trained_on(folder))

    @classmethod
    def of(cls, run: Path | None, folder: RunFolder) -> "Source | None":
        """What a run begins with: as it is told, or as its folder says it began; None: with weights of its own.

        Raises BadInputError as `load`, and where the run that it began with has other weights since.
        """
        before = StartedFrom.read(folder) if run is None else None
        if before is None:
            return cls.load(run) if run is not None else None
        path = mirror_of(read_text(folder.source_path).strip() if folder.source_path.exists() else before.run)
        if not RunFolder(path).weights.exists():
            raise BadInputError(
                f"{folder.path}: began with the weights of {before.run}, and has none of its own yet, and there is no "
                f"such run at {path}. Say with --init-from where it is."
            )
        source = cls.load(path)
        if source.sha256 != before.sha256:
            raise BadInputError(
                f"{folder.path}: it began with the weights of {before.run} as they were. Give another folder, and "
                "--init-from what it shall begin with."
            )
        return source

    def held_against(self, view: Store) -> "Source":
        """The same, of which is known whether it has seen what a training holds out, which sees the store so.

        Raises BadInputError where it was trained on a case of these; what is not known is said.
        """
        seen = seen_before(self.trained_on, view)
        if seen.cases:
            raise BadInputError(
                f"{self.run}: it was trained on {seen.text} that are held out here for validation or test, and that "
                "would be scored too well. Begin with a run that held them out, too, or train with --fold all."
            )
        if not seen.nothing:
            is_said = NOT_KNOWN not in self.trained_on
            log.warning(
                "%s: whether it was trained on any of the cases that are held out here is not known (%s): their "
                "scores may be too good, and the model card says so.",
                self.run,
                f"its training set is not one of {view.path}" if is_said else "it does not say what it was trained on",
            )
        return self._replace(held_out_unseen=seen.nothing)

    def remember(self, folder: RunFolder, taken: StartedFrom) -> None:
        """Write what was taken into a run that begins; where it lies is for that alone which has no weights yet."""
        write_text(folder.source_path, f"{address_of(Path(self.run).absolute())}\n")
        taken.write(folder)


def _without_weights(folder: RunFolder) -> str:
    if folder.config_path.exists():
        return "it has no weights yet (no last.pt)"
    if folder.export_record.exists():
        return "this is an export to a format that cannot be trained on"
    return "this is not a run (it has no last.pt)"


def refuse_other_network(network: nn.Module, train: TrainConfig, source: Source) -> None:
    """Raise BadInputError, which names the sizes, where a network is not made as another training's."""
    before = source.checkpoint.config.train
    # some have weights of the same names and shapes
    norms = {(each.network.normalisation, each.network.groups, each.initialisation) for each in (before, train)}
    if train.network.normalisation != "group":
        norms = {(kind, 0, epsilon) for kind, _, epsilon in norms}
    if _shapes(network.state_dict()) != _shapes(source.checkpoint.applied) or len(norms) > 1:
        other = [text for text in differences(before, train) if text.startswith(_DECIDES_WEIGHTS)]
        raise BadInputError(
            f"{source.run}: another network ({', '.join(other) or 'of other layers'}). Give its settings, or train "
            "without --init-from."
        )


def warn_of_other_voxels(source: Source, spacings_mm: Sequence[Spacing]) -> None:
    """Say where scans have voxels of another size than those of another training: organs are of another size then."""
    theirs, own = (np.median(np.array(each), axis=0) for each in (source.checkpoint.training_spacings_mm, spacings_mm))
    ratio = own / theirs
    if max(ratio.max(), 1 / ratio.min()) > _TOLERATED_RATIO:
        both = size_text(theirs), size_text(own)
        log.warning(
            "%s: it saw voxels of %s mm, these are of %s mm: organs have other sizes in them.", source.run, *both
        )


def begin_from(network: nn.Module, classes: ClassTable, train: TrainConfig, source: Source) -> StartedFrom:
    """Give a network the weights of another training, and for each class that both have its output.

    Classes are matched by name. Raises BadInputError as `refuse_other_network`.
    """
    refuse_other_network(network, train, source)
    before, theirs = source.checkpoint.config.train, source.checkpoint.classes.names
    own, given = network.state_dict(), source.checkpoint.applied
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
    outputs = tuple(both), tuple(new), tuple(left)
    of_source = source.trained_on, source.held_out_unseen
    return StartedFrom(source.name, source.sha256, source.checkpoint.step, *outputs, *of_source)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if not name.startswith(_HEADS)}
