"""The weighted soft Dice loss: Eq. 2 per class, Eq. 6 over classes; and the same with the cross-entropy beside it."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from viscera.core.config import LossConfig
from viscera.core.errors import BadInputError, refuse_non_number, refuse_unknown
from viscera.losses import loss_inputs
from viscera.losses.dice_of_logits import LEAST, is_possible, soft_dice_sums_of_logits, sum_type
from viscera.losses.loss_inputs import ignored_number, is_readable, plain
from viscera.losses.marginal import log_merged, mean_of_labelled, merged, merged_labels
from viscera.losses.weight_vector import refuse_small_smoothing, weight_vector

_LEAST_LOG = math.log(LEAST)


def one_hot(labels_BIJK: Tensor, like_BLIJK: Tensor, ignore_index: int | None = None) -> Tensor:
    """(B, L, V) the one-hot code of class numbers, in the type of other values; all 0 where a voxel is not labelled."""
    labels_B1V, like_BLV = labels_BIJK.flatten(1).unsqueeze(1).long(), like_BLIJK.flatten(2)
    if is_readable(labels_BIJK):
        code_BLV = torch.zeros_like(like_BLV)
    else:  # under vmap there are as many codes as labels, whatever the number of the others
        code_BLV = labels_B1V.new_zeros(like_BLV.shape, dtype=like_BLV.dtype)
    if ignore_index is None:
        return code_BLV.scatter_(1, labels_B1V, 1.0)
    ignored_B1V = labels_B1V == ignore_index
    return code_BLV.scatter_(1, labels_B1V.masked_fill(ignored_B1V, 0), (~ignored_B1V).to(code_BLV.dtype))


def soft_dice_sums(
    probabilities_BLIJK: Tensor, labels_BIJK: Tensor, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """The sums of Eq. 2 over the voxels of each sub-volume: intersection (B, L) = Σ s r, and cardinality = Σ s + Σ r.

    s are probabilities, softmax over L, and 0 of voxels with the label `ignore_index`, which nobody labelled; r is the
    one-hot code of the class numbers.
    """
    one_hot_BLV = one_hot(labels_BIJK, probabilities_BLIJK, ignore_index)
    probabilities_BLV = probabilities_BLIJK.flatten(2)
    # chosen, not multiplied: the derivative by the intersection of a class that is not there may be infinite
    intersection_BL = probabilities_BLV.masked_fill(one_hot_BLV == 0, 0).sum(dim=2)
    cardinality_BL = probabilities_BLV.sum(dim=2) + one_hot_BLV.sum(dim=2)
    return intersection_BL, cardinality_BL


def entropy_sums(
    log_probabilities_BLIJK: Tensor, labels_BIJK: Tensor, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Of the voxels of each class in each sub-volume Σ -log of its probability, and their number, (B, L) each.

    A probability counts as 1e-37 at least; its gradient is what it is all the same.
    """
    one_hot_BLV = one_hot(labels_BIJK, log_probabilities_BLIJK, ignore_index)
    own_BLV = log_probabilities_BLIJK.flatten(2).masked_fill(one_hot_BLV == 0, 0)
    counted_BLV = own_BLV + (own_BLV.clamp(min=_LEAST_LOG) - own_BLV).detach()
    return -counted_BLV.sum(dim=2), one_hot_BLV.sum(dim=2)


def soft_dice_loss(intersection: Tensor, cardinality: Tensor, smoothing: float = 0.0) -> Tensor:
    """Eq. 2: -2 Σ s r / (Σ s + Σ r), in [-1, 0]. Arguments and result (..., L), no unit.

    Without smoothing a class that is absent from the labels gives exactly 0, and no gradient.
    """
    tiny = torch.finfo(cardinality.dtype).tiny
    return -(2 * intersection + smoothing) / (cardinality + smoothing).clamp(min=tiny)


def weighted_dice_loss(dice_loss_L: Tensor, class_weights_L: Tensor) -> Tensor:
    """Eq. 6: mean over the classes of weight times Eq. 2. Arguments (L,), result scalar, no unit."""
    return (class_weights_L * dice_loss_L).mean()


class WeightedDiceLoss(nn.Module):
    """Weighted multi-class soft Dice loss (Eq. 2 and 6 of the paper); sums are float32, or float64 for float64 logits.

    Args:
        class_weights: (L,) from `viscera.class_weights`, computed once from the whole training set.
        sums: "batch": the sums of Eq. 2 run over the whole mini-batch; "sub_volume": Eq. 2 for each, then the mean.
        smoothing: added to numerator and denominator of Eq. 2; 0 as printed, 1e-5 as MONAI.
        inputs: what the network gives: "logits", before softmax, or "probabilities", after it.
        check_labels: whether labels are compared with the classes, and probabilities with [0, 1]; on a GPU that waits
            for it at every call. Values cannot be looked at under torch.compile, torch.export, torch.jit.trace and
            torch.func, nor those of meta tensors: there it is as with check_labels=False, whatever is given here.
        ignore_index: the label of voxels that nobody labelled, as nnU-Net's `ignore`; no class number. They are left
            out of every sum: value and gradient are those of the other voxels alone. None: every voxel counts.

    Attributes:
        whole_batch: where several processes share a mini-batch, what makes the sums of all its sub-volumes of this
            process's: of intersection, cardinality and `labelled`, (b, L) each, those of (B, L). None: all are here.

    Raises:
        BadInputError: weights that are no vector of finite numbers ≥ 0, an option that is none of its choices, an
            `ignore_index` that is a class.
    """

    class_weights: Tensor

    def __init__(
        self,
        class_weights: "npt.ArrayLike | Tensor",
        *,
        sums: Literal["batch", "sub_volume"] = "batch",
        smoothing: float = 0.0,
        inputs: Literal["logits", "probabilities"] = "logits",
        check_labels: bool = True,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        refuse_unknown("sums", sums, ("batch", "sub_volume"))
        refuse_unknown("inputs", inputs, ("logits", "probabilities"))
        refuse_non_number("smoothing", smoothing)
        self.register_buffer("class_weights", weight_vector(class_weights))
        refuse_small_smoothing(smoothing, self.class_weights)
        self.sums = sums
        self.smoothing = smoothing
        self.inputs = inputs
        self.check_labels = check_labels
        self.ignore_index = ignored_number(ignore_index, self.class_weights.numel())
        self.whole_batch: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `.to`, `.half` and the like do: weights move and stay float64, as in 16 bits they are infinite or 0.

        On a device without float64 (MPS) they are float32 from then on.
        """
        before = dict(self.named_buffers(recurse=False))
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        except TypeError:
            before = {name: weights_L.float() for name, weights_L in before.items()}
            self._buffers.update(before)
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, weights_L in before.items():
            moved_L = self.get_buffer(name)
            if moved_L.dtype != weights_L.dtype:
                setattr(self, name, weights_L.to(moved_L.device))
        return self

    def forward(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> Tensor:
        """The loss: scalar, in [-mean(w), 0] without smoothing.

        Args:
            logits_BLIJK: network output before softmax (after it, with inputs="probabilities").
            labels: (B, I, J, K) or (B, 1, I, J, K), any integer type, class numbers 0 to L - 1, or `ignore_index`.
            labelled: (B, L) bool, the classes that each sub-volume labels, background among them; None: all. A class
                that is not labelled is part of background there, and has no term of its own (`losses.marginal`).

        Raises:
            BadInputError: shapes that do not fit, labels that are not whole numbers from 0 to L - 1, probabilities
                outside [0, 1], background that is not labelled.
        """
        return self.parts(logits_BLIJK, labels, labelled)[0]

    def parts(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss, scalar, and Eq. 2 of each class, (L,), unweighted; arguments as for `forward`."""
        dice_loss_L = self.per_class(logits_BLIJK, labels, labelled)
        return weighted_dice_loss(dice_loss_L, self.class_weights.to(dice_loss_L)), dice_loss_L

    def terms(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the loss is the sum of: a term for each class, (L,), and the factor of each, (L,) as the weights."""
        dice_loss_L = self.per_class(logits_BLIJK, labels, labelled)
        return dice_loss_L, self.class_weights / self.class_weights.numel()

    def per_class(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Eq. 2 for each class, (L,), unweighted; arguments as for `forward`. 0 for a class labelled nowhere."""
        (intersection, cardinality), labelled = self._sums(logits_BLIJK, labels, labelled)
        return self._of_sums(intersection, cardinality, labelled)

    def _of_sums(self, intersection_BL: Tensor, cardinality_BL: Tensor, labelled_BL: Tensor | None) -> Tensor:
        """Eq. 2 for each class of the sums over the sub-volumes of the whole mini-batch."""
        labelled_BL = self.labelling(cardinality_BL, labelled_BL)
        if self.sums == "batch":
            loss_L = soft_dice_loss(intersection_BL.sum(dim=0), cardinality_BL.sum(dim=0), self.smoothing)
            return loss_L if labelled_BL is None else loss_L * labelled_BL.any(dim=0)
        loss_BL = soft_dice_loss(intersection_BL, cardinality_BL, self.smoothing)
        if loss_BL.shape[0] == 0:
            return loss_BL.sum(dim=0)
        return loss_BL.mean(dim=0) if labelled_BL is None else mean_of_labelled(loss_BL, labelled_BL)

    def labelling(self, cardinality_BL: Tensor, labelled_BL: Tensor | None) -> Tensor | None:
        """Which classes each sub-volume says something about: none where nobody labelled any of its voxels."""
        if self.ignore_index is None:
            return labelled_BL
        known_B1 = cardinality_BL.detach().sum(dim=1, keepdim=True) > 0
        return known_B1.expand_as(cardinality_BL) if labelled_BL is None else labelled_BL & known_B1

    def ignored_in(self, labels_BIJK: Tensor) -> int | None:
        """`ignore_index` where labels may have it; on a CPU, where looking costs little, where they do."""
        if self.ignore_index is None:
            return None
        numbers = torch.iinfo(labels_BIJK.dtype)
        if not numbers.min <= self.ignore_index <= numbers.max:
            return None
        looks = labels_BIJK.device.type == "cpu" and is_readable(labels_BIJK)
        return None if looks and not bool((labels_BIJK == self.ignore_index).any()) else self.ignore_index

    def _sums(
        self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None, *, with_entropy: bool = False
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """As `soft_dice_sums_of_logits`, and what is labelled, of the whole mini-batch; raises as `forward`."""
        logits_BLIJK, labels = plain(logits_BLIJK), plain(labels)
        loss_inputs.refuse_other_logits(logits_BLIJK, self.class_weights.numel())
        labels_BIJK, kind = loss_inputs.class_numbers_like(logits_BLIJK, labels), logits_BLIJK.device.type
        if self._looks_at(labels_BIJK):
            loss_inputs.refuse_other_classes_than(self.class_weights.numel(), labels_BIJK, self.ignored_in(labels_BIJK))
        if labelled is not None:
            labelled = loss_inputs.labelled_like(logits_BLIJK, plain(labelled), look=self._looks_at(logits_BLIJK))
        with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
            return self.shared(self._own_sums(logits_BLIJK, labels_BIJK, labelled, with_entropy), labelled)

    def shared(
        self, sums_bL: tuple[Tensor, ...], labelled_bL: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Pairs of sums over this process's sub-volumes as those over all, (B, L) each, and what they label."""
        if self.whole_batch is None:
            return sums_bL, labelled_bL
        pairs, length = len(sums_bL) // 2, sums_bL[0].shape[1]
        wide = None if labelled_bL is None else labelled_bL.repeat(1, pairs)
        first, second, wide = self.whole_batch(torch.cat(sums_bL[::2], dim=1), torch.cat(sums_bL[1::2], dim=1), wide)
        columns = zip(*(each.view(-1, pairs, length).unbind(1) for each in (first, second)), strict=True)
        return tuple(each for pair in columns for each in pair), None if wide is None else wide[:, :length]

    def _own_sums(
        self,
        values_BLIJK: Tensor,
        labels_BIJK: Tensor,
        labelled_BL: Tensor | None,
        with_entropy: bool,
    ) -> tuple[Tensor, ...]:
        ignored = self.ignored_in(labels_BIJK)
        if self.inputs == "logits" and is_possible(values_BLIJK):  # the same in less memory and time
            options: dict[str, Any] = {"with_entropy": with_entropy, "ignore_index": ignored}
            return soft_dice_sums_of_logits(values_BLIJK, labels_BIJK, labelled_BL, **options)
        unknown = None if ignored is None else (labels_BIJK == ignored).unsqueeze(1)
        known_BLIJK = values_BLIJK if unknown is None else values_BLIJK.masked_fill(unknown, 0)  # also where it is NaN
        known_BLIJK = known_BLIJK.to(sum_type(values_BLIJK))
        probabilities_BLIJK = self._probabilities(known_BLIJK)
        if unknown is not None:
            probabilities_BLIJK = probabilities_BLIJK.masked_fill(unknown, 0)
        if labelled_BL is not None:
            probabilities_BLIJK = merged(probabilities_BLIJK, labelled_BL)
            labels_BIJK = merged_labels(labels_BIJK, labelled_BL, ignored)
        dice_sums = soft_dice_sums(probabilities_BLIJK, labels_BIJK, ignored)
        if not with_entropy:
            return dice_sums
        if self.inputs == "logits":  # whose logarithm is known also where a probability is 0 in 32 bits
            logs_BLIJK = log_merged(torch.log_softmax(known_BLIJK, dim=1), labelled_BL)
        else:
            logs_BLIJK = probabilities_BLIJK.clamp(min=LEAST).log()
        return *dice_sums, *entropy_sums(logs_BLIJK, labels_BIJK, ignored)

    def _probabilities(self, values_BLIJK: Tensor) -> Tensor:
        if self.inputs == "logits":
            return torch.softmax(values_BLIJK, dim=1)
        if self._looks_at(values_BLIJK):
            loss_inputs.refuse_no_probabilities(values_BLIJK)
        return values_BLIJK

    def _looks_at(self, values: Tensor) -> bool:
        return self.check_labels and is_readable(values)


def _not_0(value: Tensor) -> Tensor:
    return value.masked_fill(value == 0, 1)


class DiceAndCrossEntropyLoss(WeightedDiceLoss):
    """Eq. 6 and, `factor` times, the mean cross-entropy of the voxels with class weights of its own.

    The mean is that of `torch.nn.functional.cross_entropy(..., weight=)`, over the voxels of the whole mini-batch: the
    scale of its weights does not matter. `losses.marginal` says what it is of a sub-volume that does not label all.
    Raises BadInputError as `WeightedDiceLoss`, and for other `voxel_weights` than one for each class, a factor below 0.
    """

    voxel_weights: Tensor  # (L,), of the cross-entropy

    def __init__(
        self,
        class_weights: npt.ArrayLike | Tensor,
        voxel_weights: npt.ArrayLike | Tensor,
        *,
        factor: float = 1.0,
        **options: Any,  # noqa: ANN401 - of `WeightedDiceLoss`
    ) -> None:
        super().__init__(class_weights, **options)
        self.register_buffer("voxel_weights", weight_vector(voxel_weights, "voxel_weights"))
        if self.voxel_weights.shape != self.class_weights.shape:
            raise BadInputError(
                f"voxel_weights: {self.voxel_weights.numel()} of them, and {self.class_weights.numel()} class weights; "
                "one of each for each class was expected."
            )
        refuse_non_number("factor", factor)
        self.factor = factor

    def parts(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `WeightedDiceLoss.parts`."""
        dice_loss_L, entropy_L = self._both(logits_BLIJK, labels, labelled)
        dice = weighted_dice_loss(dice_loss_L, self.class_weights.to(dice_loss_L))
        return dice + entropy_L.sum(), dice_loss_L

    def terms(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `WeightedDiceLoss.terms`."""
        dice_loss_L, entropy_L = self._both(logits_BLIJK, labels, labelled)
        weights_L = self.class_weights.to(dice_loss_L) / self.class_weights.numel()
        return weights_L * dice_loss_L + entropy_L, torch.ones_like(self.class_weights)

    def pull(self, voxels_BL: Tensor) -> Tensor:
        """What the loss changes by with the -log probability of one voxel of each class, (L,), of (B, L) voxels."""
        voxels_L = voxels_BL.sum(dim=0)
        # of a class that is not there the weight may be a 10^30 times another
        weights_L = self.voxel_weights.to(voxels_L.device) * (voxels_L > 0)
        pull_L = self.factor * weights_L / _not_0((weights_L * voxels_L).sum())  # of no labelled voxel all sums are 0
        return pull_L.to(voxels_BL.dtype)

    def _both(self, logits_BLIJK: Tensor, labels: Tensor, labelled: Tensor | None) -> tuple[Tensor, Tensor]:
        """Eq. 2 for each class, (L,), and each class's part of the cross-entropy, (L,), times the factor."""
        sums, labelled = self._sums(logits_BLIJK, labels, labelled, with_entropy=True)
        intersection_BL, cardinality_BL, entropy_BL, voxels_BL = sums
        return self._of_sums(intersection_BL, cardinality_BL, labelled), self.pull(voxels_BL) * entropy_BL.sum(dim=0)


def training_loss(
    config: LossConfig,
    class_weights: npt.ArrayLike,
    voxel_weights: npt.ArrayLike | None = None,  # of the cross-entropy; None: of all classes alike
    *,
    check_labels: bool = True,
    ignore_index: int | None = None,
) -> WeightedDiceLoss:
    """The loss that a configuration stands for; trainer and forecast take it from here, and here another is added."""
    options: dict[str, Any] = {"sums": config.sums, "smoothing": config.smoothing, "check_labels": check_labels}
    options["ignore_index"] = ignore_index
    if config.cross_entropy == 0:
        return WeightedDiceLoss(class_weights, **options)
    alike = np.ones(np.size(class_weights)) if voxel_weights is None else voxel_weights
    return DiceAndCrossEntropyLoss(class_weights, alike, factor=config.cross_entropy, **options)
