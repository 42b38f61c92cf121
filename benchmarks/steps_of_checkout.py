"""The training steps of one checkout of viscera, timed where `benchmarks.bench_before` asks for them.

    PYTHONPATH=CHECKOUT python benchmarks/steps_of_checkout.py STORE '{"demo": {"preset": "demo", "options": {…}}}'

A process of its own, so that it imports that checkout: it takes nothing from beside this file. One line in, `NAME STEP
COUNT`, is one line out: the seconds of the processor that COUNT steps of this training took, from step STEP on, with
the windows that they take. What a line before the first has is the path of the package.
"""

import json
import sys
import time
from pathlib import Path

import torch

import viscera
from viscera.core.resolve import resolve_config
from viscera.engine.feed import facts_of, feed_of
from viscera.engine.trainer import Trainer
from viscera.io.store import Store


def main() -> None:
    """Answer until there is nothing more to read."""
    torch.set_num_threads(1)
    store = Store.open(Path(sys.argv[1]))
    trainings = {}
    for name, given in json.loads(sys.argv[2]).items():
        config = resolve_config(given["preset"], options=given["options"])
        trainer = Trainer.create(config, facts_of(store, config), torch.device("cpu"))
        trainings[name] = (trainer, feed_of(store, config.train))
    print(Path(viscera.__file__).parent, flush=True)
    for line in sys.stdin:
        name, step, count = line.split()
        trainer, feed = trainings[name]
        started = time.process_time()
        for number in range(int(step), int(step) + int(count)):
            trainer.training_step(feed.batch(number))
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
