"""What it costs to log whose gradient it is: a whole training with and without `train.diagnose`, taken in turn.

    python -m benchmarks.bench_diagnostics [--quick]

One thread, phantoms; seconds of the processor, because the machine may be shared. The paper's size is worked out from
one step and one diagnosis of it.

Quick: 60 of the demo's 300 steps, once; for the paper's size windows of 32³, 8 filters.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import torch

from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.engine.diagnostics import full_diagnosis, full_steps, logit_gradient_norms
from viscera.engine.feed import Feed, TrainingFacts
from viscera.engine.monitor import Monitor
from viscera.engine.trainer import Trainer
from viscera.imaging.phantom import phantom_case
from viscera.io.runlog import RunFolder
from viscera.losses.balance import WeightSchedule, class_weights

REPEATS, QUICK_STEPS = 3, 60
QUICK_SIZE = {"train.patch": 32, "train.filters": 8}
CPU = torch.device("cpu")


def training_seconds(config: Config, feed: Feed) -> float:
    """Seconds of the processor for a whole training, checkpoints and all."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer.create(config, facts(), CPU)
        monitor = Monitor.create(feed, [], config.train, config.predict, CPU)
        started = time.process_time()
        trainer.run(feed, monitor, RunFolder(Path(folder)), Event(), lambda _progress: None)
        return time.process_time() - started


def facts() -> TrainingFacts:
    """Weights of some counts; which does not matter to the time."""
    weights = class_weights([900, 2, 1, 50, 6, 9, 1, 2], "simple")
    return TrainingFacts(torch.arange(8), WeightSchedule(weights, weights), ((8.0, 8.0, 8.0),))


def whole_trainings(repeats: int, options: Mapping[str, int]) -> dict[str, Any]:
    """The demo's training, on and off in turn."""
    cases = [phantom_case(0, number, (48, 36, 36)) for number in range(6)]
    config = resolve_config("demo", options={"train.batch_norm": "running", **options})
    feed = Feed([(case.volume.hu, case.label_map.labels) for case in cases], config.train.patch, 3, 0)
    off = config.model_copy(update={"train": config.train.model_copy(update={"diagnose": False})})
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for settings, times in zip((config, off), seconds, strict=True):
            times.append(round(training_seconds(settings, feed), 3))
    ratio = statistics.median(seconds[0]) / statistics.median(seconds[1])
    return {"with_s": seconds[0], "without_s": seconds[1], "ratio_of_medians": round(ratio, 4)}


def papers_size(options: Mapping[str, int]) -> dict[str, Any]:
    """One step of 64³, batch 3, 32 filters, and one diagnosis of each kind, in seconds; their share of 10,000 steps."""
    config = resolve_config("paper", options=options)
    case = phantom_case(0, 0, (64, 64, 64))
    feed = Feed([(case.volume.hu, case.label_map.labels)] * 3, config.train.patch, 3, 0)
    trainer = Trainer.create(config, facts(), CPU)
    batch = feed.batch(1)
    trainer.training_step(batch)
    step = _seconds(lambda: trainer.training_step(batch))
    inputs = trainer.network_input(batch)
    with torch.no_grad():
        logits = trainer.network(inputs.x)
    at_logits = _seconds(lambda: logit_gradient_norms(logits, inputs.labels, trainer.loss))
    full = _seconds(lambda: full_diagnosis(trainer.network, trainer.optimizer, trainer.loss, inputs))
    train = config.train
    logged, fully = train.iterations / train.log_every, len(full_steps(train))
    share = (logged * at_logits + fully * full) / (train.iterations * step)
    return {"step_s": step, "at_the_logits_s": at_logits, "full_s": full, "full_steps": fully, "share": round(share, 5)}


def _seconds(run: Any) -> float:  # noqa: ANN401 - any call without arguments
    started = time.process_time()
    run()
    return round(time.process_time() - started, 3)


def main() -> None:
    """Measure and write `results/diagnostics.json`."""
    quick = is_quick(__doc__)
    torch.set_num_threads(1)
    if quick:
        demo = whole_trainings(1, {"train.iterations": QUICK_STEPS})
        found = {f"demo_{QUICK_STEPS}_steps": demo, "small_10000_steps": papers_size(QUICK_SIZE)}
    else:
        found = {"demo_300_steps": whole_trainings(REPEATS, {}), "paper_10000_steps": papers_size({})}
    record("diagnostics", found, folder=None if quick else RESULTS)


if __name__ == "__main__":
    main()
