"""Augmentation of a batch of three windows of 64³, beside MONAI, batchgeneratorsv2 and TorchIO.

    python -m benchmarks.bench_augmentation [--quick]

All do everything to every window: rotation up to 15° about each axis, scaling up to 1.2, elastic deformation, blur,
contrast, shift and noise, HU linear, labels nearest. The elastic fields are made differently (B-splines on a grid of 16
voxels; smoothed noise in MONAI and batchgeneratorsv2; B-splines in TorchIO), so each pair is measured without them too.

MONAI and batchgeneratorsv2 are given the windows as we are, with what lies about them; TorchIO, whose transforms keep
the shape, the windows alone, which is less work. Their settings, of which the fastest counts:

- MONAI: `Rand3DElasticd`, or `RandAffined` and `RandGridDistortiond`; with and without tracking of metadata; without
  deformation `RandAffined`, or `RandRotated` and `RandZoomd` resampled lazily, at once.
- batchgeneratorsv2: nnU-Net's transforms with every probability 1; labels nearest, or as nnU-Net has them (each label
  interpolated).
- TorchIO: `RandomAffine` and `RandomElasticDeformation`, or both at once (`RandomAffineElasticDeformation`).

With `--device cuda` the windows lie on the GPU, and MONAI is the only peer.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import monai.data
import numpy as np
import torch
from monai import transforms

from benchmarks.pairs import Benchmark
from viscera.core.config import AugmentConfig
from viscera.engine.feed import Batch, Feed
from viscera.imaging.augment import augment

SHAPE, CASES, PATCH, BATCH = (128, 128, 200), 4, 64, 3
GOALS = {"monai": 2.0, "batchgenerators": 1.2, "torchio": 1.0}
EVERYTHING = AugmentConfig(
    enabled=True,
    rotation_probability=1,
    scaling_probability=1,
    elastic_probability=1,
    blur_probability=1,
    intensity_probability=1,
    noise_probability=1,
)
NO_ELASTIC = EVERYTHING.model_copy(update={"elastic_probability": 0})
Windows = list[tuple[torch.Tensor, torch.Tensor]]  # HU and labels of a batch, (1, I, J, K) each
Transform = Callable[[torch.Tensor, torch.Tensor], object]


def make_feed(config: AugmentConfig | None) -> Feed:
    """Random HU and labels; their values do not matter."""
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-1000, 1000, SHAPE, dtype=np.int16), random.integers(0, 8, SHAPE, dtype=np.uint8))
        for _ in range(CASES)
    ]
    return Feed(cases, PATCH, BATCH, 0, config)


def on(device: torch.device, batch: Batch) -> Batch:
    """A batch whose windows are there."""
    return batch._replace(hu=batch.hu.to(device), labels=batch.labels.to(device))


def ours(batches: list[Batch]) -> Callable[[], None]:
    """Augment a batch, another one each time."""
    turn = 0

    def run() -> None:
        nonlocal turn
        turn += 1
        batch = batches[turn % len(batches)]
        augment(batch.hu, batch.labels, batch.augmentations, PATCH)

    return run


def theirs(batches: list[Batch], transform: Transform, *, middle: bool = False) -> Callable[[], None]:
    """The same, window by window; `middle` leaves out what lies about the windows."""
    turn = 0

    def run() -> None:
        nonlocal turn
        turn += 1
        batch = batches[turn % len(batches)]
        for hu, labels in zip(batch.hu.float(), batch.labels, strict=True):
            pair = hu[None], labels[None]
            if middle:
                around = [(n - PATCH) // 2 for n in hu.shape]
                part = (slice(None), *(slice(n, n + PATCH) for n in around))
                pair = pair[0][part], pair[1][part]
            transform(*pair)

    return run


def monais(*, elastic: bool) -> dict[str, Transform]:
    """MONAI's transforms of dictionaries, by what they are."""
    keys, radians = ["hu", "labels"], float(np.radians(15))
    size = (PATCH,) * 3
    modes: dict[str, Any] = {"mode": ["bilinear", "nearest"], "padding_mode": "zeros"}
    affine: dict[str, Any] = {"rotate_range": [radians] * 3, "scale_range": [0.2] * 3, "spatial_size": size, **modes}
    turn: dict[str, Any] = {"range_x": radians, "range_y": radians, "range_z": radians, "prob": 1.0}
    moves: dict[str, list[Any]] = {"RandAffined": [transforms.RandAffined(keys, prob=1.0, cache_grid=True, **affine)]}
    if elastic:
        distorted = transforms.RandGridDistortiond(keys, num_cells=5, prob=1.0, distort_limit=0.1, **modes)
        smoothed = transforms.Rand3DElasticd(keys, sigma_range=(5, 7), magnitude_range=(50, 150), prob=1.0, **affine)
        moves = {"RandAffined, RandGridDistortiond": [*moves["RandAffined"], distorted], "Rand3DElasticd": [smoothed]}
    else:
        zoom = transforms.RandZoomd(keys, prob=1.0, min_zoom=0.8, max_zoom=1.2, mode=["bilinear", "nearest"])
        crop = transforms.CenterSpatialCropd(keys, size)
        moves["RandRotated, RandZoomd, lazy"] = [transforms.RandRotated(keys, **turn, **modes), zoom, crop]
    sigma: dict[str, Any] = {f"sigma_{axis}": (0.25, 1.0) for axis in "xyz"}
    intensity = [
        transforms.RandGaussianSmoothd(["hu"], prob=1.0, **sigma),
        transforms.RandScaleIntensityd(["hu"], factors=0.1, prob=1.0),
        transforms.RandShiftIntensityd(["hu"], offsets=20, prob=1.0),
        transforms.RandGaussianNoised(["hu"], prob=1.0, std=25),
    ]
    found: dict[str, Transform] = {}
    for tracked in (False, True):
        for name, move in moves.items():
            lazy = "lazy" in name
            if lazy and not tracked:
                continue  # what is pending stands in the metadata
            both = transforms.Compose([*move, *intensity], lazy=lazy).set_random_state(0)

            def run(hu: torch.Tensor, labels: torch.Tensor, both: Any = both, tracked: bool = tracked) -> object:  # noqa: ANN401
                monai.data.set_track_meta(tracked)
                return both({"hu": hu, "labels": labels.float()})

            found[name if tracked else f"{name}, set_track_meta(False)"] = run
    return found


def batchgenerators(*, elastic: bool) -> dict[str, Transform]:
    """batchgeneratorsv2's transforms of nnU-Net, by what they are."""
    from batchgeneratorsv2.transforms.intensity.brightness import (  # noqa: PLC0415 - not on a GPU machine, as a rule
        MultiplicativeBrightnessTransform,
    )
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform  # noqa: PLC0415
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform  # noqa: PLC0415
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform  # noqa: PLC0415
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform  # noqa: PLC0415
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms  # noqa: PLC0415

    radians = float(np.radians(15))
    found: dict[str, Transform] = {}
    for mode in ("nearest", "bilinear"):
        spatial = SpatialTransform(
            (PATCH,) * 3,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=float(elastic),
            p_rotation=1,
            rotation=(-radians, radians),
            p_scaling=1,
            scaling=(1 / 1.2, 1.2),
            p_synchronize_scaling_across_axes=1,
            mode_seg=mode,
        )
        both = ComposeTransforms(
            [
                spatial,
                GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True),
                GaussianBlurTransform((0.25, 1.0), p_per_channel=1, benchmark=True),
                MultiplicativeBrightnessTransform((0.9, 1.1), synchronize_channels=False, p_per_channel=1),
                ContrastTransform((0.9, 1.1), preserve_range=True, synchronize_channels=False, p_per_channel=1),
            ]
        )

        def run(hu: torch.Tensor, labels: torch.Tensor, both: Any = both) -> object:  # noqa: ANN401
            return both(image=hu, segmentation=labels.short())

        found[f"SpatialTransform(mode_seg={mode!r})"] = run
    return found


def torchios(*, elastic: bool) -> dict[str, Transform]:
    """TorchIO's transforms of subjects, by what they are."""
    import torchio  # noqa: PLC0415 - not on a GPU machine, as a rule

    moves: dict[str, list[Any]] = {"RandomAffine": [torchio.RandomAffine(scales=0.2, degrees=15)]}
    if elastic:
        deform = torchio.RandomElasticDeformation(num_control_points=7, max_displacement=4.5)
        moves = {"RandomAffine, RandomElasticDeformation": [*moves["RandomAffine"], deform]}
        how = {"scales": 0.2, "degrees": 15}, {"num_control_points": 7, "max_displacement": 4.5}
        at_once = torchio.RandomAffineElasticDeformation(affine_kwargs=how[0], elastic_kwargs=how[1])
        moves["RandomAffineElasticDeformation"] = [at_once]
    found: dict[str, Transform] = {}
    for name, move in moves.items():
        both = torchio.Compose(
            [
                *move,
                torchio.RandomBlur(std=(0.25, 1)),
                torchio.RandomGamma(log_gamma=0.1),
                torchio.RandomNoise(std=(0, 25)),
            ]
        )

        def run(hu: torch.Tensor, labels: torch.Tensor, both: Any = both) -> object:  # noqa: ANN401
            subject = torchio.Subject(hu=torchio.ScalarImage(tensor=hu), labels=torchio.LabelMap(tensor=labels))
            return both(subject)

        found[name] = run
    return found


def milliseconds(run: Callable[[int], object], repeats: int) -> float:
    """Median CPU time of a call, with 1, 2 and so on."""
    times = []
    for number in range(1, repeats + 1):
        started = time.process_time()
        run(number)
        times.append(1000 * (time.process_time() - started))
    return round(statistics.median(times), 2)


def main() -> None:
    """Measure and record."""
    benchmark = Benchmark.of_command_line("augmentation", __doc__, peers=["monai", "batchgeneratorsv2", "torchio"])
    peers: Mapping[str, Callable[..., dict[str, Transform]]]
    peers = {"monai": monais, "batchgenerators": batchgenerators, "torchio": torchios}
    if benchmark.device.type != "cpu":  # of these MONAI's transforms compute where their tensors are
        peers = {"monai": monais}
    repeats = 5 if benchmark.quick else 20
    for suffix, config in (("", EVERYTHING), ("_no_elastic", NO_ELASTIC)):
        feed = make_feed(config)
        batches = [on(benchmark.device, feed.batch(step)) for step in range(1, repeats + 1)]
        run = ours(batches)
        benchmark.notes[f"cpu_ms_per_batch{suffix or '_everything'}"] = {
            "feed": milliseconds(feed.batch, repeats),
            "augment": milliseconds(lambda _, run=run: run(), repeats),  # type: ignore[misc]
        }
        for peer, made in peers.items():
            settings = {
                name: theirs(batches, transform, middle=peer == "torchio")
                for name, transform in made(elastic=not suffix).items()
            }
            name = f"augmentation_vs_{peer}{suffix}"
            benchmark.time(name, run, settings, goal=GOALS[peer], peer_settings="", repeats=3)
    benchmark.write()


if __name__ == "__main__":
    main()
