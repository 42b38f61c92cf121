"""How commands explain themselves: the list of all in groups, examples of each, and what was meant by a misspelling."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from viscera.cli.mirrored_arguments import refuse_secret_arguments
from viscera.core.errors import BadInputError
from viscera.core.safe_names import shown
from viscera.core.suggestions import as_number, did_you_mean, nearest

WIDTH = 100  # columns, where the terminal has them
_OTHER_NAMES = {"--arms": ("--weightings", "--learning-rates")}  # of what options together are
_EXAMPLES = "\n\nExamples:\n"
GROUPS: Mapping[str, Sequence[str]] = {  # those that are there, in this order
    "Data": ("phantom", "check", "prepare", "series"),
    "Train": ("doctor", "plan", "find-rate", "train", "calibrate"),
    "Apply": ("predict", "evaluate", "merge", "card", "export"),
    "Study": ("study", "report", "power"),
    "Look": ("view", "verify", "config", "nnunet-path"),
}


def text_and_examples(docstring: str | None) -> tuple[str, str]:
    """What a command's docstring says, and the lines of its examples: they stand below `Examples:`, at its end."""
    text, _, examples = inspect.cleandoc(docstring or "").partition(_EXAMPLES)
    return text, inspect.cleandoc(examples)


class ListOfCommands(TyperGroup):
    """An app whose help lists its commands in groups."""

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """The commands, and in a line the options: there are few, and they say what they do."""
        self.format_commands(ctx, formatter)
        opts = [max(param.opts, key=len) for param in self.get_params(ctx)]
        formatter.write_paragraph()
        formatter.write(f"Options: {', '.join(opts)}\n")

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """A line for each command, beside the first of a group the group's name."""
        names = self.list_commands(ctx)
        groups = {title: [name for name in group if name in names] for title, group in GROUPS.items()}
        groups[""] = [name for name in names if not any(name in group for group in GROUPS.values())]
        titles = max(map(len, GROUPS)) + 2 if len(groups[""]) < len(names) else 0
        indent = max(map(len, names), default=0)
        with formatter.section("Commands"):
            for title, group in groups.items():
                for name in group:
                    label = f"{title if name == group[0] else '':{titles}}" if titles else ""
                    about = self.commands[name].get_short_help_str(WIDTH)
                    formatter.write(f"  {label}{name:{indent}}  {about}\n")

    def format_epilog(self, _ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """The lines of the epilog as they are."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(f"{self.epilog}\n")


class OneCommand(TyperCommand):
    """A command with usage lines as everywhere: `viscera train [OPTIONS] STORE RUN`.

    An empty argument is refused: it would be the folder one is in. So is a URL with a password in it, before a message
    repeats it.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments; where that fails, say what was probably meant."""
        try:
            refuse_secret_arguments(args)
        except BadInputError as error:
            typer.echo(shown(f"viscera: {error}"), err=True)
            ctx.exit(error.exit_code)
        if any(not arg.strip() or re.fullmatch(r"--[\w-]+=\s*", arg) for arg in args):
            ctx.fail("an argument is empty. Is a variable not set? Give a path, or leave it out.")
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _in_our_words(error.message, args)
            raise
        except Exception as error:
            if not hasattr(error, "possibilities"):  # of an option that does not exist
                raise
            ctx.fail(self._no_such_option(ctx, str(error.option_name)))  # type: ignore[attr-defined]

    def _no_such_option(self, ctx: typer.Context, given: str) -> str:
        from viscera.core.config import Config  # noqa: PLC0415 - `viscera --help` needs none of it
        from viscera.core.settings import fields_of  # noqa: PLC0415

        name = given.lstrip("-").replace("-", "_")
        settings = [key for key, _, _ in fields_of(Config) if key.rpartition(".")[2] == name]
        options = [each for param in self.get_params(ctx) for each in param.opts if each.startswith("--")]
        close = nearest(given, options)
        if meant := [each for each in _OTHER_NAMES.get(given, ()) if each in options]:
            close = " and ".join(meant)
        if len(name) == 1:  # as other programs abbreviate
            close = " or ".join(each for each in options if each.startswith(f"--{name}"))
        likely = f"Did you mean {close}?" if close else ""
        if settings:
            likely = f"It is a setting: --set {settings[0]}=VALUE."
        return f"{ctx.info_name} has no option {given}. {likely}".strip()

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Arguments in capitals alone."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_epilog(self, _ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """The examples."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _in_our_words(message: str, args: Sequence[str]) -> str:
    """What typer says of a value, without the words of the library that checks it."""
    if choice := re.match(r"Value error, ('.*') is not one of (.*)\.$", message.strip()):
        names = re.findall(r"'([^']+)'", choice[2])
        return f"{choice[1]}: {' or '.join(names)} was expected.{did_you_mean(choice[1].strip(chr(39)), names)}"
    found = re.match(r"Input should be (?:a valid )?(.*)", message.strip())
    if found is None:
        return message
    expected = found[1].partition(",")[0].rstrip(".")
    for name, ours in (("integer", "a whole number"), ("number", "a number")):
        expected = ours if expected == name else expected
    for word, ours in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
        expected = expected.replace(word, f"a number of {ours}")
    expected = re.sub(r"^greater than", "a number above", expected)
    number = next((each for arg in args if (each := as_number(arg.rpartition("=")[2]))), None)
    return f"{expected} was expected.{f' Did you mean {number}?' if number else ''}"
