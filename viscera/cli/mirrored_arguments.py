"""URLs among the arguments of a command: it works on files of this machine, and what it writes is sent there."""

import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscera.cli.terminal import Display, end_on_signal
from viscera.core.addresses import local_path, refuse_secrets, url_of
from viscera.core.errors import BadInputError, RunFailedError, VisceraError, case_error
from viscera.core.wording import counted

if TYPE_CHECKING:
    from viscera.io.remote.local_mirror import Mirror

_EVERY_S = 30.0
_SCANS = {"predict": ("source", "source_option")}  # of which a command needs one at a time
_WRITE_TOGETHER = {"prepare", "check"}  # the parts of a job array; of others each has a result of its own


@contextmanager
def mirrored(
    name: str, given: Mapping[str, Any], writes: Collection[str], display: Display, *, is_first: bool
) -> Iterator[dict[str, Any]]:
    """What a command is given, with each URL replaced by its files here; those that it `writes` are sent.

    They are sent every half minute, and at the end, however the command ends. Of several processes of one training only
    the first sends, and only it needs what was there. Raises BadInputError for what is at no URL, cannot be reached or
    written, and RunFailedError where the results could not be sent.
    """
    paths = {key: _each(local_path, value) for key, value in given.items()}
    urls = {key: found for key, value in paths.items() if (found := _urls_in(value))}
    if not urls:
        yield paths
        return
    _refuse_many_machines(name, given, [url for key, found in urls.items() if key in writes for url in found])
    from viscera.io.remote.local_mirror import Mirror  # noqa: PLC0415 - for few commands only

    outputs = {url for key, found in urls.items() if key in writes for url in found}
    names, scans = _names_of(name), {url for key in _SCANS.get(name, ()) for url in urls.get(key, ())}
    mirrors = {
        url: Mirror(url, is_output=url in outputs, names=names, scan_by_scan=url in scans)
        for found in urls.values()
        for url in found
    }
    sent = [mirror for mirror in mirrors.values() if mirror.is_output and is_first]
    with ExitStack() as held:
        with end_on_signal():
            for mirror in mirrors.values():  # before any of them makes room
                held.enter_context(mirror.in_use())
            for mirror in mirrors.values():
                if is_first or not mirror.is_output:
                    mirror.fetch(display.update)
            for mirror in sent:
                mirror.remote.refuse_unwritable()
                if count := mirror.send(display.update):
                    display.note(f"{mirror.url}: sent what the last command could not send ({counted(count, 'file')})")
        display.addresses = {**display.addresses, **{str(mirror.folder): mirror.url for mirror in mirrors.values()}}
        sending = _Sending(sent, display)
        try:
            here = {url: mirror.path for url, mirror in mirrors.items()}
            yield {key: _each(lambda path: here.get(url_of(path) or "", path), value) for key, value in paths.items()}
        except (VisceraError, OSError, MemoryError) as error:
            explained = case_error(name, error)
            sentence = type(explained)(display.named(str(explained)))
            sending.finish(is_well=False)
            raise sentence from error
        except BaseException:
            sending.finish(is_well=False)
            raise
        sending.finish(is_well=True)


def refuse_secret_arguments(arguments: Sequence[str]) -> None:
    """Raise BadInputError, before anything shows them, for URLs with a password or a signature in them."""
    for argument in arguments:
        url = url_of(Path(argument.partition("=")[2] if argument.startswith("--") else argument))
        for each in (url, url_of(Path(argument))):
            if each is not None:
                refuse_secrets(each)


def _each(change: Callable[[Path], Path], value: Any) -> Any:  # noqa: ANN401 - any option's value
    """A value with its path, or paths, changed."""
    if isinstance(value, list):
        return [_each(change, each) for each in value]
    return change(value) if isinstance(value, Path) else value


def _urls_in(value: Any) -> list[str]:  # noqa: ANN401 - any option's value
    paths = value if isinstance(value, list) else [value]
    return [url for path in paths if isinstance(path, Path) and (url := url_of(path)) is not None]


def _refuse_many_machines(name: str, given: Mapping[str, Any], written: Sequence[str]) -> None:
    if given.get("launcher") == "ray" and name != "study":
        raise BadInputError(
            "--launcher ray needs files that all nodes reach under the same path, and a URL has its files here on this "
            "machine alone. Give paths of a shared file system, use --jobs, or `viscera study`, whose store travels."
        )
    if given.get("shard") and written and name in _WRITE_TOGETHER:
        raise BadInputError(
            f"{written[0]}: the parts of a job array (--shard) write this together, which needs a folder that all of "
            f"them reach. Give one, or do without --shard: `{name} --jobs N`."
        )


def _names_of(command: str) -> Sequence[str]:
    """The files that a command looks at in a folder, and no others; none: all of them."""
    if command != "merge":  # beside tables there are label maps
        return ()
    from viscera.stages.merge import NAMES  # noqa: PLC0415 - for this command only

    return NAMES


class _Sending:
    """Sends what is written, in the background as long as the command works, and then the rest."""

    def __init__(self, mirrors: Sequence["Mirror"], display: Display) -> None:
        self._mirrors, self._display = mirrors, display
        self._failing = set[str]()  # mirrors to whose URL the last try failed, which was said
        self._lost = set[str]()  # those to which another process writes
        given = os.environ.get("VISCERA_UPLOAD_EVERY_S") or str(_EVERY_S)
        self._every_s = float(given) if re.fullmatch(r"\d*\.?\d+", given) else _EVERY_S
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_now_and_then, daemon=True)
        if mirrors:
            self._thread.start()

    def finish(self, *, is_well: bool) -> None:
        """Send the rest; raises where that fails, unless the command has failed itself: then it is said."""
        self._ended.set()
        if not self._mirrors:
            return
        failures = list[VisceraError]()
        with end_on_signal():
            self._thread.join()
            for mirror in self._mirrors:
                try:
                    mirror.send(self._display.update)
                except (VisceraError, OSError) as error:
                    failures.append(_not_sent(mirror, case_error(mirror.url, error)))
        self._display.addresses = {}  # the folder is meant
        if failures and is_well:
            raise failures[0]
        for failure in failures:
            self._display.error(f"Note: {failure}")

    def _send_now_and_then(self) -> None:
        while not self._ended.wait(self._every_s):
            for mirror in self._mirrors:
                if mirror.home.name not in self._lost:
                    self._send(mirror)

    def _send(self, mirror: "Mirror") -> None:
        """Send what there is; the command goes on, whatever becomes of it."""
        from viscera.io.remote.local_mirror import OtherWriterError  # noqa: PLC0415 - loaded already

        key = mirror.home.name
        try:
            mirror.send()
        except OtherWriterError as error:
            self._lost.add(key)
            self._display.error(
                f"viscera: {error} Nothing more is sent to {mirror.url} while this command works; it continues, with "
                "its results on this machine. Is another one writing to the same URL? Stop one of them."
            )
        except Exception as error:  # noqa: BLE001 - the command goes on, whatever it is
            if key not in self._failing:
                self._display.note(f"Note: not everything could be sent so far, it is tried again: {error}")
            self._failing.add(key)
        else:
            self._failing.discard(key)


def _not_sent(mirror: "Mirror", error: VisceraError) -> VisceraError:
    from viscera.io.remote.local_mirror import OtherWriterError  # noqa: PLC0415 - loaded already

    if isinstance(error, OtherWriterError):
        remedy = "Give the next command another URL, or copy what you need of it by hand."
        return BadInputError(f"{error} What was made here is complete in {mirror.folder}. {remedy}")
    return RunFailedError(
        f"{error} So not all results were sent to {mirror.url}; they are complete in {mirror.folder}. Run the same "
        "command again to send them."
    )
