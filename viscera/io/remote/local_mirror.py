"""What is at a URL, as files of this machine: fetched where it is new there, sent where it was made here."""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath

from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.wording import counted
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import make_folder, refuse_unwritable, temporary_beside, writing
from viscera.io.remote.cache_room import WAIT_S, clear_leftovers, in_use, one_at_a_time, refuse, room
from viscera.io.remote.mirror_index import Index, Known, Seen, forget_removed, place_of, removed
from viscera.io.remote.remote_folder import RemoteFile, RemoteFolder, is_hidden, md5_of
from viscera.io.remote.scan_by_scan import keep_list, may_come_later

_MB = 10**6
_SMALL = 2**20  # bytes; smaller files are copied to be sent, others linked
_GROWING = ".jsonl"  # files that grow in their place, and are copied; all others are replaced as a whole
_LOOKS = 5  # for a moment at which nothing is just being written
_ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".dcm", ".hdr", ".img", ".zip", ".csv", ".json", ".yaml", ".yml")
_TABLES = (".csv", ".json", ".sha256")


class OtherWriterError(BadInputError):
    """What is at a URL was written by somebody else since it was last looked at."""


class Mirror:
    """A URL and its files here. Processes that mirror the same one take turns."""

    def __init__(
        self, url: str, *, is_output: bool = False, names: Collection[str] = (), scan_by_scan: bool = False
    ) -> None:
        """Of a folder all files, or those of these `names` alone; or its scans one by one where not all have room.

        Raises BadInputError where the URL is none, or its package is missing.
        """
        remote = RemoteFolder(url)
        within, _, last = url.rpartition("/")
        is_nested = not within.endswith("/")  # not the bucket itself
        looks_like_file = last.lower().endswith(_ENDINGS)
        self._is_file = is_nested and ((looks_like_file and is_output) or remote.is_file())
        self._name, self.url = (last, within) if self._is_file else ("", url)
        self.remote = RemoteFolder(within) if self._is_file else remote
        self.is_output, self._scan_by_scan = is_output, scan_by_scan
        self._only = () if self._is_file else tuple(sorted(names))
        self.home, self.folder = place_of(self.url, self.remote.endpoint, self._name or "\n".join(self._only))

    @property
    def path(self) -> Path:
        """What stands for the URL here."""
        return self.folder / self._name if self._name else self.folder

    def in_use(self) -> AbstractContextManager[None]:
        """Within, what is here stays, whoever needs room."""
        return in_use(self.home)

    def fetch(self, progress: OnProgress = unseen) -> None:
        """Make what is here what is there; results that were not sent yet stay as they are.

        Raises BadInputError where nothing is at the URL, unless it is to be written; where it does not fit on the disk;
        where both sides have changed, or all is gone there that is still here.
        """
        with self._held() as index:
            clear_leftovers(self.home)
            index.is_written |= self.is_output
            there = self._there()
            self._refuse_last_copy(index, there)
            wanted = [name for name, file in there.items() if self._is_wanted(index, name, file)]
            self._forget(index, there)
            with one_at_a_time():
                later = self._later(index, there, wanted)
                keep_list(self.home, {name: there[name] for name in later})
                wanted = [name for name in wanted if name not in later]
                self._refuse_too_much(_bytes(there, wanted))
                self._fetch_all(index, {name: there[name] for name in wanted}, progress)
        if not self.is_output and not self.path.exists():
            shown = [name for name in self._only if not name.startswith(".") and not name.endswith(".sha256")]
            what = f"none of {', '.join(shown)}" if shown else "no such file or folder, or it is empty"
            raise BadInputError(f"{self.remote.url}: there is {what}.")

    def send(self, progress: OnProgress = unseen) -> int:
        """Send what has been written here since, in the order in which it was written; how many files those were.

        Raises BadInputError where another process has written a file there since, which stays as it is; and for
        whatever keeps the files from being sent.
        """
        with self._held() as index, self._changed(index) as changed:
            gone = self._removed(index)
            if not changed and not gone:
                return 0
            there = self._there()
            self._refuse_others(index, there, [*changed, *gone])
            index.sending = {name: md5_of(copy) for name, (copy, _) in changed.items()}
            index.keep(self.home)
            for done, (name, (copy, seen)) in enumerate(changed.items()):
                progress(Progress(f"send {self.url}", done, len(changed), name))
                sent = self.remote.send(copy, name)
                index.files[name] = Known(sent.size, sent.stamp, seen.mtime_ns)
            for name in gone:
                self.remote.remove(name)
                del index.files[name]
                forget_removed(self.home, name)
            index.sending = {}
            progress(Progress(f"send {self.url}", len(changed), len(changed)))
            return len(changed)

    @contextmanager
    def _held(self) -> Iterator[Index]:
        refuse_unwritable(self.home, "Set XDG_CACHE_HOME to a folder of your own.")
        with exclusive(self.home, wait_s=WAIT_S), Index.kept(self.home, self.url) as index:
            yield index

    def _there(self) -> dict[str, RemoteFile]:
        """The files that are of this mirror: of a folder all, or those wanted; of a file those that belong to it."""
        if self._only:
            return {name: file for name, file in self.remote.files(is_deep=False).items() if name in self._only}
        if not self._is_file:
            return self.remote.files()
        stem = self._name
        for ending in _ENDINGS:
            stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
        found = self.remote.files(is_deep=False)
        return {
            name: file
            for name, file in found.items()
            if name == self._name or name.startswith(f"{stem}.") or (self.is_output and name.endswith(_TABLES))
        }

    def _here(self) -> dict[str, Seen]:
        """The files of the mirror, but those that stay here."""
        found = dict[str, Seen]()
        for folder, folders, files in os.walk(self.folder):
            within = Path(folder).relative_to(self.folder)
            folders[:] = [] if self._is_file or self._only else [each for each in folders if not is_hidden(each)]
            for name in (within / each for each in files if not is_hidden(each)):
                if (seen := Seen.of(self.folder / name)) is not None:
                    found[name.as_posix()] = seen
        return found

    def _removed(self, index: Index) -> list[str]:
        """The files that are to be removed there; those that are here again, or never were there, are forgotten."""
        noted, here = removed(self.home), self._here()  # in this order, as others may be removed just now
        for name in (name for name in noted if name in here or name not in index.files):
            forget_removed(self.home, name)
        return [name for name in noted if name not in here and name in index.files]

    def _is_wanted(self, index: Index, name: str, file: RemoteFile) -> bool:
        """Whether a file is to be fetched."""
        known, here = index.files.get(name), Seen.of(self.folder / name)
        is_newer_there = known is None or not known.is_there(file)
        is_changed_here = here is not None and (known is None or not known.is_here(here))
        if not (is_changed_here and index.is_written):
            return is_newer_there or is_changed_here or here is None
        if is_newer_there and not self._is_known(index, name, file):
            raise OtherWriterError(
                f"{self.url}/{name}: another process has written it, and {self.folder / name} is a result of this "
                f"machine that was not sent. Keep what you want of both, and delete {self.home}."
            )
        return False

    def _is_known(self, index: Index, name: str, file: RemoteFile) -> bool:
        """Whether what is there was sent from here, by a process that was ended before it could note that."""
        path, sent = self.folder / name, index.sending.get(name)
        here = md5_of(path) if path.is_file() else None
        there = file.stamp
        if there not in {here, sent}:
            copy = self._temporary(name)
            self.remote.fetch(name, file, copy, lambda _: None)
            there = md5_of(copy)
            copy.unlink()
        if there not in {here, sent}:
            return False
        seen = Seen.of(path)
        index.files[name] = Known(*file, seen.mtime_ns if seen and there == here else 0)
        return True

    def _refuse_last_copy(self, index: Index, there: Collection[str]) -> None:
        """Raise BadInputError where all of a folder is gone there, maybe by mistake: here is the last copy."""
        left = [name for name, known in index.files.items() if known.is_here(Seen.of(self.folder / name))]
        if left and not there and not self._name and not self._only:
            raise BadInputError(
                f"{self.url}: nothing is there any more, and {self.folder} still holds {counted(len(left), 'file')} of "
                f"it. If that is a mistake, copy them there; else delete {self.home}, and run the command again."
            )

    def _forget(self, index: Index, there: Collection[str]) -> None:
        """Delete what is gone there, unless it was written here since."""
        for name in [name for name in index.files if name not in there]:
            known = index.files.pop(name)
            if known.is_here(Seen.of(self.folder / name)):
                self._delete(name)
        for name in () if index.is_written else [name for name in self._here() if name not in there]:
            self._delete(name)

    def _delete(self, name: str) -> None:
        path = self.folder / name
        path.unlink()
        for folder in path.parents[: len(PurePosixPath(name).parts)]:
            if any(folder.iterdir()):
                break
            folder.rmdir()

    def _fetch_all(self, index: Index, wanted: dict[str, RemoteFile], progress: OnProgress) -> None:
        total, done, keep_at = sum(max(0, file.size) for file in wanted.values()), 0, 0.0
        ended = threading.Event()

        def on_bytes(count: int) -> None:
            nonlocal done
            if ended.is_set():
                raise InterruptedRunError("stopped")
            done += count
            if total >= _MB:
                progress(Progress(f"fetch {self.url} (MB)", min(done, total) // _MB, total // _MB))

        def fetch(name: str) -> str:
            copy = self._temporary(name)
            self.remote.fetch(name, wanted[name], copy, on_bytes)
            path = self.folder / name
            with writing(path):
                make_folder(path.parent)
                copy.replace(path)
            return name

        with ThreadPoolExecutor(self.remote.streams) as pool:
            try:
                for future in as_completed([pool.submit(fetch, name) for name in wanted]):
                    name = future.result()
                    size, mtime_ns = Seen.of(self.folder / name) or (0, 0)
                    index.files[name] = Known(size, wanted[name].stamp, mtime_ns)
                    if (now := time.monotonic()) >= keep_at:  # a large index takes a tenth of the time at most
                        index.keep(self.home)
                        keep_at = time.monotonic() + 9 * (time.monotonic() - now)
            except BaseException:
                ended.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _later(self, index: Index, there: dict[str, RemoteFile], wanted: list[str]) -> list[str]:
        """The scans that are fetched when they are worked on: where not all have room, and nothing was written here."""
        needed = _bytes(there, wanted)
        if not self._scan_by_scan or index.is_written or not needed or needed <= room(self.home, needed):
            return []
        later = may_come_later(there)
        if later:
            make_folder(self.folder)
        return later

    def _refuse_too_much(self, needed: int) -> None:
        make_folder(self.home)
        if needed:
            refuse(self.url, self.home, needed, room(self.home, needed))

    @contextmanager
    def _changed(self, index: Index) -> Iterator[dict[str, tuple[Path, Seen]]]:
        """Copies of what has been written since, as it was at one moment; oldest first, as others refer to it."""
        copies = self.home / f".sending-{secrets.token_hex(4)}"
        try:
            for _ in range(_LOOKS):
                changed = {
                    name: seen
                    for name, seen in self._here().items()
                    if (known := index.files.get(name)) is None or not known.is_here(seen)
                }
                newest_first = sorted(changed, key=lambda name: changed[name].mtime_ns, reverse=True)
                shutil.rmtree(copies, ignore_errors=True)
                taken = {name: _copied(self.folder / name, copies / name) for name in newest_first}
                if all(Seen.of(self.folder / name) == changed[name] for name in newest_first):
                    break
            yield {name: (copies / name, changed[name]) for name in reversed(newest_first) if taken[name]}
        finally:
            shutil.rmtree(copies, ignore_errors=True)

    def _refuse_others(self, index: Index, there: dict[str, RemoteFile], names: list[str]) -> None:
        """Raise BadInputError where somebody else has written one of these files."""
        for name in names:
            now, known = there.get(name), index.files.get(name)
            if now is not None and (known is None or not known.is_there(now)) and not self._is_known(index, name, now):
                raise OtherWriterError(
                    f"{self.url}/{name}: another process has written it since; it was left as it is."
                )

    def _temporary(self, name: str) -> Path:
        folder = self.home / ".fetching"
        make_folder(folder)
        return temporary_beside(folder / PurePosixPath(name).name)


def _bytes(there: dict[str, RemoteFile], names: list[str]) -> int:
    return sum(max(0, there[name].size) for name in names)


def _copied(path: Path, to: Path) -> bool:
    """Keep a file as it is; False where it is gone."""
    make_folder(to.parent)
    try:
        if path.stat().st_size > _SMALL and path.suffix != _GROWING:
            with suppress(OSError):  # not all file systems have links
                to.hardlink_to(path)
                return True
        shutil.copyfile(path, to)
    except FileNotFoundError:
        return False
    return True
