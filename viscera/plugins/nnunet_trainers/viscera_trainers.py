"""nnU-Net v2 trainers that differ from nnU-Net's own in their loss alone. `viscera.plugins.nnunet` explains the names.

nnU-Net asks this module for a class by its name, so each is made when it is asked for.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from viscera.core.errors import BadInputError
from viscera.io.records import write_json
from viscera.losses.balance import class_weights
from viscera.plugins.nnunet import TRAINER_NAMES, NnUNetDiceLoss, TrainerSettings, count_training_set, settings_of


class VisceraTrainer(nnUNetTrainer):
    """The weighted Dice loss, its weights from all training cases of the fold; data, network, optimiser are nnU-Net's.

    The sums of Eq. 2 run over the mini-batch where the plans say `batch_dice`, else over each sub-volume, as in
    nnU-Net's own Dice; on several GPUs over the windows of each. There is no smoothing. `viscera_weights.json` in the
    folder of the fold says what was counted and what the weights are.
    """

    settings: ClassVar[TrainerSettings]

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.settings.epochs is not None:
            self.num_epochs = self.settings.epochs

    def _build_loss(self) -> nn.Module:
        self._refuse_what_softmax_cannot_learn()
        cases, _ = self.do_split()
        labels: dict[str, int] = self.dataset_json["labels"]
        classes = sorted(labels, key=lambda name: int(labels[name]))
        dataset = self.dataset_class(self.preprocessed_dataset_folder, list(cases))

        def load(case: str) -> npt.NDArray[Any]:
            segmentation: npt.NDArray[Any] = dataset.load_case(case)[1][:][0]
            return segmentation

        counts = count_training_set(Path(self.preprocessed_dataset_folder), cases, len(classes), load)
        weights = class_weights(counts, self.settings.scheme, normalise=self.settings.normalise)
        loss = NnUNetDiceLoss(weights, sums="batch" if self.configuration_manager.batch_dice else "sub_volume")
        record = {
            "trainer": type(self).__name__,
            "scheme": self.settings.scheme,
            "normalise": self.settings.normalise,
            "sums": loss.sums,
            "training_cases": sorted(cases),
            "classes": classes,
            "voxel_counts": counts,
            "class_weights": weights.tolist(),
        }
        if self.local_rank == 0:
            write_json(Path(self.output_folder) / "viscera_weights.json", record)
        self.print_to_log_file(f"viscera: voxels {counts}, class weights {weights.tolist()}")
        return self._supervise_every_depth(loss) if self.enable_deep_supervision else loss

    def _refuse_what_softmax_cannot_learn(self) -> None:
        if self.label_manager.has_regions:
            raise BadInputError(
                "dataset.json: regions overlap, and this loss has one class a voxel. List plain classes."
            )
        if self.label_manager.has_ignore_label:
            raise BadInputError(
                "dataset.json: an ignore label; these trainers count every voxel. Give those voxels a class, or take "
                "one of nnU-Net's own, or `viscera prepare` and `train`, which leave them out."
            )

    def _supervise_every_depth(self, loss: nn.Module) -> nn.Module:
        """Halve the share of the loss with every halving of the resolution and drop the coarsest, as nnU-Net does."""
        depths = len(self._get_deep_supervision_scales())
        shares = 0.5 ** np.arange(depths)
        if depths > 1:
            shares[-1] = 1e-6 if self.is_ddp and not self._do_i_compile() else 0  # DDP wants every parameter used
        supervised: nn.Module = DeepSupervisionWrapper(loss, shares / shares.sum())
        return supervised


def __getattr__(name: str) -> type[VisceraTrainer]:
    settings = settings_of(name)
    if settings is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    trainer = type(name, (VisceraTrainer,), {"settings": settings, "__module__": __name__})
    globals()[name] = trainer
    return trainer


def __dir__() -> list[str]:
    return sorted([*globals(), *TRAINER_NAMES])
