"""What recomputed statistics of batch normalisation cost at the paper's size: 64³ windows, batch 3, 32 filters.

    python -m benchmarks.bench_batch_norm [--quick]

A training step and a pass over the monitor's windows, in turn; seconds of the processor, one thread, a phantom. Every
logged step has one pass, whatever `train.batch_norm` says: it also measures Dice by the statistics of each batch.

Quick: windows of 32³, 8 filters, once.
"""

import statistics
import time

import torch

from benchmarks.bench_diagnostics import CPU, facts
from benchmarks.quick import is_quick
from benchmarks.record import RESULTS, record
from viscera.core.resolve import resolve_config
from viscera.engine.feed import Feed
from viscera.engine.monitor import Monitor
from viscera.engine.trainer import Trainer
from viscera.imaging.phantom import phantom_case

REPEATS = 2
QUICK = {"train.patch": 32, "train.filters": 8}


def main() -> None:
    """Measure and write `results/batch_norm.json`."""
    quick = is_quick(__doc__)
    torch.set_num_threads(1)
    config = resolve_config("paper", options=QUICK if quick else None)
    train, case = config.train, phantom_case(0, 0, (64, 64, 64))
    feed = Feed([(case.volume.hu, case.label_map.labels)] * 3, train.patch, train.batch_size, 0)
    trainer = Trainer.create(config, facts(), CPU)
    monitor = Monitor.create(feed, [], train, config.predict, CPU)
    batch = feed.batch(1)
    steps, passes = [], []
    for _ in range(1 if quick else REPEATS):
        started = time.process_time()
        trainer.training_step(batch)
        between = time.process_time()
        monitor.batch_statistics_dice(trainer.network, keep=True)
        steps.append(round(between - started, 3))
        passes.append(round(time.process_time() - between, 3))
    share = statistics.median(passes) / (train.log_every * statistics.median(steps))
    figures = {"step_s": steps, "pass_over_windows_s": passes, "log_every": train.log_every, "share": round(share, 5)}
    size = f"paper_{train.patch}_batch_{train.batch_size}_filters_{train.filters}"
    record("batch_norm", {size: figures}, folder=None if quick else RESULTS)


if __name__ == "__main__":
    main()
