"""The options of a command, made when it is called: the settings of the configuration, and those that all have."""

import copy
import inspect
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from viscera.cli.command import Function, parts
from viscera.core.config import Config
from viscera.core.resolve import PRESETS
from viscera.core.settings import Settings, fields_of
from viscera.core.suggestions import as_number
from viscera.core.wording import sentence
from viscera.core.wrong_values import in_words

_OTHERWISE = {  # of commands in which a setting means something else than in a training
    ("evaluate", "train.fold"): "Fold of a store whose cases are scored, from 0 on; all: the cases of all folds; with "
    "--split train, those that a training of the fold has seen; by default the store's own split.",
}
_FIELDS = {key: field for key, field, _ in fields_of(Config)}


def _option(name: str, type_: Any, default: Any, **info: Any) -> inspect.Parameter:  # noqa: ANN401
    annotation = Annotated[type_, typer.Option(f"--{name}", **info)]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name.replace("-", "_"), kind, default=default, annotation=annotation)


_PRESET = _option(
    "preset",
    str,
    "paper",
    metavar="NAME",
    help=f"Settings to start from, in place of the defaults shown here: {', '.join(PRESETS)}.",
)
_COMMON = (
    _option(
        "config",
        Path | None,
        None,
        metavar="FILE",
        help="YAML file of settings, as `viscera config show` prints it; by default none.",
        readable=False,
    ),
    _option(
        "set",
        list[str] | None,
        None,
        metavar="KEY=VALUE",
        help="Any setting, such as train.levels=3. May be repeated; by default none.",
    ),
    _option("quiet", bool, False, help="Print errors and results only."),
    _option("log-json", bool, False, help="Print progress as lines of JSON to standard error."),
)


def signature(function: Function, keys: Sequence[str]) -> inspect.Signature:
    """Of a command: its own parameters but the first, an option for each of the settings, and those that all have."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    settings = [
        _PRESET if key == "preset" else _setting_option(key, _OTHERWISE.get((function.__name__, key))) for key in keys
    ]
    parameters = [*map(_own, own), *settings, *_COMMON]
    return inspect.Signature(sorted(parameters, key=lambda each: each.default is not inspect.Parameter.empty))


def _own(parameter: inspect.Parameter) -> inspect.Parameter:
    """An argument or option of a command's own: of a text as annotation, typer's; arguments are shown in capitals."""
    type_, info = get_args(parameter.annotation)[:2]
    if isinstance(info, str) and parameter.default is inspect.Parameter.empty:
        info = typer.Argument(metavar=parameter.name.upper(), help=info)
    elif isinstance(info, str):
        metavar = None if type_ is bool else _metavar(type_)
        info = typer.Option(f"--{parameter.name.replace('_', '-')}", metavar=metavar, help=info)
    info = copy.copy(info)
    info.readable = False  # what cannot be read is bad input, and not wrong usage
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[type_, info])


def _setting_option(key: str, text: str | None = None) -> inspect.Parameter:
    """An option that sets a field: its type, help and default are the field's, unless another text is given."""
    field, name, text = _FIELDS[key], key.rpartition(".")[2].replace("_", "-"), text or _help(_FIELDS[key])
    if field.annotation is bool:
        return _option(name, bool, False, help=text)
    is_list = _is_list(field.annotation)
    type_: Any = Annotated[field.annotation, field]

    def checked(value: str | None) -> Any:  # noqa: ANN401 - of the field's type
        if value is None:
            return None
        given = parts(value) if is_list else value
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(type_, config=Settings.model_config)
            return adapter.validate_python(given)
        except ValidationError as error:
            problem = in_words(error.errors())
            if is_list and (meant := as_number(value)) and "did you mean" not in problem:
                problem += f"; did you mean {meant}? A comma separates several values"
            raise typer.BadParameter(f"'{value}': {sentence(problem)}") from None

    return _option(name, str | None, None, metavar=_metavar(field.annotation), help=text, callback=checked)


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    default = field.default
    shown = (",".join(map(str, default)) or "none") if isinstance(default, tuple) else default
    shown = f"{default:.4g}" if isinstance(default, float) else shown
    return f"{text[:1].upper()}{text[1:]}." + ("" if default is None or default is False else f"  [default: {shown}]")


def _is_list(type_: Any) -> bool:  # noqa: ANN401 - an annotation
    return get_origin(type_) is tuple and Ellipsis in get_args(type_)


def _metavar(type_: Any) -> str:  # noqa: ANN401 - an annotation
    """How a value is written: `N`, `X`, `N|N,N,N`, `a|b`, `A,B`, `X,X`."""
    if get_origin(type_) is Literal:
        return "|".join(get_args(type_))
    if get_origin(type_) is Annotated:
        return _metavar(get_args(type_)[0])
    if _is_list(type_):
        each = _metavar(get_args(type_)[0])
        return f"{each},{each}" if len(each) == 1 else "A,B"
    if get_origin(type_) is tuple:
        return ",".join(map(_metavar, get_args(type_)))
    if get_origin(type_) in {Union, types.UnionType}:
        return "|".join(_metavar(each) for each in get_args(type_) if each is not type(None))
    return {int: "N", float: "X", str: "NAME", Path: "PATH"}.get(type_, "VALUE")
