"""Wheel and source distribution of a commit or tag, the same bytes whenever and wherever they are made: `make release`.

What is built is what git has, not what lies in the folder. Times are that of the commit (SOURCE_DATE_EPOCH); the
source distribution is packed anew, because setuptools takes times, owners and modes as it finds them.
"""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from shutil import which

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"


def git(*arguments: str) -> bytes:
    """What git answers."""
    return subprocess.run([which("git") or "git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def packed(sdist: bytes, seconds: int) -> bytes:
    """The same files in one order, of nobody, of one time."""
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist), mode="r:gz") as before,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in sorted(before.getmembers(), key=lambda each: each.name):
            about = tarfile.TarInfo(member.name)
            about.type, about.size, about.mtime = member.type, member.size, seconds
            about.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            after.addfile(about, before.extractfile(member))
    content = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, content, mtime=seconds) as file:
        file.write(plain.getvalue())
    return content.getvalue()


def build(revision: str, out: Path) -> list[Path]:
    """Both, into a folder, with their checksums in SHA256SUMS."""
    seconds = int(git("log", "-1", "--format=%ct", revision, "--"))
    with tempfile.TemporaryDirectory() as folder:
        os.umask(0o022)
        with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", revision))) as files:
            files.extractall(folder, filter="data")
        fixed = {"SOURCE_DATE_EPOCH": str(seconds), "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [sys.executable, "-c", BUILD], cwd=folder, check=True, capture_output=True, env={**os.environ, **fixed}
        )
        made = {path.name: path.read_bytes() for path in sorted((Path(folder) / "dist").iterdir())}
    made = {name: packed(each, seconds) if name.endswith(".tar.gz") else each for name, each in made.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (out / name).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in made.items())
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return [out / name for name in made]


if __name__ == "__main__":
    build(sys.argv[1] if len(sys.argv) > 1 else "HEAD", Path(sys.argv[2] if len(sys.argv) > 2 else "dist"))
    print((Path(sys.argv[2] if len(sys.argv) > 2 else "dist") / "SHA256SUMS").read_text(encoding="utf-8"), end="")
