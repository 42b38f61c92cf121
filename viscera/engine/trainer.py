"""The training loop, top to bottom."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.anatomy import IGNORED
from viscera.core.config import Config
from viscera.core.errors import InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress, StopSignal
from viscera.engine.averaged_weights import AveragedWeights
from viscera.engine.captured_step import CapturedStep
from viscera.engine.diagnostics import full_diagnosis, full_steps, logit_gradient_norms, shares
from viscera.engine.distributed import ALONE, Ranks, WholeBatch
from viscera.engine.feed import Batch, Feed, NetworkInput, TrainingFacts
from viscera.engine.forward_pass import Forward, forward_pass
from viscera.engine.hardware import autocast, convolutions, lost_device_explained, out_of_memory_explained
from viscera.engine.monitor import (
    DiceByOrgan,
    LossWatch,
    Monitor,
    StepResult,
    foreground_mean,
    is_logged,
    is_validated,
    warn_half_way,
    warn_of_batch_norm,
)
from viscera.engine.optimiser import learning_rate_at, load_state, make_optimiser, set_rate
from viscera.engine.trackers import OnLine, unheard
from viscera.engine.trained_model import build_network, weights_of
from viscera.engine.training_text import lowest_loss, step_text
from viscera.engine.whole_batch_norm import over_the_whole_batch
from viscera.imaging.augment import augment
from viscera.imaging.windows import network_input
from viscera.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from viscera.io.disk.file_sets import together
from viscera.io.runlog import RunFolder
from viscera.losses.dice import WeightedDiceLoss, training_loss
from viscera.metrics.learning import DICE_BATCH_STATISTICS, MOSTLY_CALLED, VOLUME_RATIO
from viscera.networks.dropout import kept_channels
from viscera.networks.unet3d import UNet3D

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Trainer:
    """One model in training: network, optimiser and the step they are at.

    Where the losses are `deferred`, as on a GPU, they are read at logged and saved steps only, all since the last time
    together: the steps between do not wait for each other, and a loss that is not finite is found, with its step, then.
    """

    config: Config
    facts: TrainingFacts
    device: torch.device
    network: UNet3D
    optimizer: torch.optim.Optimizer
    loss: WeightedDiceLoss
    batch: WholeBatch  # the ranks that train this one model together
    step: int = 0
    seconds: float = 0.0
    best_validation_dice: float = -1.0
    stop: StopSignal = field(default_factory=Event)  # of this rank
    told_to_stop: bool = False  # this rank or another, when they last told each other
    deferred: bool = False
    captured: CapturedStep | None = None  # None: steps are computed plainly
    average: AveragedWeights[UNet3D] | None = None  # None: the weights themselves are monitored and predicted with
    last_line: dict[str, Any] = field(default_factory=dict)  # of the curve, by this process
    on_line: OnLine = unheard  # told of each line of the curve
    written: dict[str, Checkpoint] = field(default_factory=dict)  # by file; without the values of their weights
    with_last: Callable[[], None] | None = None  # writes what belongs to the last checkpoint, together with it

    @classmethod
    def create(cls, config: Config, facts: TrainingFacts, device: torch.device, ranks: Ranks = ALONE) -> "Trainer":
        """At step 0; the initial weights depend on the seed alone."""
        train = config.train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)
            network = build_network(train, len(facts.classes))
        network.dropout = nn.Identity()  # steps say which channels are kept, and whatever else looks on keeps all
        network.to(device).train()
        optimizer = make_optimiser(network, train)
        captured = train.capture == "always" or (train.capture == "auto" and device.type == "cuda")
        if train.capture == "always" and not train.optimiser.is_plain_adam:
            log.warning("Steps of Adam alone, without weight decay and clipping, are recorded; these are not.")
        captured = captured and ranks.size == 1 and train.optimiser.is_plain_adam
        deferred = device.type == "cuda" or captured
        # labels of a store are class numbers; on a GPU, to look at them is to wait
        how: dict[str, Any] = {"check_labels": not deferred, "ignore_index": IGNORED if facts.ignores else None}
        loss = training_loss(train.loss, facts.class_weights.start, facts.voxel_weights, **how)
        batch = WholeBatch(ranks, train.batch_size)
        if batch.is_shared:
            over_the_whole_batch(network, batch)
            loss.whole_batch = batch.dice_sums
        trainer = cls(config, facts, device, network, optimizer, loss.to(device), batch, deferred=deferred)
        if train.average > 0:
            trainer.average = AveragedWeights(network, train.average)
            if batch.is_shared:
                over_the_whole_batch(trainer.average.network, batch)
        if captured and isinstance(optimizer, torch.optim.Adam):
            trainer.captured = CapturedStep(network, optimizer, trainer.forward)
        return trainer

    @property
    def forward(self) -> Callable[[NetworkInput], Forward]:
        """What gives the loss on a mini-batch; it does not hold the trainer."""
        return partial(forward_pass, self.network, self.loss, self.device, self.config.train.precision)

    @property
    def applied(self) -> UNet3D:
        """The network that is monitored and predicted with."""
        if self.average is None:
            return self.network
        if self.config.train.batch_norm == "running":
            self.average.take_statistics(self.network)
        return self.average.network

    def restore(self, checkpoint: Checkpoint, path: Path = Path("last.pt")) -> None:
        """Go on where a checkpoint was written; raises BadInputError where it is of another network."""
        with weights_of(path):
            self.network.load_state_dict(checkpoint.model)
            load_state(self.optimizer, checkpoint.optimizer)
            if self.average is not None:
                self.average.network.load_state_dict(checkpoint.average)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        self.best_validation_dice = checkpoint.best_validation_dice
        if self.captured is not None:
            self.captured.forget()

    def run(self, feed: Feed, monitor: Monitor, folder: RunFolder, stop: StopSignal, report: OnProgress) -> None:
        """Train to the last iteration, logging and writing checkpoints on the way.

        Raises:
            BadInputError: another process has changed the training or validation cases.
            RunFailedError: the loss or a weight is not finite; the last good checkpoint is kept.
            LostDeviceError: the GPU failed.
            InterruptedRunError: `stop` was set; a checkpoint of this step is written.
        """
        explained = out_of_memory_explained("Lower --batch-size, --patch or --filters.")
        computed = convolutions(deterministic=self.config.train.deterministic)
        with explained, lost_device_explained(folder.path, partial(self._kept, folder)), computed:
            self._run(feed, monitor, folder, stop, report)

    def _run(self, feed: Feed, monitor: Monitor, folder: RunFolder, stop: StopSignal, report: OnProgress) -> None:
        train, seconds_before, steps_before, started = self.config.train, self.seconds, self.step, time.perf_counter()
        watch, self.stop = LossWatch(self.step), stop
        if self.step == 0:
            self._save(folder.last)
        while self.step < train.iterations:
            logged = is_logged(train, self.step + 1)
            done = self._next(feed, diagnose=train.diagnose and logged)
            watch.add(done.loss)
            if logged or not self.deferred or np.isnan(watch.newest):
                self._read_losses(watch, folder)
            self.step += 1
            self.seconds = seconds_before + time.perf_counter() - started
            rate = (self.step - steps_before) / (self.seconds - seconds_before)
            weights_L, counts_L = self.facts.class_weights.at(self.step), self.facts.class_voxel_counts.numpy()
            told = step_text(watch.newest, rate, lowest_loss(weights_L, counts_L, train.loss), self.last_line)
            report(Progress("train", self.step, train.iterations, told))
            last, stopping = self.step == train.iterations, self._is_stopped()
            save = last or self.step % train.checkpoint_every == 0 or stopping
            if save or is_validated(train, self.step):
                self._read_losses(watch, folder)
                monitor.refuse_changed_cases()  # so that what is kept is of the cases as they were
            keep = train.batch_norm == "recomputed"
            if logged or (save and keep):  # one pass over the fixed windows, for the statistics and for what they hide
                dice_batch_statistics = monitor.batch_statistics_dice(self.applied, keep=keep)
            if (logged or save) and not self._is_finite():
                raise RunFailedError(self._diverged(folder, f"weights are not finite after step {self.step}"))
            if logged:
                self._log(folder, self._curve_line(monitor, feed, done, dice_batch_statistics))
            if save:
                self._save(folder.last, self.with_last if last else None)
            if stopping and not last:
                raise InterruptedRunError(f"{folder.path}: stopped at step {self.step}. Resume with --resume.")

    def _next(self, feed: Feed, *, diagnose: bool) -> StepResult:
        """The next step, at its rate, and the average that it leads to."""
        step = self.step + 1
        set_rate(self.optimizer, learning_rate_at(step, self.config.train))
        done = self.training_step(feed.batch(step), diagnose=diagnose)
        if self.average is not None:
            self.average.update(self.network, step)
        return done

    def training_step(self, batch: Batch, *, diagnose: bool = False) -> StepResult:
        """One step of the optimiser on one mini-batch; what it returns was measured before the step."""
        if not self.facts.class_weights.constant:
            weights_L = torch.from_numpy(self.facts.class_weights.at(self.step))
            self.loss.class_weights.copy_(weights_L, non_blocking=True)
        inputs = self.network_input(batch)._replace(kept=self._kept_channels())
        done = None if self.captured is None else self.captured(inputs)
        forward = done or self.forward(inputs)
        value = forward.loss.detach() if self.deferred else forward.loss.item()
        norms_L, norm = None, None
        if diagnose:
            norms_L = logit_gradient_norms(forward.logits, inputs.labels, self.loss, inputs.labelled)
            if self.batch.is_shared:
                norms_L = self.batch.ranks.add_up(norms_L.square()).sqrt()
        if done is None and (self.deferred or np.isfinite(value)):
            self.optimizer.zero_grad(set_to_none=True)
            forward.loss.backward()  # type: ignore[no-untyped-call]
            if self.batch.is_shared:
                told = self.batch.sum_gradients(list(self.network.parameters()), says=float(self.stop.is_set()))
                self.told_to_stop = told > 0
            if self.config.train.optimiser.clip_norm is not None:  # of all ranks' windows
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.optimiser.clip_norm)
            self.optimizer.step()
        return StepResult(value, -forward.dice_losses.detach(), norms_L, norm)

    def network_input(self, batch: Batch) -> NetworkInput:
        """What the network and the loss are given of a batch, on the device."""
        train = self.config.train
        hu, labels = (each.to(self.device, non_blocking=True) for each in (batch.hu, batch.labels))
        if batch.augmentations:
            within_hu = train.intensity.low_hu, train.intensity.high_hu
            hu, labels = augment(hu, labels, batch.augmentations, train.patch, within_hu)
        labelled = None if batch.labelled is None else batch.labelled.to(self.device, non_blocking=True)
        return NetworkInput(network_input(hu, train.intensity), labels, labelled)

    def _kept_channels(self) -> Tensor | None:
        """Those of the lowest level that this rank's windows keep in the next step; None without dropout."""
        train = self.config.train
        if train.network.dropout == 0:
            return None
        channels, key = train.filters * 2**train.levels, (train.seed, self.step + 1)
        own = self.batch.ranks.own(train.batch_size)
        return kept_channels(train.network.dropout, channels, key, own).to(self.device, non_blocking=True)

    def checkpoint(self) -> Checkpoint:
        """The state as it is now."""
        return Checkpoint(
            model=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            class_voxel_counts=self.facts.class_voxel_counts,
            class_weights=self.loss.class_weights.cpu().double(),
            config=self.config,
            classes=self.facts.classes,
            training_spacings_mm=self.facts.training_spacings_mm,
            best_validation_dice=self.best_validation_dice,
            seconds=self.seconds,
            average={} if self.average is None else self.applied.state_dict(),
        )

    def _save(self, path: Path, beside: Callable[[], None] | None = None) -> None:
        if self.batch.ranks.is_first:
            checkpoint = self.checkpoint()
            with together(path.parent, is_held=True):
                if beside is not None:
                    beside()
                save_checkpoint(path, checkpoint)
            self.written[path.name] = checkpoint.without_values()

    def _is_stopped(self) -> bool:
        """Whether to end after this step; ranks that share it agree."""
        return self.told_to_stop if self.batch.is_shared else self.stop.is_set()

    def _curve_line(self, monitor: Monitor, feed: Feed, result: StepResult, by_batch: DiceByOrgan) -> dict[str, Any]:
        """One object of curve.jsonl.

        `step`, `loss` (Eq. 6, with the cross-entropy where that is wanted), `soft_dice` (of the batch), `dice` (hard,
        on the fixed windows, by the network as it would be applied), `dice_batch_statistics` (the same by the
        statistics of each batch; empty without batch normalisation), `volume_ratio` and `mostly_called` (how a class
        fails there, as `metrics.learning.Outcome`), `learning_rate`, `seconds`; at validation steps `validation_dice`;
        with `train.diagnose` the sum of the classes' gradient norms at the logits, `gradient_norm`,
        and `gradient_share` of each; at a few steps what `full_diagnosis` finds. `clipped_norm` is that of the gradient
        over all parameters, where it was clipped.
        """
        train, names = self.config.train, self.facts.classes.names
        outcomes = monitor.training_outcomes(self.applied)
        line: dict[str, Any] = {
            "step": self.step,
            "loss": float(result.loss),
            "soft_dice": dict(zip(names, result.soft_dice.tolist(), strict=True)),
            "dice": {organ: each.dice for organ, each in outcomes.items()},
            DICE_BATCH_STATISTICS: by_batch,
            VOLUME_RATIO: {organ: each.volume_ratio for organ, each in outcomes.items()},
            MOSTLY_CALLED: {organ: each.mostly_called for organ, each in outcomes.items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.seconds, 3),
        }
        if result.gradient_norms is not None:
            line["gradient_norm"] = float(result.gradient_norms.sum())
            line["gradient_share"] = shares(result.gradient_norms, names)
        clip_norm, norm = train.optimiser.clip_norm, result.parameter_norm
        if clip_norm is not None and norm is not None and clip_norm < norm < np.inf:
            line["clipped_norm"] = float(norm)
        if train.diagnose and self.batch.ranks.is_first and self.step in full_steps(train, len(names)):
            inputs = self.network_input(replace(feed, ranks=ALONE).batch(self.step))  # of two windows, any rank's
            with self.batch.alone(), autocast(self.device, train.precision):
                line |= full_diagnosis(self.network, self.optimizer, self.loss, inputs, names)
        if is_validated(train, self.step):
            validation_dice = monitor.validation_dice(self.applied)
            if validation_dice is not None:
                line["validation_dice"] = validation_dice
        return line

    def _log(self, folder: RunFolder, line: dict[str, Any]) -> None:
        """Write a line of the curve, and best.pt where the validation cases say so; warn of what is going wrong."""
        validation_dice = line.get("validation_dice")
        if validation_dice is not None and foreground_mean(validation_dice) > self.best_validation_dice:
            self.best_validation_dice = foreground_mean(validation_dice)
            self._save(folder.best)
        if not self.batch.ranks.is_first:
            return
        self.last_line = line
        folder.append_curve(line)
        self.on_line(line)
        warn_of_batch_norm(folder, self.config.train, line)
        if self.config.train.diagnose:
            warn_half_way(folder, self.config.train, self.step, self.facts.classes)

    def _read_losses(self, watch: LossWatch, folder: RunFolder) -> None:
        bad = watch.read()
        if bad is not None:
            step, loss = bad
            self.step = step - 1
            raise RunFailedError(self._diverged(folder, f"the loss is {loss} at step {step}"))

    def _is_finite(self) -> bool:
        averaged = {} if self.average is None else self.applied.state_dict()
        values = [*self.network.state_dict().values(), *averaged.values()]
        return bool(torch.stack([torch.isfinite(value).all() for value in values]).all())

    def _diverged(self, folder: RunFolder, what: str) -> str:
        train = self.config.train
        if not self.batch.ranks.is_first:
            return f"{what}; process 0 says more"
        return (
            f"{folder.path}: {what} (weighting {train.weighting}, rate {train.learning_rate:g}). "
            f"{self._kept(folder, 'Try a lower --learning-rate.')}"
        )

    def _kept(self, folder: RunFolder, what_to_do: str = "Continue with --resume.") -> str:
        step = f" of step {load_checkpoint(folder.last).step}" if self.batch.ranks.is_first else ""
        return f"The checkpoint{step} is kept. {what_to_do}"
