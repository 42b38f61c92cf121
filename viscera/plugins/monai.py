"""`viscera.WeightedDiceLoss` with the arguments of `monai.losses.DiceLoss`. MONAI itself is not imported."""

from typing import Literal

import numpy.typing as npt
from torch import Tensor, nn

from viscera.core.errors import BadInputError, refuse_non_number, refuse_unknown
from viscera.losses.dice import WeightedDiceLoss, weighted_dice_loss
from viscera.plugins.batches import as_volumes, class_numbers, class_numbers_of_one_hot

_REFUSED = {
    "sigmoid": "the classes exclude each other here. Use softmax=True",
    "other_act": "only softmax is known. Apply yours to the network's output and leave softmax at False",
    "squared_pred": "Eq. 2 sums s and r, not their squares",
    "jaccard": "Eq. 2 is a Dice coefficient",
    "weight": "the weights are the first argument, from viscera.class_weights",
    "soft_label": "each voxel belongs to one class",
    "ignore_index": "every voxel counts. Leave the voxels out, or give them a class",
}


class MonaiDiceLoss(nn.Module):
    """The weighted Dice loss (Eq. 2 and 6) for MONAI's training loops: put it where `DiceLoss` stood.

    The names and defaults are MONAI's. The paper's loss is `batch=True, smooth_nr=0, smooth_dr=0`: with smoothing a
    class absent from labels and prediction counts as a perfect one.

    Its value is MONAI's minus a constant. Of a class, MONAI takes 1 - Dice, and Eq. 2 takes -Dice, in [-1, 0]: with
    reduction="mean" this loss is `DiceLoss(..., weight=class_weights)` minus the mean weight. The gradient is the same.

    Args:
        class_weights: (L,) from `viscera.class_weights`, of the whole training set, background first; all L of them
            with include_background=False, too.
        include_background: False leaves class 0 out of the mean.
        to_onehot_y: True: labels are class numbers (B, 1, ...); False: they are one-hot (B, L, ...).
        softmax: True: the network gives logits; False: it gives probabilities.
        reduction: "mean" over the classes (and, without batch, the sub-volumes), or "sum".
        smooth_nr: added to the numerator of Eq. 2.
        smooth_dr: added to its denominator; must be equal to smooth_nr.
        batch: True: the sums of Eq. 2 run over the mini-batch; False: Eq. 2 for each sub-volume.
        others: MONAI's other arguments, at their defaults.

    Raises:
        BadInputError: an argument that this loss cannot honour, weights that are no vector.
    """

    def __init__(  # noqa: PLR0913 - as many as MONAI has
        self,
        class_weights: npt.ArrayLike | Tensor,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        softmax: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        **others: object,
    ) -> None:
        super().__init__()
        _refuse(others)
        reduction_name = str(getattr(reduction, "value", reduction))  # MONAI also has an enumeration
        refuse_unknown("reduction", reduction_name, ("mean", "sum"))
        refuse_non_number("smooth_nr", smooth_nr)
        refuse_non_number("smooth_dr", smooth_dr)
        if smooth_nr != smooth_dr:
            raise BadInputError(
                f"smooth_nr={smooth_nr:g}, smooth_dr={smooth_dr:g}: this loss has one smoothing for both. Give the "
                "same twice; 0 is safe, a class that is absent does not divide by zero."
            )
        self.loss = WeightedDiceLoss(
            class_weights,
            sums="batch" if batch else "sub_volume",
            smoothing=smooth_nr,
            inputs="logits" if softmax else "probabilities",
        )
        self.first_class = 0 if include_background else 1
        self.to_onehot_y = to_onehot_y
        self.adds_up = reduction_name == "sum"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar; raises BadInputError for shapes that do not fit, or labels that are neither.

        Args:
            prediction: (B, L, I, J, K) or (B, L, I, J): logits, or probabilities, as `softmax` says.
            target: (B, 1, ...) class numbers or (B, L, ...) one-hot, as `to_onehot_y` says; of any type.
        """
        prediction_BLIJK, target = as_volumes(prediction), as_volumes(target)
        channels = 1 if self.to_onehot_y else prediction_BLIJK.shape[1]
        if target.shape != (prediction_BLIJK.shape[0], channels, *prediction_BLIJK.shape[2:]):
            raise BadInputError(
                f"labels: shape {tuple(target.shape)} beside a prediction of shape {tuple(prediction_BLIJK.shape)}; "
                f"with to_onehot_y={self.to_onehot_y} axis 1 must hold {channels}, and the others must be the same."
            )
        labels_B1IJK = class_numbers(target) if self.to_onehot_y else class_numbers_of_one_hot(target)
        dice_loss_L = self.loss.per_class(prediction_BLIJK, labels_B1IJK)[self.first_class :]
        weights_L = self.loss.class_weights[self.first_class :].to(dice_loss_L.dtype)
        mean = weighted_dice_loss(dice_loss_L, weights_L)
        return mean * self._terms(prediction_BLIJK.shape[0]) if self.adds_up else mean

    def _terms(self, batch_size: int) -> int:
        classes = self.loss.class_weights.numel() - self.first_class
        return classes if self.loss.sums == "batch" else classes * batch_size


def _refuse(arguments: dict[str, object]) -> None:
    for name, value in arguments.items():
        if name not in _REFUSED:
            raise BadInputError(f"{name}: neither MONAI's DiceLoss nor this one has such an argument.")
        if value is not None and value is not False:
            raise BadInputError(f"{name}={value!r} is not possible: {_REFUSED[name]}.")
