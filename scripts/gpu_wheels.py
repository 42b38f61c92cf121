"""Download what a GPU machine without a network lacks: wheels of our dependencies, without PyTorch.

    python scripts/gpu_wheels.py wheels --python 3.12 --there "numpy scipy" --peers "monai==1.6.0"

Packages named in --there are on that machine already, and their wheels, the large ones, are left out. Peers, for the
benchmarks beside them, come without their dependencies, which are ours or PyTorch.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

# manylinux tags up to the C library of Debian 12 and Ubuntu 22.04; pip takes each name literally
_PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (35, 34, 31, 28, 27, 24, 17)] + ["manylinux2014_x86_64"]


def main() -> None:
    """Download and say how much it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--there", default="")
    parser.add_argument("--peers", default="")
    arguments = parser.parse_args()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [each for each in project["dependencies"] if not each.startswith("torch")]
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--implementation", "cp"]
    target = ["--python-version", arguments.python, *platforms, "--dest", str(arguments.folder)]
    subprocess.run([*command, *target, *wanted], check=True)
    if arguments.peers:
        subprocess.run([*command, "--no-deps", *target, *arguments.peers.split()], check=True)
    there = {_plain(name) for name in arguments.there.split()}
    for wheel in arguments.folder.glob("*.whl"):
        if _plain(wheel.name.split("-")[0]) in there:
            wheel.unlink()
    wheels = list(arguments.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{len(wheels)} wheels, {size:.1f} MiB, in {arguments.folder}: take the folder along.")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
