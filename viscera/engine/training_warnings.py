"""What is said before a training of settings that are possible and rarely meant."""

import logging
from pathlib import Path

from viscera.core.config import Config, TrainConfig
from viscera.core.wording import agreeing
from viscera.io.store import Store

log = logging.getLogger(__name__)


def warn_of_late_schedule(config: Config) -> None:
    """Where the weights will not become what the schedule of the loss says."""
    schedule, iterations = config.train.loss.schedule, config.train.iterations
    if schedule.to is not None and schedule.last_step > iterations:
        log.warning(
            "train.loss.schedule.last_step is %d, and training ends at %d: the weights will not become %s.",
            *(schedule.last_step, iterations, schedule.to),
        )


def warn_of_spent_rate(run: Path, train: TrainConfig) -> None:
    """Where the learning rate is 0 before the end."""
    schedule, last = train.rate_schedule, train.rate_schedule.span(train.iterations)
    if schedule.shape != "constant" and schedule.lowest == 0 and last < train.iterations:
        log.warning(
            "%s: its rate falls to 0 at step %d (train.rate_schedule), and it is trained to step %d: the steps "
            "after change no weight. Train a new run of so many steps, or one with a lowest rate above 0.",
            *(run, last, train.iterations),
        )


def warn_of_small_scans(store: Store, patch: int) -> None:
    """Where much of the patches will be padding."""
    shapes = [store.manifest.cases[name].prepared.shape for name in store.names("train")]
    small = [shape for shape in shapes if min(shape) < patch]
    if small:
        log.warning(
            "%s: %d of %d training scans %s smaller than the patch of %d voxels along an axis, the smallest with "
            "%s; the rest is padding. Prepare them with a smaller --downsample or --spacing-mm, or lower --patch.",
            *(store.path, len(small), len(shapes), agreeing(len(small)), patch),
            "×".join(map(str, min(small, key=lambda shape: (min(shape), shape)))),
        )
