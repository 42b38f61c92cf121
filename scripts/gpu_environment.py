"""Install, beside a Python that has PyTorch, what it lacks of our dependencies, from wheels in a folder.

    python scripts/gpu_environment.py wheels .gpu-site

Nothing is downloaded and nothing that is there is replaced: what is missing goes into a folder of its own, to be put
on PYTHONPATH. Needs nothing but Python and its pip.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def main() -> int:
    """Install; 3 where something is missing that no wheel brings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("site", type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.site))
    lacking = [wheel for wheel in sorted(arguments.wheels.glob("*.whl")) if not _version(wheel.name.split("-")[0])]
    if lacking:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*command, "--target", str(arguments.site), *map(str, lacking)], check=True)
    print(f"{len(lacking)} packages installed into {arguments.site}")
    importlib.invalidate_caches()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    unmet = [each for each in project["dependencies"] if not _is_met(each)]
    if unmet:
        print(
            f"This Python lacks {', '.join(unmet)}. Run `make gpu-wheels` where there is a network and bring "
            "the wheels; PyTorch itself must be here."
        )
        return 3
    return 0


def _is_met(text: str) -> bool:
    """Whether a requirement, such as `name>=1.2`, is installed; one for other systems alone is met."""
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    raise SystemExit(main())
