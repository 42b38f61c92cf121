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
}


class _SumsOfMonai(WeightedDiceLoss):
    """To MONAI a sub-volume without a labelled voxel is one of the batch as any other, with nothing in it."""

    def labelling(self, cardinality_BL: Tensor, labelled_BL: Tensor | None) -> Tensor | None:
        """As given: the mean is over all sub-volumes."""
        del cardinality_BL
        return labelled_BL


class MonaiDiceLoss(nn.Module):
    """The weighted Dice loss (Eq. 2 and 6) for MONAI's training loops: put it where `DiceLoss` stood.

    The names, defaults and meanings are MONAI's. `class_weights` (L,) are from `viscera.class_weights`, of the whole
    training set, background first, all L also with include_background=False. `reduction` is "mean" or "sum" (over the
    classes and, without `batch`, the sub-volumes), smooth_dr equal to smooth_nr; arguments that this loss cannot honour
    raise BadInputError, as does an `ignore_index` that is a class. The paper's loss is `batch=True, smooth_nr=0,
    smooth_dr=0`: with smoothing a class absent from labels and prediction counts as a perfect one.

    Its value is MONAI's minus a constant. Of a class, MONAI takes 1 - Dice, and Eq. 2 takes -Dice, in [-1, 0]: with
    reduction="mean" this loss is `DiceLoss(..., weight=class_weights)` minus the mean weight. The gradient is the same.
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
        ignore_index: int | None = None,
        **others: object,
    ) -> None:
        super().__init__()
        for name, value in others.items():
            if name not in _REFUSED:
                raise BadInputError(f"{name}: neither MONAI's DiceLoss nor this one has such an argument.")
            if value is not None and value is not False:
                raise BadInputError(f"{name}={value!r} is not possible: {_REFUSED[name]}.")
        reduction_name = str(getattr(reduction, "value", reduction))  # MONAI also has an enumeration
        refuse_unknown("reduction", reduction_name, ("mean", "sum"))
        refuse_non_number("smooth_nr", smooth_nr)
        refuse_non_number("smooth_dr", smooth_dr)
        if smooth_nr != smooth_dr:
            raise BadInputError(
                f"smooth_nr={smooth_nr:g}, smooth_dr={smooth_dr:g}: this loss has one smoothing for both. Give the "
                "same twice; 0 is safe, a class that is absent does not divide by zero."
            )
        self.loss = _SumsOfMonai(
            class_weights,
            sums="batch" if batch else "sub_volume",
            smoothing=smooth_nr,
            inputs="logits" if softmax else "probabilities",
            ignore_index=ignore_index,
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
        if self.loss.ignore_index is not None and not self.to_onehot_y:
            raise BadInputError(
                "ignore_index: a one-hot code has no such label. Pass class numbers, with to_onehot_y=True."
            )
        labels_B1IJK = class_numbers(target) if self.to_onehot_y else class_numbers_of_one_hot(target)
        dice_loss_L = self.loss.per_class(prediction_BLIJK, labels_B1IJK)[self.first_class :]
        weights_L = self.loss.class_weights[self.first_class :].to(dice_loss_L)
        mean = weighted_dice_loss(dice_loss_L, weights_L)
        terms = len(weights_L) * (1 if self.loss.sums == "batch" else len(prediction_BLIJK))
        return mean * terms if self.adds_up else mean
