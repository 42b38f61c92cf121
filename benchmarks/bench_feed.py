"""Windows of 64³ a second from a store on local disk, on one core. The bar is 1,000.

    python -m benchmarks.bench_feed

The store is made for the benchmark: eight cases of 128×128×200 voxels, the paper's size after downsampling.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import record
from viscera.core.config import PrepareConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.engine.feed import Feed
from viscera.io.store import PreparedCase, Store

SHAPE, CASES, PATCH, BATCH, STEPS, REPEATS = (128, 128, 200), 8, 64, 3, 200, 5


def make_store(folder: Path) -> Store:
    """Random HU and labels; their values do not matter."""
    rng = np.random.default_rng(0)
    store = Store.create(folder, PrepareConfig(downsample=1), "benchmark")
    geometry = Geometry.from_spacing(SHAPE, (3, 3, 3))
    for number in range(CASES):
        volume = Volume(rng.integers(-1000, 1000, SHAPE, dtype=np.int16), geometry)
        labels = LabelMap(rng.integers(0, 8, SHAPE, dtype=np.uint8), geometry)
        store.add(PreparedCase(f"case_{number}", volume, labels, labels, {}))
    store.assign(dict.fromkeys(store.names(), "train"))
    return store


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        feed = Feed([(store.image(n), store.labels(n)) for n in store.names()], PATCH, BATCH, seed=0)
        rates = []
        for repeat in range(REPEATS):
            started = time.perf_counter()
            for step in range(STEPS):
                feed.batch(repeat * STEPS + step)
            rates.append(STEPS * BATCH / (time.perf_counter() - started))
    record("feed", {"windows_64_per_second": [round(rate) for rate in rates], "bar": 1000})


if __name__ == "__main__":
    main()
