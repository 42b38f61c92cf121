"""Two names of one file system exchanged at once, where the system can: Linux by `renameat2`, macOS by `renamex_np`."""

import ctypes
import errno
import os
from pathlib import Path

_HERE, _EXCHANGE, _SWAP = -100, 2, 2  # AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP


def exchange(first: Path, second: Path) -> None:
    """Give each of two files or folders the name of the other; at no moment is either name free.

    Raises OSError where one of them is not there, and where the system or the file system cannot (ENOSYS, EINVAL …).
    """
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(first), os.fsencode(second)
    if library is not None and hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_EXCHANGE))
    elif library is not None and hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, ctypes.c_uint(_SWAP))
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(first))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first), None, str(second))
