"""YAML as plain values: the one door to `yaml.load`. A text of a few kB cannot stand for gigabytes, or for code.

PyYAML's safe loaders make no objects, but aliases of aliases multiply (ten names of ten values each are ten billion),
a C parser that recurses can end the process, and a value that is not what its tag says raises almost anything.
"""

import re
from collections.abc import Iterable
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader  # libyaml's, eight times as fast
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_MOST_CHARACTERS = 2**22
_MOST_LEVELS = 100  # of values in values
_MOST_VALUES = 200_000  # with those that aliases stand for
_DEEP = re.compile(r"^[ ]{100}|(?:[-?] ){20}", re.MULTILINE)  # lines that could nest so deep
_LONG_NUMBER = re.compile(r"[0-9a-fA-F_:]{310}")  # of which no float is as large


class _Loader(SafeLoader):
    """As `yaml.safe_load`, but a key that is given twice in one mapping is an error, as it is in the YAML standard."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    message = f"'{key.value}' is there twice"
                    raise yaml.constructor.ConstructorError(problem=message, problem_mark=key.start_mark)
                seen.add(key.value)
        result: dict[Any, Any] = super().construct_mapping(node, deep)
        return result

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """What is written in bytes is a text too: the name of a file that is no UTF-8."""
        return str(self.construct_yaml_binary(node).decode(errors="surrogateescape"))


_Loader.add_constructor("tag:yaml.org,2002:binary", _Loader.construct_text)


def plain_yaml(text: str) -> Any:  # noqa: ANN401 - whatever YAML can hold
    """The value of a YAML text; raises ValueError where it is none, or stands for too much."""
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters; settings have thousands")
    try:
        if text.count("[") + text.count("{") > _MOST_LEVELS or _DEEP.search(text):
            _refuse_deep(yaml.parse(text, _Loader))  # before anything recurses
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if "*" in text:
                _refuse_many(node)
            value = loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    except (LookupError, AttributeError, TypeError, OverflowError) as error:  # of `!!int ""`, `!!timestamp x`, ...
        raise ValueError(f"a value that is not what its tag says ({type(error).__name__})") from error
    _refuse_long_numbers(text, value)
    return value


def _refuse_deep(events: Iterable[yaml.Event]) -> None:
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_LEVELS:
            raise ValueError(f"values within values, more than {_MOST_LEVELS} levels deep")


def _refuse_many(root: yaml.Node) -> None:
    """Refuse aliases that stand for too many values together, or for what they are a part of."""
    sizes: dict[int, int] = {}  # of each node with all that is in it
    open_nodes, stack = set[int](), [(root, False)]
    while stack:
        node, is_done = stack.pop()
        parts = _parts(node)
        if is_done:
            open_nodes.discard(id(node))
            sizes[id(node)] = size = 1 + sum(sizes[id(part)] for part in parts)
            if size > _MOST_VALUES:
                raise ValueError(f"its aliases stand for more than {_MOST_VALUES:,} values")
        elif id(node) in open_nodes:
            raise ValueError("an alias stands for what it is a part of")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack.append((node, True))
            stack += [(part, False) for part in parts]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_long_numbers(text: str, value: Any) -> None:  # noqa: ANN401 - whatever YAML can hold
    """Refuse whole numbers that Python neither prints nor turns into floats."""
    stack = [value] if _LONG_NUMBER.search(text) else []
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            stack += each
        elif isinstance(each, int) and abs(each) > 1e308:
            raise ValueError("a number of hundreds of digits")
