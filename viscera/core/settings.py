"""What a setting is: a field that explains itself, says whose business it is, and may differ along the axes.

Whose business it is decides what may change when a run resumes or a study goes on.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from viscera.core.named_weights import WEIGHTINGS, is_weighting_name
from viscera.core.safe_names import is_file_name, is_within
from viscera.core.suggestions import nearest

Role = Literal["machine", "schedule", "grid", "method"]
ROLES: Mapping[Role, str] = {
    "machine": "where it runs, and what is measured and kept meanwhile; it may differ when a run or study resumes",
    "schedule": "how long a training is; it may grow when a run or study resumes",
    "grid": "what the arms of a study differ in",
    "method": "what is computed: a value of the paper, or an interpretation where it leaves room (docs/readings.md)",
}
ANOTHER_MODEL: frozenset[Role] = frozenset({"grid", "method"})  # a run that differs in one of these is another run
_MOST_CHARACTERS = 8  # of a number that is printed as it is
Default = TypeVar("Default")


def _refused_unless(is_right: Callable[[str], bool], what: str, text: str) -> str:
    if not is_right(text):
        raise ValueError(f"{what} was expected")
    return text


Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
FileName = Annotated[str, AfterValidator(partial(_refused_unless, is_file_name, "the name of a file"))]
PathWithin = Annotated[str, AfterValidator(partial(_refused_unless, is_within, "a path within the folder"))]
Probability = Annotated[float, Field(ge=0, le=1)]


def setting(default: Default, description: str, *, role: Role | None = None, **rules: Any) -> Default:  # noqa: ANN401
    """A field that explains itself; `role` is its section's where none is given, `rules` are pydantic's (`ge=1`)."""
    extra: JsonDict | None = {"role": role} if role else None
    return cast("Default", Field(default, description=description, json_schema_extra=extra, **rules))


class Settings(BaseModel):
    """Base of all sections: immutable, unknown keys are errors, NaN and infinity too."""

    # deferred: what checks the values is built when there are some, which `--help` need not wait for
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    role: ClassVar[Role] = "method"  # of the fields that name none themselves

    @classmethod
    def role_of(cls, name: str) -> Role:
        """Whose business a field is."""
        extra = cls.model_fields[name].json_schema_extra
        return cast("Role", extra["role"]) if isinstance(extra, Mapping) and "role" in extra else cls.role


def refused(key: str, value: object, message: str) -> ValidationError:
    """What a validator of a whole section raises for the value of one field, given by its dotted key."""
    error = PydanticCustomError("value_error", message)
    details = InitErrorDetails(type=error, loc=tuple(key.split(".")), input=value)
    return ValidationError.from_exception_data("settings", [details])


def differences(
    before: Settings,
    now: Settings,
    roles: Collection[Role] = get_args(Role),
    apart_from: Collection[str] = (),
    within: str = "",
    *,
    name_defaults: bool = False,
) -> list[str]:
    """Which fields of these roles differ in two values of one section, as `dotted.field before (now after)`.

    Fields named in `apart_from` may differ; `within` is the section's own key with a dot. `name_defaults` adds that the
    value now is the default, which nobody may have given.
    """
    result = []
    for key, field, role in fields_of(type(now)):
        old, new = attrgetter(key)(before), attrgetter(key)(now)
        if old != new and role in roles and key.rpartition(".")[2] not in apart_from:
            texts = [written(old), written(new)]
            before_text, now_text = texts if texts[0] != texts[1] else [written(each, str) for each in (old, new)]
            default = ", the default" if name_defaults and new == field.default else ""
            result.append(f"{within}{key} {before_text} (now {now_text}{default})")
    return result


def _short(number: float) -> str:
    """`0.09814` of 37/377, and `4` of 4.0."""
    return f"{number:.4g}" if len(str(number)) > _MOST_CHARACTERS else str(number).removesuffix(".0")


def written(value: object, number: Callable[[float], str] = _short) -> str:
    """A value of a setting as people write it: `R,S` and `true`; `none` of what is empty."""
    if value is None or (isinstance(value, Sequence | Mapping) and not value):
        return "none"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(each, number)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return ",".join(written(each, number) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


def fields_of(section: type[Settings], within: str = "") -> Iterator[tuple[str, FieldInfo, Role]]:
    """Every field below a section, with its dotted key and whose business it is."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from fields_of(field.annotation, f"{within}{name}.")
        else:
            yield f"{within}{name}", field, section.role_of(name)


def a_weighting_was_expected(given: object, names: Collection[str] = ()) -> str:
    """What is said of a value that is no weighting; `names` are those of study.weights."""
    likely = nearest(given, [*WEIGHTINGS, *names])
    expected = f"{', '.join(WEIGHTINGS)}, a name in study.weights, or a power in [0, 2] was expected"
    return f"{expected}; did you mean {likely}?" if likely else expected


def _weighting(value: object) -> str | float:
    """A scheme by name, or a power as number or text. Names of study.weights are looked up later."""
    if value in WEIGHTINGS or is_weighting_name(value):
        return str(value)
    try:
        power = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        power = math.nan
    if isinstance(value, bool) or not 0 <= power <= 2:
        raise ValueError(a_weighting_was_expected(value))
    return power


Weighting = Annotated[str | float, BeforeValidator(_weighting)]


def as_yaml(settings: Settings) -> str:
    """YAML with a comment on every field: whose business it is, and what it means. It can be read back."""
    legend = [f"# [{role}] {meaning}" for role, meaning in ROLES.items()]
    return "\n".join([*legend, "", *_lines(settings, "")])


def _lines(section: Settings, margin: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Settings):
            yield f"{margin}{name}:"
            yield from _lines(value, margin + "  ")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
            yield f"{margin}{name}: {text}  # [{section.role_of(name)}] {field.description}"


def _one_or_three(value: object, expected: str) -> float | tuple[float, float, float]:
    """Positive numbers, as they are or as text such as `4,4,1`; three equal ones are one."""
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    items: Sequence[Any] = parts if isinstance(parts, list | tuple) else [parts]
    try:
        numbers = [math.nan if isinstance(item, bool) else float(item) for item in items]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) not in {1, 3} or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"{expected} was expected, or three along R, A, S such as 4,4,1")
    first, *others = numbers
    return first if set(others) <= {first} else (first, others[0], others[1])


def _factors(value: object) -> int | tuple[int, ...]:
    numbers = _one_or_three(value, "a whole number from 1 on")
    if not all(float(number).is_integer() for number in along_axes(numbers)):
        raise ValueError("whole numbers from 1 on were expected; for other voxel sizes give spacing_mm")
    return tuple(map(int, numbers)) if isinstance(numbers, tuple) else int(numbers)


def _spacings_mm(value: object) -> float | tuple[float, ...] | None:
    return None if value is None else _one_or_three(value, "a voxel size in mm")


def _coarser(value: object) -> float | tuple[float, float, float]:
    factors = _one_or_three(value, "a factor")
    if not all(1 <= factor <= 8 for factor in along_axes(factors)):
        raise ValueError("factors from 1 to 8 were expected")
    return factors


def _axes(value: object) -> object:
    """Letters in the order R, A, S, each once; also of text, such as R,S."""
    names = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    names = [] if names == [""] else names
    if not isinstance(names, list | tuple):
        names = [names]
    for name in names:
        if name not in AXES:
            raise ValueError(f"R, A or S was expected, or several such as [R, S]; there is no axis {name}")
    return tuple(name for name in AXES if name in names)


Axis = Literal["R", "A", "S"]
AXES: tuple[Axis, ...] = get_args(Axis)  # to the right, front and head; those of I, J, K of a scan that is prepared
AxisNames = Annotated[tuple[Axis, ...], BeforeValidator(_axes)]
Coarser = Annotated[float | tuple[float, float, float], BeforeValidator(_coarser)]
Factors = Annotated[int | tuple[int, int, int], BeforeValidator(_factors)]
SpacingsMm = Annotated[float | tuple[float, float, float] | None, BeforeValidator(_spacings_mm)]


def along_axes(value: float | tuple[float, float, float]) -> tuple[float, float, float]:
    """The value along R, A, S."""
    return value if isinstance(value, tuple) else (value, value, value)


def as_written_now(values: Any) -> Any:  # noqa: ANN401 - what pydantic is given, before it is checked
    """`prepare` settings as they are written now: earlier ones held `downsample_axes`: all or in_plane (F, F, 1)."""
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
