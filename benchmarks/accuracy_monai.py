"""A MONAI script as a contender of `bench_accuracy`, made of what its tutorials have for abdominal CT.

Transforms, loss and inference are those of its tutorials `swin_unetr_btcv_segmentation_3d` and
`spleen_segmentation_3d`: HU from -175 to 250, cropping to the foreground, four windows a step of which half are centred
on an organ, mirroring, turns by 90° and shifts of intensity; `UNet` with two residual units a level; `DiceCELoss`;
AdamW with a weight decay of 1e-5; sliding windows with Gaussian weights. Two things differ: the rate (`RATES`), since
the tutorials' 1e-4 is for days on a GPU, and the windows are as large as ours, for which one thread has the time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy_data import DataSet, Fast, OnStep

RATES = {"monai": 1e-3, "monai-tutorial-rate": 1e-4}
_CHANNELS, _STRIDES = (16, 32, 64, 128, 256), (2, 2, 2, 2)
_WINDOWS, _OVERLAP, _KEPT_EVERY = 4, 0.5, 200


class Monai:
    """The script: CacheDataset, UNet, DiceCELoss, AdamW with cosine annealing to the last step."""

    mirrors = False
    fast: Sequence[Fast] = tuple(Fast(bfloat16, last) for bfloat16 in (False, True) for last in (False, True))

    def __init__(self, data: DataSet, key: str, patch: int) -> None:
        self.data, self.key, self.costs_like = data, key, "monai"
        self.rate = RATES[key]
        self.title = self.cost_title = f"MONAI, rate {self.rate:g}"
        self.prepared = data.work / "prepared" / "monai"
        self.patch = 16 * math.ceil(max(patch, 32) / 16)  # four halvings

    def settings(self) -> Mapping[str, Any]:
        """What was set."""
        return {
            "network": f"UNet, channels {_CHANNELS}, two residual units a level, batch normalisation",
            "window": self.patch,
            "windows_a_step": _WINDOWS,
            "optimiser": f"AdamW, rate {self.rate:g} with cosine annealing, weight decay 1e-5",
            "inference": f"sliding windows, overlap {_OVERLAP}, Gaussian",
        }

    def load(self) -> None:
        """What the methods import."""
        for name in ("data", "inferers", "losses", "networks.nets", "transforms"):
            import_module(f"monai.{name}")

    def prepare(self) -> None:
        """Nothing: the script reads raw data into memory as a training begins."""

    prepare_again = prepare

    def _transforms(self, keys: Sequence[str]) -> list[Any]:
        from monai import transforms as t  # noqa: PLC0415 - slow, and not in every environment

        raw = next((self.data.raw / "imagesTr").iterdir())
        spacing = tuple(float(x) for x in nib.load(raw).header.get_zooms()[:3])
        modes = ("bilinear", "nearest")[: len(keys)]
        return [
            t.LoadImaged(keys),
            t.EnsureChannelFirstd(keys),
            t.ScaleIntensityRanged("image", a_min=-175, a_max=250, b_min=0, b_max=1, clip=True),
            t.CropForegroundd(keys, source_key="image", allow_smaller=True),
            t.Orientationd(keys, axcodes="RAS", labels=None),
            t.Spacingd(keys, pixdim=spacing, mode=modes),
        ]

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        from monai import transforms as t  # noqa: PLC0415
        from monai.data import CacheDataset, DataLoader  # noqa: PLC0415

        keys = ("image", "label")
        roi = (self.patch,) * 3
        random = [
            t.SpatialPadd(keys, roi),
            t.RandCropByPosNegLabeld(
                keys, "label", roi, pos=1, neg=1, num_samples=_WINDOWS, image_key="image", image_threshold=0
            ),
            *(t.RandFlipd(keys, prob=0.1, spatial_axis=axis) for axis in range(3)),
            t.RandRotate90d(keys, prob=0.1, max_k=3),
            t.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
        raw = self.data.raw
        files = [
            {"image": str(raw / "imagesTr" / f"{case}_0000.nii.gz"), "label": str(raw / "labelsTr" / f"{case}.nii.gz")}
            for case in self.data.training
        ]
        read = t.Compose([*self._transforms(keys), *random])
        cases = CacheDataset(files, read, num_workers=0, progress=False)
        while True:
            yield from DataLoader(cases, batch_size=1, shuffle=True, num_workers=0)

    def _network(self, fast: Fast) -> nn.Module:
        from monai.networks.nets import UNet  # noqa: PLC0415

        network: nn.Module = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=len(self.data.classes),
            channels=_CHANNELS,
            strides=_STRIDES,
            num_res_units=2,
            norm="batch",
        )
        if fast.channels_last:
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return network

    def train(self, steps: int, seed: int, folder: Path, fast: Fast, on_step: OnStep) -> int:
        """From raw data to `model.pt`; what was cut off goes on from its last checkpoint, with other windows."""
        from monai.losses import DiceCELoss  # noqa: PLC0415
        from monai.utils import set_determinism  # noqa: PLC0415

        set_determinism(seed)
        torch.use_deterministic_algorithms(mode=False)
        network = self._network(fast)
        loss = DiceCELoss(to_onehot_y=True, softmax=True)
        optimiser = torch.optim.AdamW(network.parameters(), self.rate, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
        done, path = 0, folder / "model.pt"
        if path.exists():
            kept = torch.load(path, weights_only=True)
            done = kept.pop("step")
            for name, state in kept.items():
                parts[name].load_state_dict(state)
            set_determinism(seed + 1000 * done)
            torch.use_deterministic_algorithms(mode=False)
        network.train()
        for step, batch in zip(range(done + 1, steps + 1), self._batches(), strict=False):
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast.bfloat16):
                logits = network(batch["image"].as_subclass(Tensor))
            value = loss(logits.float(), batch["label"].as_subclass(Tensor))
            value.backward()
            optimiser.step()
            schedule.step()
            if step % _KEPT_EVERY == 0 or step == steps:
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save({**states, "step": step}, path)
            on_step()
        return steps

    def predict(
        self,
        folder: Path,
        scans: Sequence[Path],
        out: Path,
        fast: Fast,
        *,
        mirrored: bool,  # noqa: ARG002
    ) -> None:
        """Sliding windows, and the transforms undone."""
        from monai import transforms as t  # noqa: PLC0415
        from monai.inferers import sliding_window_inference  # noqa: PLC0415

        network = self._network(fast).eval()
        network.load_state_dict(torch.load(folder / "model.pt", weights_only=True)["network"])
        before = t.Compose(self._transforms(("image",)))
        to_file = {"output_dir": out, "output_postfix": "", "separate_folder": False, "print_log": False}
        after = t.Compose(
            [
                t.AsDiscreted("pred", argmax=True),
                t.Invertd("pred", transform=before, orig_keys="image", nearest_interp=True),
                t.SaveImaged("pred", output_ext=".nii.gz", output_dtype=np.uint8, resample=False, **to_file),
            ]
        )
        roi = (self.patch,) * 3
        for scan in scans:
            data = before({"image": str(scan)})
            x = data["image"].unsqueeze(0)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast.bfloat16):
                logits = sliding_window_inference(x, roi, _WINDOWS, network, _OVERLAP, "gaussian")
            data["pred"] = logits[0].float()
            after(data)
            (out / scan.name).rename(out / scan.name.replace("_0000", ""))
