"""From a NIfTI file to a label map file on its own grid: ours beside MONAI and nnU-Net, with one trained network.

    python -m benchmarks.bench_predict [--quick]

The network is trained on phantoms first, by `viscera train`; the peers get its weights, and their own reading,
resampling, windows and writing, as their documentation has them. All have the network in memory; ours is
`viscera.Predictor` with `predict.mode: auto`, between `viscera.read_volume` and a file. Dice is the organs' mean on the
scan's own grid. Two threads. The note `command_s` is all of `viscera predict`, which also loads the model, takes
checksums and measures the organs.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pairs import Benchmark
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PredictConfig
from viscera.core.geometry import Index3
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import computes_bfloat16
from viscera.engine.predictor import Predictor
from viscera.engine.trained_model import build_network
from viscera.io.checkpoint import load_checkpoint
from viscera.io.nifti import read_labels, write_nifti
from viscera.io.scans import read_volume
from viscera.metrics.overlap import confusion_matrix, dice
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train

THREADS = 2
REPEATS = 7
Segment = Callable[[Path], Path]  # from a scan's file to a label map's


@dataclass(frozen=True)
class Setting:
    """What is trained, and what is predicted."""

    spacing_mm: float  # of the network's grid
    training: Index3  # shape of its phantoms
    cases: int
    patch: int  # edge of the training's windows, and of the peers' unless they say otherwise
    options: Mapping[str, Any]  # of the training
    scans: Mapping[str, tuple[Index3, float]]  # by what their pairs end in: shape and spacing


FULL = Setting(
    spacing_mm=3.0,
    training=(128, 128, 100),
    cases=6,
    patch=64,
    options={"train.filters": 16, "train.iterations": 100, "train.batch_size": 1},
    scans={"_128": ((128, 128, 192), 3.0), "_512": ((512, 512, 400), 0.75)},
)
QUICK = Setting(
    spacing_mm=6.0,
    training=(64, 64, 48),
    cases=4,
    patch=32,
    options={"train.filters": 8, "train.iterations": 10, "train.batch_size": 1},
    scans={"_128": ((64, 64, 96), 6.0)},
)


def trained(folder: Path, setting: Setting) -> Path:
    """A run on phantoms."""
    make_phantoms(folder / "phantom", setting.cases, 1, setting.training, setting.spacing_mm, jobs=THREADS)
    given = {"prepare.spacing_mm": setting.spacing_mm, "prepare.test_fraction": 0, "train.learning_rate": 0.01}
    schedule: dict[str, Any] = {
        "train.patch": setting.patch,
        "train.monitor_windows": 4,
        "train.checkpoint_every": 1000,
        "train.log_every": 1000,
    }
    schedule["train.precision"] = "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"
    config = resolve_config(options=given | schedule | dict(setting.options))
    prepare(folder / "phantom", folder / "store", config.prepare)
    train(folder / "store", folder / "run", config)
    return folder / "run"


Mode = Literal["auto", "sub_volumes"]


def how(run: Path, mode: Mode) -> PredictConfig:
    """As the run says, but for the mode."""
    return load_checkpoint(run / "last.pt").config.predict.model_copy(update={"mode": mode})


def ours(run: Path, mode: Mode) -> Segment:
    """The library's predictor."""
    predictor = Predictor.load(run, how(run, mode))

    def segment(scan: Path) -> Path:
        out = run.parent / "ours" / scan.name.replace("_0000", f"_{mode}")
        write_nifti(out, predictor(read_volume(scan)))
        return out

    return segment


def command_seconds(run: Path, scan: Path) -> float:
    """Of `viscera predict --mode auto`, without the start of Python."""
    out = run.parent / f"{scan.parent.parent.name}_command" / scan.name
    started = time.perf_counter()
    predict(run, scan, out, how(run, "auto"))
    return round(time.perf_counter() - started, 2)


# ------------------------------------------------------------------------------------------------------------ MONAI


@dataclass(frozen=True)
class Monai:
    """Its transforms, sliding windows and inverse, as its bundles arrange them (spleen_ct_segmentation)."""

    network: Callable[[Tensor], Tensor]
    spacing_mm: float
    folder: Path
    roi: int | None  # None: the whole volume
    overlap: float = 0.5
    windows: int = 4
    bfloat16: bool = False
    without_air: bool = False

    def __call__(self, scan: Path) -> Path:
        """Segment a scan."""
        from monai import transforms as t  # noqa: PLC0415 - slow, and not in every environment
        from monai.inferers import sliding_window_inference  # noqa: PLC0415

        before = t.Compose(
            [
                t.LoadImaged("image"),
                t.EnsureChannelFirstd("image"),
                t.Orientationd("image", axcodes="RAS", labels=None),
                t.Spacingd("image", pixdim=(self.spacing_mm,) * 3, mode="bilinear"),
                t.ScaleIntensityRanged("image", a_min=-500, a_max=500, b_min=0, b_max=1, clip=True),
                *([t.CropForegroundd("image", source_key="image", margin=8)] if self.without_air else []),
            ]
        )
        folder = (
            self.folder / f"{self.roi}_{self.overlap}_{self.bfloat16}_{self.without_air}_{type(self.network).__name__}"
        )
        to_file = {"output_dir": folder, "output_postfix": "monai", "separate_folder": False, "print_log": False}
        after = t.Compose(
            [
                t.AsDiscreted("pred", argmax=True),
                t.Invertd("pred", transform=before, orig_keys="image", nearest_interp=True),
                t.SaveImaged("pred", output_ext=".nii.gz", output_dtype=np.uint8, resample=False, **to_file),
            ]
        )
        data = before({"image": str(scan)})
        x = data["image"].unsqueeze(0)
        roi = x.shape[2:] if self.roi is None else (self.roi,) * 3
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits = sliding_window_inference(x, roi, self.windows, self.network, self.overlap, "gaussian")
        data["pred"] = logits[0].float()
        after(data)
        return folder / scan.name.replace(".nii.gz", "_monai.nii.gz")


def monai_at_its_best(network: nn.Module, setting: Setting, folder: Path) -> dict[str, Segment]:
    """What might be its fastest settings on a processor with bfloat16, by what they are."""
    fast = partial(Monai, network, setting.spacing_mm, folder, windows=1, bfloat16=True)
    named = "bfloat16 autocast, channels last, "
    settings: dict[str, Segment] = {
        named + "roi 1.5 times the training's, overlap 0.25": fast(setting.patch * 3 // 2, 0.25),
        named + "roi twice the training's, overlap 0.125": fast(setting.patch * 2, 0.125),
        named + "the whole volume": fast(None, 0.0),
        named + "the whole volume, cropped to the foreground": fast(None, 0.0, without_air=True),
    }
    return settings


def compiled(network: nn.Module, setting: Setting, folder: Path, scan: Path) -> Segment:
    """The whole volume by torch.compile, which has compiled for this scan already."""
    segment = Monai(torch.compile(network), setting.spacing_mm, folder, None, 0.0, 1, bfloat16=True)
    segment(scan)
    return segment


# ----------------------------------------------------------------------------------------------------------- nnU-Net


def nnunet(network: nn.Module, setting: Setting, folder: Path, *, mirroring: bool) -> Segment:
    """Its predictor, with its defaults for a tile step, weights of the tiles and resampling."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: PLC0415
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    resampling = {
        f"resampling_fn_{what}{kwargs}": {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
        if kwargs
        else "resample_data_or_seg_to_shape"
        for what, is_seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1))
        for kwargs in ("", "_kwargs")
    }
    configuration = {
        "data_identifier": "viscera",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [setting.patch] * 3,
        "median_image_size_in_voxels": list(setting.training),
        "spacing": [setting.spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"network_class_name": "viscera.UNet3D", "arch_kwargs": {}, "_kw_requires_import": []},
        "batch_dice": True,
        **resampling,
    }
    hu = {"mean": -500.0, "std": 1000.0, "percentile_00_5": -500.0, "percentile_99_5": 500.0}  # to [0, 1], as ours
    plans = {
        "dataset_name": "viscera",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [2, 1, 0],  # its axes are those of SimpleITK
        "transpose_backward": [2, 1, 0],
        "image_reader_writer": "SimpleITKIO",
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": hu},
        "configurations": {"3d_fullres": configuration},
    }
    labels = {name: label for label, name in enumerate(CLASS_NAMES)}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    manager = PlansManager(plans)
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    of_plans = manager, manager.get_configuration("3d_fullres")
    predictor.manual_initialization(network, *of_plans, [network.state_dict()], dataset, "viscera", (0, 1, 2))

    def segment(scan: Path) -> Path:
        out = folder / scan.name.replace("_0000.nii.gz", "")
        predictor.predict_from_files_sequential([[str(scan)]], [str(out)])
        return out.with_name(out.name + ".nii.gz")

    return segment


# ------------------------------------------------------------------------------------------------------ what is asked


def organ_dice(prediction: Path, reference: Path) -> float:
    """Mean over the organs that either label map has."""
    found = dice(confusion_matrix(read_labels(prediction).labels, read_labels(reference).labels))[1:]
    return float(np.mean([each for each in found if each is not None]))


def compare(benchmark: Benchmark, folder: Path, setting: Setting) -> None:
    """All pairs of one set-up."""
    run = trained(folder, setting)
    folders = {name: folder / name for name in ("ours", "monai", "nnunet")}
    for each in folders.values():
        each.mkdir()
    checkpoint = load_checkpoint(run / "last.pt")
    benchmark.notes["training"] = {**setting.options, "precision": checkpoint.config.train.precision}
    network = build_network(checkpoint.config.train).eval()
    network.load_state_dict(checkpoint.model)
    ours_by_mode: dict[Mode, Segment] = {mode: ours(run, mode) for mode in get_args(Mode)}
    plain = deepcopy(network).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    default: dict[str, Segment] = {
        "float32, roi of the training, overlap 0.5, gaussian": Monai(
            plain, setting.spacing_mm, folders["monai"], setting.patch
        )
    }
    best = monai_at_its_best(network, setting, folders["monai"])
    tiles: dict[str, Segment] = {
        "step 0.5, gaussian, no mirroring": nnunet(plain, setting, folders["nnunet"], mirroring=False)
    }
    for suffix, (shape, spacing_mm) in setting.scans.items():
        where = folder / f"scans{suffix}"
        make_phantoms(where, 1, 7, shape, spacing_mm)
        scan, truth = next((where / "imagesTr").iterdir()), next((where / "labelsTr").iterdir())
        written: dict[str, Path] = {}

        def segment(
            what: str, by: Segment, scan: Path = scan, written: dict[str, Path] = written
        ) -> Callable[[], None]:
            return lambda: written.update({what: by(scan)})

        at_best = dict(best)
        if (
            suffix == "_128" and not benchmark.quick
        ):  # of a shape; the other scan takes longer to compile for than to predict
            at_best["bfloat16 autocast, channels last, the whole volume, torch.compile"] = compiled(
                network, setting, folders["monai"], scan
            )
        goals = (
            ("predict_vs_monai", default, 6),
            ("predict_vs_monai_best", at_best, 2),
            ("predict_vs_nnunet", tiles, 3),
        )
        for name, peers, goal in goals:
            timed = {what: segment(f"{name}: {what}", peer) for what, peer in peers.items()}
            ours_now = segment("ours, auto", ours_by_mode["auto"])
            benchmark.time(name + suffix, ours_now, timed, goal=goal, peer_settings="", repeats=REPEATS)
        written["ours, sub_volumes"] = ours_by_mode["sub_volumes"](scan)
        benchmark.notes[f"command_s{suffix}"] = command_seconds(run, scan)
        dices = {what: round(organ_dice(path, truth), 4) for what, path in written.items()}
        benchmark.notes[f"dice{suffix}"] = dices
        for name, *_ in goals:
            pair = benchmark.pairs[name + suffix]
            peers_dice = dices[f"{name}: {pair['peer_settings']}"]
            pair["dice"] = (
                f"{dices['ours, auto']} of ours, {peers_dice} of the peer, on a phantom after a short training"
            )


def main() -> None:
    """Measure and record."""
    warnings.simplefilter("ignore")  # of the peers, about themselves
    benchmark = Benchmark.of_command_line("predict", __doc__, peers=["monai", "nnunetv2", "nibabel"])
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        compare(benchmark, Path(folder), QUICK if benchmark.quick else FULL)
    benchmark.write()


if __name__ == "__main__":
    main()
