"""What a loss is given, looked at before anything is computed of it."""

import sys
from numbers import Integral

import torch
from torch import Tensor

from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.shape_hints import of_labels

_WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *_WIDE_UNSIGNED)
_ROUNDING = 1e-2  # of a softmax in bfloat16
_is_transformed = getattr(torch._C, "_are_functorch_transforms_active", bool)  # noqa: SLF001 - no public way to ask


def is_readable(values: Tensor) -> bool:
    """Whether the numbers of a tensor can be looked at: it has some, and nothing traces or transforms what is computed.

    Not so under torch.compile, torch.export, torch.jit.trace and torch.func, and of tensors on `meta` and fake ones.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    if _is_transformed() or values.is_meta:
        return False
    fake = getattr(sys.modules.get("torch._subclasses.fake_tensor"), "FakeTensor", ())
    return type(values) is Tensor or not isinstance(values, fake)


def plain(values: Tensor) -> Tensor:
    """A tensor without what another framework says with it (MONAI's MetaTensor), sharing memory and gradient.

    Subclasses of PyTorch's own, which dispatch operations, stay what they are.
    """
    kind = type(values)
    if kind is Tensor or not isinstance(values, Tensor) or torch.compiler.is_compiling():
        return values
    return values.as_subclass(Tensor) if kind.__torch_dispatch__ is Tensor.__torch_dispatch__ else values


def ignored_number(ignore_index: object, num_classes: int) -> int | None:
    """The label of voxels that nobody labelled, or None; raises BadInputError for a class, and what is no number."""
    if ignore_index is None:
        return None
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):
        raise BadTypeError(
            f"ignore_index={ignore_index!r}: a whole number that is no class was expected, for example 255, or None."
        )
    number = int(ignore_index)
    if 0 <= number < num_classes:
        raise BadInputError(f"ignore_index: {number} is a class; a number that is none was expected, for example 255.")
    return number


def refuse_other_logits(logits_BLIJK: Tensor, num_classes: int) -> None:
    """Raise BadInputError for what is no tensor (B, L, I, J, K) of floating-point numbers."""
    if not isinstance(logits_BLIJK, Tensor):
        raise BadTypeError(f"logits: {type(logits_BLIJK).__name__}, a tensor was expected.")
    if logits_BLIJK.ndim != 5 or logits_BLIJK.shape[1] != num_classes:
        raise BadInputError(f"logits: shape {tuple(logits_BLIJK.shape)}, (B, {num_classes}, I, J, K) was expected.")
    if not logits_BLIJK.is_floating_point():
        raise BadTypeError(
            f"logits: {logits_BLIJK.dtype}, floating-point numbers were expected, as the network gives them."
        )


def class_numbers_like(logits_BLIJK: Tensor, labels: Tensor) -> Tensor:
    """(B, I, J, K) of labels with or without an axis of one channel; raises BadInputError for other than whole numbers.

    Likewise for another shape or device than the logits'.
    """
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGERS:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise BadTypeError(f"labels: {kind}, a tensor of class numbers of an integer type was expected.")
    labels_BIJK = labels.squeeze(1) if labels.ndim == 5 and labels.shape[1] == 1 else labels
    if labels_BIJK.shape != (logits_BLIJK.shape[0], *logits_BLIJK.shape[2:]):
        raise BadInputError(
            f"labels: shape {tuple(labels.shape)} does not fit logits of shape {tuple(logits_BLIJK.shape)}; "
            f"(B, I, J, K) or (B, 1, I, J, K) was expected.{of_labels(labels.shape, logits_BLIJK.shape)}"
        )
    if labels.device != logits_BLIJK.device:
        raise BadInputError(
            f"labels: on {labels.device}, the logits on {logits_BLIJK.device}. Pass labels.to(logits.device)."
        )
    return labels_BIJK.long() if labels.dtype in _WIDE_UNSIGNED else labels_BIJK  # PyTorch does little more with them


def refuse_other_classes_than(num_classes: int, labels_BIJK: Tensor, ignored: int | None) -> None:
    """Raise BadInputError for numbers that are neither a class nor `ignored`."""
    if labels_BIJK.numel() == 0:
        return
    known = labels_BIJK if ignored is None else labels_BIJK.masked_fill(labels_BIJK == ignored, 0)
    low, high = (int(value) for value in torch.aminmax(known))
    if low < 0 or high >= num_classes:
        raise BadInputError(f"labels: numbers from {low} to {high}; {num_classes} classes are 0 to {num_classes - 1}.")


def refuse_no_probabilities(values_BLIJK: Tensor) -> None:
    """Raise BadInputError for numbers outside [0, 1]."""
    if values_BLIJK.numel() == 0:
        return
    low, high = (float(value) for value in torch.aminmax(values_BLIJK.detach()))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise BadInputError(
            f"probabilities: numbers from {low:.3g} to {high:.3g}; 0 to 1 was expected. "
            'Pass what softmax gives, or leave inputs at "logits".'
        )


def labelled_like(values_BLIJK: Tensor, labelled: Tensor, *, look: bool) -> Tensor:
    """(B, L) bool on the values' device, the classes that each sub-volume labels; raises BadInputError for others.

    `look`: whether column 0, of background, is looked at.
    """
    if not isinstance(labelled, Tensor) or labelled.shape != values_BLIJK.shape[:2] or labelled.dtype != torch.bool:
        is_tensor = isinstance(labelled, Tensor)
        found = f"{labelled.dtype} of shape {tuple(labelled.shape)}" if is_tensor else type(labelled).__name__
        raise BadInputError(
            f"labelled: {found}; bool of shape {tuple(values_BLIJK.shape[:2])} was expected: sub-volumes by classes."
        )
    if look and not bool(labelled[:, 0].all()):
        raise BadInputError("labelled: background is always labelled: column 0 must be True.")
    return labelled.to(values_BLIJK.device)
