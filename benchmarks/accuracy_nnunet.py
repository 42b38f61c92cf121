"""nnU-Net 2.8 as a contender of `bench_accuracy`: its planner, preprocessing, trainer and predictor, on one thread.

Its trainer is taken as it is, but for this, all in its favour or of no account: all training cases are trained on
(fold `all`); epochs are short, so that its own polynomial schedule ends at the last step; the windows that it would
look at between the epochs, and its picture of the progress, are left out; bfloat16 autocast, where that is faster (on
GPUs it uses mixed precision too; on processors it has none). Its processes for reading are threads, so that importing
nnU-Net again in each costs nothing.
"""

import contextlib
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy_data import NUMBER, DataSet, Fast, OnStep
from viscera.core.config import TrainConfig
from viscera.engine.hardware import computes_bfloat16
from viscera.io.records import read_json

_CONFIGURATION = "3d_fullres"
_PLANS = "nnUNetPlans"
_MOST_EPOCHS = 200
_KEPT_EVERY_S = 60.0


@dataclass(frozen=True)
class Size:
    """Of a network, and of what a step of its training sees."""

    patch: int
    batch_size: int
    channels: int  # of the top level
    levels: int

    @classmethod
    def of(cls, train: TrainConfig) -> "Size":
        """That of a recipe of ours, whose levels have twice as many channels from their second convolution on."""
        return cls(train.patch, train.batch_size, 2 * train.filters, train.levels)

    def __str__(self) -> str:
        return f"p{self.patch}-b{self.batch_size}-c{self.channels}-l{self.levels}"


class NnUNet:
    """Its plan as it comes, or cut to the size of a network of ours; with or without mirroring."""

    def __init__(self, data: DataSet, *, cut_to: Size | None = None, mirroring: bool = True) -> None:
        self.data, self.size, self.mirrors = data, cut_to, mirroring
        bfloat16 = computes_bfloat16(torch.device("cpu"))
        small = (Fast(), Fast(bfloat16=True), Fast(bfloat16=True, channels_last=True))
        self.fast: Sequence[Fast] = small if cut_to and bfloat16 else (Fast(bfloat16=bfloat16),)
        self.costs_like = f"nnunet-cut-{cut_to}" if cut_to else "nnunet"
        self.key = self.costs_like if mirroring else f"{self.costs_like}-no-mirroring"
        how = "plan cut to our size" if cut_to else "its plan"
        self.title = self.cost_title = f"nnU-Net, {how}" + ("" if mirroring else ", without mirroring")
        self.prepared = data.work / "prepared" / "nnunet"
        os.environ |= {
            "nnUNet_raw": str(data.work / "raw"),
            "nnUNet_preprocessed": str(self.prepared),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_def_n_proc": "1",
            "nnUNet_compile": "false",
        }

    @property
    def _preprocessed(self) -> Path:
        return self.prepared / self.data.raw.name

    @cached_property
    def plans(self) -> dict[str, Any]:
        """As its planner made them, or cut; known once it has prepared."""
        plans: dict[str, Any] = read_json(self._preprocessed / f"{_PLANS}.json")
        return cut(plans, self.size) if self.size else plans

    def settings(self) -> Mapping[str, Any]:
        """What its plan says."""
        plan = self.plans["configurations"][_CONFIGURATION]
        of_network = plan["architecture"]["arch_kwargs"]
        return {
            "planner": self.plans["experiment_planner_used"],
            "window": plan["patch_size"],
            "windows_a_step": plan["batch_size"],
            "spacing_mm": [round(x, 3) for x in plan["spacing"]],
            "channels": of_network["features_per_stage"],
            "trainer": "nnUNetTrainer" if self.mirrors else "nnUNetTrainerNoMirroring",
        }

    def load(self) -> None:
        """What the methods import."""
        for name in ("experiment_planning.plan_and_preprocess_api", "inference.predict_from_raw_data"):
            import_module(f"nnunetv2.{name}")
        trainer_class(Fast(), mirroring=self.mirrors)

    def prepare(self) -> None:
        """What `nnUNetv2_plan_and_preprocess -c 3d_fullres` does."""
        from nnunetv2.experiment_planning import plan_and_preprocess_api as api  # noqa: PLC0415 - slow, not everywhere

        self.__dict__.pop("plans", None)
        one_process = mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "1"})  # its planner takes it for threads
        with _quietly(), _processes_as_threads(), one_process:
            api.extract_fingerprint_dataset(NUMBER, num_processes=1, clean=True, verbose=False, show_progress_bar=False)
            api.plan_experiment_dataset(NUMBER)
            api.preprocess_dataset(NUMBER, _PLANS, (_CONFIGURATION,), [1], show_progress_bar=False)

    prepare_again = prepare

    def _trainer(self, folder: Path, fast: Fast, steps: int, *, resume: bool) -> Any:  # noqa: ANN401 - untyped
        os.environ |= {"nnUNet_results": str(folder)}
        described = read_json(self.data.raw / "dataset.json")
        plans = {**self.plans, "continue_training": resume}
        trainer = trainer_class(fast, mirroring=self.mirrors)(
            plans, _CONFIGURATION, "all", described, torch.device("cpu")
        )
        trainer.num_epochs, trainer.num_iterations_per_epoch = epochs(steps)
        trainer.initialize()
        if fast.channels_last:
            trainer.network.to(memory_format=torch.channels_last_3d)
        return trainer

    def train(self, steps: int, seed: int, folder: Path, fast: Fast, on_step: OnStep) -> int:
        """What `nnUNetv2_train 901 3d_fullres all` does, and with `--c` where it was cut off (with other windows)."""
        kept = next(folder.rglob("checkpoint_latest.pth"), None)
        with _quietly(folder / "log.txt"):
            if kept is None:
                _seed(seed)
            trainer = self._trainer(folder, fast, steps, resume=kept is not None)
            if kept is not None:
                trainer.load_checkpoint(str(kept))
                _seed(seed + 1000 * trainer.current_epoch)
            trainer.on_step = on_step
            trainer.run_training()
        return int(trainer.num_epochs * trainer.num_iterations_per_epoch)

    def predict(self, folder: Path, scans: Sequence[Path], out: Path, fast: Fast, *, mirrored: bool) -> None:
        """What `nnUNetv2_predict` does, with `--disable_tta` unless mirrored."""
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: PLC0415

        path = next(folder.rglob("checkpoint_final.pth"))
        weights = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
        with _quietly(folder / "log.txt"):
            trainer = self._trainer(path.parents[3], fast, 1, resume=False)
            trainer.set_deep_supervision_enabled(False)
            trainer.network.load_state_dict(weights)
            network = _Autocast(trainer.network.eval(), bfloat16=fast.bfloat16)
            predictor = nnUNetPredictor(
                use_mirroring=mirrored,
                perform_everything_on_device=False,
                device=torch.device("cpu"),
                allow_tqdm=False,
            )
            axes = (0, 1, 2) if self.mirrors else None
            managers = trainer.plans_manager, trainer.configuration_manager
            predictor.manual_initialization(
                network, *managers, [network.state_dict()], trainer.dataset_json, "nnUNetTrainer", axes
            )
            inputs = [[str(scan)] for scan in scans]
            predictor.predict_from_files_sequential(
                inputs, [str(out / scan.name.replace("_0000.nii.gz", "")) for scan in scans]
            )


def epochs(steps: int) -> tuple[int, int]:
    """So many epochs of so many steps that the schedule is fine and few steps are left over."""
    fewest = min(steps, _MOST_EPOCHS // 2)
    number = max(range(fewest, min(steps, _MOST_EPOCHS) + 1), key=lambda n: (n * (steps // n), n))
    return number, steps // number


def cut(plans: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Plans whose network has our channels and levels, and sees our windows.

    With as many channels as our levels end with, a step has 0.92 times the multiplications of ours (windows of 48³, 16
    filters, four levels; by counting).
    """
    plan = plans["configurations"][_CONFIGURATION]
    old = plan["architecture"]["arch_kwargs"]
    halved, whole = [2, 2, 2], [1, 1, 1]
    arguments = old | {
        "n_stages": size.levels,
        "features_per_stage": [size.channels * 2**level for level in range(size.levels)],
        "kernel_sizes": [[3, 3, 3]] * size.levels,
        "strides": [whole, *[halved] * (size.levels - 1)],
        "n_conv_per_stage": [2] * size.levels,
        "n_conv_per_stage_decoder": [2] * (size.levels - 1),
    }
    plan = plan | {
        "patch_size": [size.patch] * 3,
        "batch_size": size.batch_size,
        "architecture": plan["architecture"] | {"arch_kwargs": arguments},
    }
    return {**plans, "plans_name": f"{_PLANS}Cut", "configurations": {_CONFIGURATION: plan}}


class _Autocast(nn.Module):
    """A network whose convolutions may be in bfloat16, and whose output is float32."""

    def __init__(self, network: nn.Module, *, bfloat16: bool) -> None:
        super().__init__()
        self.network, self.in_bfloat16 = network, bfloat16

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):
            result: Tensor = self.network(x)
        return result.float()


def trainer_class(fast: Fast, *, mirroring: bool) -> Any:  # noqa: ANN401 - nnU-Net is untyped
    """Its trainer, within a budget."""
    within = "nnunetv2.training.nnUNetTrainer"
    name = "nnUNetTrainer" if mirroring else "nnUNetTrainerNoMirroring"
    module = name if mirroring else f"variants.data_augmentation.{name}"
    base = getattr(import_module(f"{within}.{module}"), name)

    class BudgetTrainer(base):  # type: ignore[misc, valid-type]
        on_step: OnStep

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast.bfloat16):
                outputs = self.network(batch["data"])
            loss = self.loss([each.float() for each in outputs], batch["target"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
            self.optimizer.step()
            self.on_step()
            return {"loss": loss.detach().numpy()}

        def run_training(self) -> None:
            self.on_train_start()
            kept = time.monotonic()
            for _ in range(self.current_epoch, self.num_epochs):
                self.on_train_epoch_start()
                steps = range(self.num_iterations_per_epoch)
                self.on_train_epoch_end([self.train_step(next(self.dataloader_train)) for _ in steps])
                if time.monotonic() - kept > _KEPT_EVERY_S:
                    self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_latest.pth"))  # noqa: PTH118
                    kept = time.monotonic()
                self.current_epoch += 1
            self.on_train_end()

    return BudgetTrainer


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - nnU-Net draws from it
    torch.manual_seed(seed)


@contextlib.contextmanager
def _quietly(log: Path | None = None) -> Iterator[None]:
    """What nnU-Net prints goes to a file, or nowhere."""
    with (log or Path(os.devnull)).open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


@contextlib.contextmanager
def _processes_as_threads() -> Iterator[None]:
    """nnU-Net's pools of one process are pools of one thread."""
    pools = mock.Mock(Pool=lambda _processes: ThreadPool(1))
    with mock.patch.object(multiprocessing, "get_context", return_value=pools):
        yield
