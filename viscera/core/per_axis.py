"""Settings with one value for all axes, or three along right, anterior, superior."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator


def _one_or_three(value: object, expected: str) -> tuple[float, ...]:
    """Positive numbers, as they are or as text such as `4,4,1`; three equal ones are one."""
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    items: Sequence[Any] = parts if isinstance(parts, list | tuple) else [parts]
    try:
        numbers = [math.nan if isinstance(item, bool) else float(item) for item in items]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in {1, 3} or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"{expected} was expected, or three along R, A, S such as 4,4,1")
    return (numbers[0],) if len(set(numbers)) == 1 else tuple(numbers)


def _factors(value: object) -> int | tuple[int, ...]:
    numbers = _one_or_three(value, "a whole number from 1 on")
    if not all(number.is_integer() for number in numbers):
        raise ValueError("whole numbers from 1 on were expected; for other voxel sizes give spacing_mm")
    return int(numbers[0]) if len(numbers) == 1 else tuple(int(number) for number in numbers)


def _spacings_mm(value: object) -> float | tuple[float, ...] | None:
    if value is None:
        return None
    numbers = _one_or_three(value, "a voxel size in mm")
    return numbers[0] if len(numbers) == 1 else numbers


Factors = Annotated[int | tuple[int, int, int], BeforeValidator(_factors)]
SpacingsMm = Annotated[float | tuple[float, float, float] | None, BeforeValidator(_spacings_mm)]


def along_axes(value: float | tuple[float, float, float]) -> tuple[float, float, float]:
    """The value along R, A, S."""
    return value if isinstance(value, tuple) else (value, value, value)


def without_downsample_axes(values: Any) -> Any:  # noqa: ANN401 - what pydantic is given, before it is checked
    """`prepare` settings as they are written now; earlier stores and runs hold `downsample_axes: in_plane` or `all`.

    `downsample: F` with `in_plane` is `downsample: [F, F, 1]`.
    """
    if not isinstance(values, Mapping) or "downsample_axes" not in values:
        return values
    kept = {key: value for key, value in values.items() if key != "downsample_axes"}
    axes, factor = values["downsample_axes"], values.get("downsample", 4)
    if axes == "in_plane":
        factors = _factors(factor)
        if isinstance(factors, tuple):
            raise ValueError("downsample_axes in_plane goes with one factor, and downsample has three")
        return kept | {"downsample": (factors, factors, 1)}
    if axes != "all":
        raise ValueError("downsample_axes: all or in_plane was expected")
    return kept
