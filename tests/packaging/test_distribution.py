"""What is installed: all that the package reads and its licence, no tests and no benchmarks; one version everywhere."""

import re
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import viscera
from tests.packaging_build import ROOT, build

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Built(NamedTuple):
    """A wheel and a source distribution."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built in a copy of the checkout, by the setuptools that is installed."""
    folder = build(tmp_path_factory.mktemp("source"))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def package_files() -> set[str]:
    """All files of the package in the checkout, but for what Python makes of them."""
    paths = (path for path in (ROOT / "viscera").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths if not path.name.startswith(".")}


def test_the_wheel_has_the_package_and_its_licence_alone(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        (about,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        entries = wheel.read(f"{about}/entry_points.txt").decode()
    own = {name for name in names if not name.startswith(about)}
    assert own == package_files()
    assert f"{about}/licenses/LICENSE" in names
    assert "viscera = viscera.cli:main" in entries


def test_the_wheel_says_what_it_needs(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        said = message_from_string(wheel.read(name).decode())
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("viscera", viscera.__version__, "Apache-2.0")
    assert {"dicom", "export", "ray", "trackers", "view"} <= set(said.get_all("Provides-Extra", []))
    core = {re.split(r"[ \[>=;]", each)[0] for each in said.get_all("Requires-Dist", []) if "extra ==" not in each}
    optional = {"highdicom", "onnx", "onnxruntime", "safetensors", "ray", "s3fs", "tensorboard", "mlflow-skinny"}
    assert not core & optional
    assert {"torch", "nibabel", "pydicom"} <= core


def test_the_source_distribution_has_no_tests_and_no_benchmarks(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert package_files() <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    assert not {name for name in names if name.startswith(("tests", "benchmarks", "docs", "scripts", "studies"))}


def test_the_version_is_one(built: Built) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {viscera.__version__, PROJECT["version"], str(citation["version"]), changes[0]} == {viscera.__version__}
    assert built.wheel.name.startswith(f"viscera-{viscera.__version__}-")


def test_the_development_extra_has_the_others() -> None:
    extras = PROJECT["optional-dependencies"]
    (ours,) = (each for each in extras["dev"] if each.startswith("viscera["))
    apart = {"dev", "docs", "oracle", "supply"}
    assert set(ours.removeprefix("viscera[").rstrip("]").split(",")) == set(extras) - apart
