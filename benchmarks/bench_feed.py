"""Random windows of 64³ from prepared cases, three patients a batch: ours from a store beside MONAI's CacheDataset.

    python -m benchmarks.bench_feed [--quick]

Both end at what the network is given: HU clipped and scaled to [0, 1] as float32, and labels as uint8; of 20 cases of
128×128×200 voxels, the paper's size after downsampling. Ours reads memory maps of int16 and scales each window. MONAI
keeps the scaled scans in memory (`CacheDataset`, cache_rate 1), cuts with `RandSpatialCropd` and collates in its
`DataLoader` or `ThreadDataLoader`. Its settings: as they come; `copy_cache=False`, which its documentation advises
where a transform cuts copies out of the cache; and without the tracking of metadata (`set_track_meta(False)`); in this
process, by a thread, by two processes. With `--device cuda` both hold the cases in the GPU's memory.

- `feed_vs_monai`: against the fastest of these.
- `feed_vs_monai_default`: against `CacheDataset(cache_rate=1)` and `DataLoader`, all else as it comes.
- `feed_vs_monai_int16`: windows alone, not scaled, of int16 in both.

`bound`: copying windows of scaled scans out of memory into a batch, and nothing else: no feed of these is faster.

`share_of_step`: what a training step waits for its windows, over that step: the paper's (64³, batch of three, 32
filters, four levels), in bfloat16 where the processor has it, which is the shortest. Quick: over a step of 32³.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import monai.data
import numpy as np
import torch
from monai import transforms

from benchmarks.bench_train import our_step
from benchmarks.pairs import Benchmark, in_turn
from viscera.core.config import Config, IntensityConfig, PrepareConfig, TrainConfig
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.engine.feed import Feed, cases_of, on_device
from viscera.engine.hardware import computes_bfloat16
from viscera.imaging.windows import network_input
from viscera.io.prepared_case import PreparedCase
from viscera.io.store import Store

SHAPE, CASES, PATCH, BATCH = (128, 128, 200), 20, 64, 3
INTENSITY = IntensityConfig()
IN_PROCESS: dict[str, Any] = {"num_workers": 0}
TWO_PROCESSES: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
Batches = Callable[[int], object]


def make_store(folder: Path, cases: int = CASES) -> Store:
    """Random HU and labels; their values do not matter."""
    rng = np.random.default_rng(0)
    store = Store.create(folder, PrepareConfig(downsample=1), "benchmark")
    geometry = Geometry.from_spacing(SHAPE, (3, 3, 3))
    original = LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (3, 3, 3)))
    for number in range(cases):
        volume = Volume(rng.integers(-1000, 1000, SHAPE, dtype=np.int16), geometry)
        labels = LabelMap(rng.integers(0, 8, SHAPE, dtype=np.uint8), geometry)
        store.add(PreparedCase(f"case_{number:02d}", volume, labels, original, {}))
    store.assign(dict.fromkeys(store.names(), "train"))
    return store


def ours(store: Store, device: torch.device, *, scaled: bool) -> Batches:
    """So many batches of windows, others each time."""
    feed = on_device(Feed(cases_of(store, "train")[0], PATCH, BATCH, seed=0), device, "auto")
    step = 0

    def run(batches: int) -> None:
        nonlocal step
        for _ in range(batches):
            step += 1
            batch = feed.batch(step)
            if scaled:
                network_input(batch.hu, INTENSITY)

    return run


def cached(
    store: Store, device: torch.device, *, scaled: bool, copy_cache: bool, track_meta: bool
) -> monai.data.CacheDataset:
    """All cases in memory, of a GPU where there is one, as MONAI's tutorials of fast training have them."""
    how: dict[str, Any] = {"track_meta": track_meta, "device": device}
    monai.data.set_track_meta(track_meta)
    keys = ["image", "label"]
    names = store.names()
    cases = [
        {
            "image": torch.from_numpy(np.array(store.image(n)))[None],
            "label": torch.from_numpy(np.array(store.labels(n)))[None],
        }
        for n in names
    ]
    prepared: list[Any] = [
        transforms.EnsureTyped(["image"], dtype=torch.float32 if scaled else torch.int16, **how),
        transforms.EnsureTyped(["label"], dtype=torch.uint8, **how),
    ]
    if scaled:
        low, high = INTENSITY.low_hu, INTENSITY.high_hu
        prepared.append(transforms.ScaleIntensityRanged(["image"], low, high, 0.0, 1.0, clip=True))
    crop = transforms.RandSpatialCropd(keys, roi_size=(PATCH,) * 3, random_size=False)
    everything = transforms.Compose([*prepared, crop])
    return monai.data.CacheDataset(cases, everything, cache_rate=1.0, copy_cache=copy_cache, progress=False)


def monais(
    store: Store,
    device: torch.device,
    *,
    scaled: bool,
    threaded: bool = False,
    copy_cache: bool = False,
    track_meta: bool = False,
    **loading: Any,  # noqa: ANN401 - of its loader
) -> Batches:
    """So many batches, in one epoch that does not end, so that no time goes into beginning one."""
    dataset = cached(store, device, scaled=scaled, copy_cache=copy_cache, track_meta=track_meta)
    sampler = torch.utils.data.RandomSampler(dataset, num_samples=1_000_000 // BATCH * BATCH)
    kind = monai.data.ThreadDataLoader if threaded else monai.data.DataLoader
    iterator: Iterator[Any] | None = None

    def run(batches: int) -> None:
        nonlocal iterator
        monai.data.set_track_meta(track_meta)
        if iterator is None:
            iterator = iter(kind(dataset, batch_size=BATCH, sampler=sampler, **loading))
        for _ in range(batches):
            next(iterator)

    return run


def bare_copies(store: Store, device: torch.device) -> Batches:
    """Windows of scaled scans in memory, copied into one batch, and their labels."""
    names, shape = store.names(), (BATCH, PATCH, PATCH, PATCH)
    scans = [network_input(torch.from_numpy(np.array(store.image(n)))[None].to(device), INTENSITY)[0, 0] for n in names]
    labels = [torch.from_numpy(np.array(store.labels(n))).to(device) for n in names]
    x, y = torch.empty(shape, device=device), torch.empty(shape, dtype=torch.uint8, device=device)
    random = np.random.default_rng(0)

    def run(batches: int) -> None:
        for _ in range(batches):
            for slot in range(BATCH):
                number = random.integers(len(names))
                at = [random.integers(n - PATCH + 1) for n in SHAPE]
                window = tuple(slice(n, n + PATCH) for n in at)
                x[slot].copy_(scans[number][window])
                y[slot].copy_(labels[number][window])

    return run


def step_seconds(benchmark: Benchmark) -> dict[str, Any]:
    """The paper's training step, or in a quick run a smaller one: the second of two."""
    precision = "bfloat16" if computes_bfloat16(benchmark.device) else "float32"
    patch = PATCH // 2 if benchmark.quick else PATCH
    train = TrainConfig(patch=patch, batch_size=BATCH, device=str(benchmark.device))
    step = our_step(Config(train=train.model_copy(update={"precision": precision})), benchmark.device)
    return {
        "precision": precision,
        "patch": patch,
        "step_s": statistics.median(in_turn({"step": step}, 3, benchmark.device)["step"]),
    }


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("feed", __doc__, peers=["monai"])
    batches = 30  # many, as processes have four ready when their turn comes
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        advised = "CacheDataset(cache_rate=1, copy_cache=False), set_track_meta(False)"
        default = "CacheDataset(cache_rate=1), DataLoader(num_workers=0)"
        give = functools.partial(monais, store, benchmark.device)
        tracked = give(scaled=True, track_meta=True, **IN_PROCESS)
        best = {
            f"{advised}, DataLoader(num_workers=0)": give(scaled=True, **IN_PROCESS),
            "CacheDataset(cache_rate=1, copy_cache=False), DataLoader(num_workers=0)": tracked,
            f"{advised}, ThreadDataLoader(num_workers=0)": give(scaled=True, threaded=True, **IN_PROCESS),
        }
        if benchmark.device.type == "cpu":  # processes do not pass on what lies on a GPU
            best[f"{advised}, DataLoader(num_workers=2)"] = give(scaled=True, **TWO_PROCESSES)
        plain = {default: give(scaled=True, copy_cache=True, track_meta=True, **IN_PROCESS)}
        raw = {f"{advised}, DataLoader(num_workers=0)": give(scaled=False, **IN_PROCESS)}
        pairs = (("feed_vs_monai", best), ("feed_vs_monai_default", plain), ("feed_vs_monai_int16", raw))
        for name, peers in pairs:
            runs = {settings: functools.partial(run, batches) for settings, run in peers.items()}
            our = functools.partial(ours(store, benchmark.device, scaled=peers is not raw), batches)
            benchmark.time(name, our, runs, goal=5, peer_settings="", batches=batches, repeats=4)
        copies = functools.partial(bare_copies(store, benchmark.device), batches)
        bound_s = statistics.median(in_turn({"bound": copies}, 5, benchmark.device)["bound"])
        benchmark.notes["bound"] = {"what": "copying the windows alone", "seconds": bound_s, "batches": batches}
        pair = benchmark.pairs["feed_vs_monai"]
        pair["what_bounds_it"] = (
            f"copying: patches of scans that are scaled beforehand, copied and nothing else, take {bound_s:.3g} s, so "
            f"no feed of them reaches more than {pair['peer'] / bound_s:.2g}; ours scales each patch anew, of "
            "memory maps of 3 bytes a voxel in place of 5"
        )
        print(f"bound={bound_s:.3g} s for as many batches")
        one = functools.partial(ours(store, benchmark.device, scaled=True), 1)
        wait_s = statistics.median(in_turn({"wait": one}, 50, benchmark.device)["wait"])
    step = step_seconds(benchmark)
    share = wait_s / step["step_s"]
    benchmark.notes["share_of_step"] = {"share": share, "bar": 0.02, "wait_s": wait_s, **step}
    print(f"share_of_step={share:.2g} (bar 0.02; {wait_s:.2g} s of {step['step_s']:.2g} s, {step['precision']})")
    benchmark.write()


if __name__ == "__main__":
    main()
