"""Attributes of a data set as plain values: nothing where they are missing or cannot be read.

The files of a series repeat nearly all of their headers, and pydicom takes longer to convert a value than to find it:
the same bytes are converted once.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from viscera.io.dicom.dicom_file import DAMAGE

NOTHING = Dataset()  # which is false; made once, as that takes time
_BINARY = {"US", "SS"}
_TEXTS = {"AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"}
_ESCAPE = b"\x1b"  # to another character set
_SAYS_NOTHING = 2  # letters of a value that stand in any sentence


def value_of(dataset: Dataset, keyword: str) -> Any:  # noqa: ANN401 - as pydicom has it
    """What `dataset.get(keyword)` gives; raises one of `DAMAGE` where it cannot be read."""
    tag = _tag(keyword)
    raw: RawDataElement | DataElement | None = dataset.get_item(tag)  # its annotation forgets None
    if raw is None:
        return None
    if isinstance(raw, RawDataElement) and raw.value is not None:
        kind, value = raw.VR or dictionary_VR(tag), raw.value
        if kind in _BINARY or (kind in _TEXTS and value.isascii() and _ESCAPE not in value):
            return _converted(tag, raw.VR, value, raw.is_implicit_VR, raw.is_little_endian)
    return dataset.get(keyword)


@lru_cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@lru_cache(maxsize=4096)
def _converted(tag: BaseTag, kind: str | None, value: bytes, is_implicit: bool, is_little_endian: bool) -> Any:  # noqa: ANN401
    """Of bytes whose meaning depends on nothing else in the data set."""
    raw = RawDataElement(tag, kind, len(value), value, 0, is_implicit, is_little_endian)
    return convert_raw_data_element(raw).value


def text_of(dataset: Dataset, keyword: str) -> str:
    """An attribute as text, without white space at its ends; empty where it is missing or cannot be read."""
    with suppress(*DAMAGE):
        value = value_of(dataset, keyword)
        return "" if value is None else " ".join(str(value).split())
    return ""


def texts_of(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of an attribute as text; none where it is missing or cannot be read."""
    with suppress(*DAMAGE):
        value = value_of(dataset, keyword)
        return (value,) if isinstance(value, str) else tuple(map(str, value or ()))
    return ()


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """An attribute as a number: None where it is missing or empty, NaN where what is there is no single number."""
    with suppress(*DAMAGE):
        value = value_of(dataset, keyword)
        parts = [value] if isinstance(value, str | int | float) or value is None else list(value)
        values = {float(part) for part in parts if part is not None and part != ""}
        return next(iter(values), None) if len(values) <= 1 else math.nan
    return math.nan


def whole_of(dataset: Dataset, keyword: str) -> int | None:
    """An attribute as a whole number; None where it is none."""
    value = number_of(dataset, keyword)
    return int(value) if value is not None and value.is_integer() else None


def numbers_of(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An attribute of so many finite numbers; None where it is not that."""
    with suppress(*DAMAGE):
        value = value_of(dataset, keyword)
        if not isinstance(value, str) and len(value) == count:
            numbers = tuple(map(float, value))
            return numbers if all(map(math.isfinite, numbers)) else None
    return None


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is missing or cannot be read."""
    with suppress(*DAMAGE):
        value: Any = value_of(dataset, keyword)
        return [item for item in value or () if isinstance(item, Dataset)]
    return []


def first_item(dataset: Dataset, keyword: str) -> Dataset:
    """First item of a sequence; an empty data set, which is false, where there is none."""
    return next(iter(items_of(dataset, keyword)), NOTHING)


def without_values(message: str, dataset: Dataset) -> str:
    """What a library says of a data set, without what stands in its elements: those name patients and places."""
    texts = set[str]()
    for element in dataset.iterall():
        with suppress(*DAMAGE):
            texts |= {text for text in _texts_in(element.value) if len(text) > _SAYS_NOTHING}
    for text in sorted(texts, key=len, reverse=True):
        message = message.replace(text, "…")
    return message


def _texts_in(value: Any) -> Iterator[str]:  # noqa: ANN401 - as pydicom has it
    """A value as a message may quote it."""
    if isinstance(value, str | PersonName):
        yield from (str(value), str(value).strip())
    elif isinstance(value, bytes):
        yield from (repr(value)[2:-1], value.decode("latin-1"))
    elif isinstance(value, MultiValue | list | tuple):
        for each in value:
            yield from _texts_in(each)
