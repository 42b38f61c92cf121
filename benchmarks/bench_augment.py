"""Augmentation of a batch of three windows of 64³ on one core, beside MONAI's transforms. The bar is 150 ms.

    python -m benchmarks.bench_augment

Both do everything to every window: rotation up to 15° about each axis, scaling, elastic deformation, blur, shift and
noise, with linear interpolation of the HU and the nearest label. The elastic fields are made differently (B-splines on
a grid of 16 voxels; in MONAI smoothed noise), so the pair without deformation is measured too. MONAI gets the windows
as we do, with what lies about them. The paper's training step, which augmentation adds to, is measured once. All but
the pairs are CPU times: a busy machine lengthens the others.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.bench_train import step_of
from benchmarks.pairs import interleaved
from benchmarks.record import record
from viscera.core.config import AugmentConfig
from viscera.engine.feed import Batch, Feed
from viscera.imaging.augment import augment

SHAPE, CASES, PATCH, BATCH = (128, 128, 200), 4, 64, 3
EVERYTHING = AugmentConfig(
    enabled=True,
    rotation_probability=1,
    scaling_probability=1,
    elastic_probability=1,
    blur_probability=1,
    intensity_probability=1,
    noise_probability=1,
)
SETTINGS = {
    "all": EVERYTHING,
    "all_but_elastic": EVERYTHING.model_copy(update={"elastic_probability": 0}),
    "default": AugmentConfig(enabled=True),
}


def make_feed(config: AugmentConfig | None) -> Feed:
    """Random HU and labels; their values do not matter."""
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-1000, 1000, SHAPE, dtype=np.int16), random.integers(0, 8, SHAPE, dtype=np.uint8))
        for _ in range(CASES)
    ]
    return Feed(cases, PATCH, BATCH, 0, config)


def ours(batches: list[Batch]) -> Callable[[], None]:
    """Augment a batch, another one each time."""
    turn = iter(batches * 10)

    def run() -> None:
        batch = next(turn)
        augment(batch.hu, batch.labels, batch.augmentations, PATCH)

    return run


def monais(batches: list[Batch], *, elastic: bool) -> Callable[[], None]:
    """The same with MONAI's transforms of dictionaries, window by window."""
    from monai import transforms  # noqa: PLC0415 - 15 s to import

    spatial = {
        "keys": ["hu", "labels"],
        "prob": 1.0,
        "rotate_range": [np.radians(15)] * 3,
        "scale_range": [0.2] * 3,
        "mode": ["bilinear", "nearest"],
        "padding_mode": "zeros",
        "spatial_size": (PATCH,) * 3,
    }
    if elastic:
        move = transforms.Rand3DElasticd(sigma_range=(5, 7), magnitude_range=(50, 150), **spatial)
    else:
        move = transforms.RandAffined(**spatial)
    both = transforms.Compose(
        [
            move,
            transforms.RandGaussianSmoothd(
                ["hu"], sigma_x=(0.25, 1.0), sigma_y=(0.25, 1.0), sigma_z=(0.25, 1.0), prob=1.0
            ),
            transforms.RandShiftIntensityd(["hu"], offsets=20, prob=1.0),
            transforms.RandGaussianNoised(["hu"], prob=1.0, std=25),
        ]
    ).set_random_state(0)
    turn = iter(batches * 10)

    def run() -> None:
        batch = next(turn)
        for hu, labels in zip(batch.hu, batch.labels, strict=True):
            both({"hu": hu[None].float(), "labels": labels[None].float()})

    return run


def milliseconds(function: Callable[[int], object], repeats: int = 40) -> float:
    """Median CPU time of a call, with 1, 2 and so on."""
    times = []
    for number in range(1, repeats + 1):
        started = time.process_time()
        function(number)
        times.append(1000 * (time.process_time() - started))
    return round(statistics.median(times), 2)


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"bar_ms": 150}
    plain = make_feed(None)
    plain.batch(0)
    figures["feed_ms_per_batch"] = {"off": milliseconds(plain.batch)}
    for name, config in SETTINGS.items():
        feed = make_feed(config)
        batches = [feed.batch(step) for step in range(1, 41)]
        turn = ours(batches)
        figures["feed_ms_per_batch"][name] = milliseconds(feed.batch)
        figures.setdefault("augment_ms_per_batch", {})[name] = milliseconds(lambda _, turn=turn: turn())  # type: ignore[misc]
        if name != "default":
            figures[f"{name}_ours_over_monai"] = interleaved(ours(batches), monais(batches, elastic=name == "all"))
    step = step_of(PATCH, 32, 4, channels_last=False)
    started = time.process_time()
    step()
    figures["training_step_of_the_paper_s"] = round(time.process_time() - started, 2)
    added_ms = figures["augment_ms_per_batch"]["all"] + figures["feed_ms_per_batch"]["all"]
    figures["share_of_a_training_step"] = round(added_ms / 1000 / figures["training_step_of_the_paper_s"], 5)
    record("augment", figures)


if __name__ == "__main__":
    main()
