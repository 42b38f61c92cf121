"""What is installed with viscera: pinned by hash, under known licences, in a bill of materials, built as before."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from scripts import audit, licences, pins, sbom
from tests.packaging_build import ROOT
from viscera.io.files import sha256

GIT = shutil.which("git") or ""
ALLOWED = {
    "BSD",
    "MIT",
    "MIT-CMU",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "Apache-2.0",
    "PSF-2.0",
    "ISC",
    "Zlib",
    "CC0-1.0",
}
ALLOWED |= {"BSL-1.0", "Apache-2.0 WITH LLVM-exception"}
COPYLEFT = re.compile(r"\b[AL]?GPL", re.IGNORECASE)
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\\n]+?))?(?: \\)?$", re.MULTILINE)


def pinned(file: str) -> set[tuple[str, str, str]]:
    """Name, version and marker of each pin."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return {(each["name"], each["version"], each["marker"] or "") for each in PIN.finditer(text)}


def test_what_users_need_is_pinned_as_it_is_tested_and_by_hash() -> None:
    entries = re.split(r"\n(?=[a-z])", (ROOT / "requirements.txt").read_text(encoding="utf-8"))[1:]
    assert len(entries) == len(pinned("requirements.txt")) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert {each[:2] for each in pinned("requirements.txt")} <= {each[:2] for each in pinned("constraints.txt")}
    assert "://" not in (ROOT / "requirements.txt").read_text() + (ROOT / "constraints.txt").read_text()


def test_nothing_that_is_needed_here_is_without_a_pin() -> None:
    project = licences.project()
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = [*project["dependencies"], *(each for name in pins.EXTRAS for each in extras[name])]
    needed = {name for name in licences.needed(wanted) if not pins.BY_TORCH.match(name)}
    have: dict[str, set[str]] = {}
    for name, number, _ in pinned("requirements.txt"):
        have.setdefault(name, set()).add(number)
    assert needed <= have.keys()
    for name in needed:
        try:
            assert version(name) in have[name], name
        except PackageNotFoundError:  # an extra that is not installed
            continue


def test_the_core_needs_nothing_under_the_gpl() -> None:
    core = licences.project()["dependencies"]
    assert isinstance(core, list)
    found = {name: licences.licence_of(name) for name in licences.needed(core)}
    assert {"torch", "numpy", "pillow", "jinja2", "sympy"} <= found.keys()  # those that these need, too
    assert not {name: each for name, each in found.items() if COPYLEFT.search(each)}
    unknown = {name: each for name, each in found.items() if not set(re.split(" AND | OR ", each)) <= ALLOWED}
    assert not unknown


def test_extras_bring_no_gpl_and_lgpl_by_choice_alone() -> None:
    extras = licences.project()["optional-dependencies"]
    assert isinstance(extras, dict)
    found: dict[str, str] = {}
    for name in (name for extra in pins.EXTRAS for name in licences.needed(extras[extra])):
        try:
            found[name] = licences.licence_of(name)
        except PackageNotFoundError:
            continue
    assert {name for name, each in found.items() if COPYLEFT.search(each)} <= {"connected-components-3d"}


def test_the_page_lists_the_licences_of_the_core() -> None:
    """`python -m scripts.licences` writes them; on another platform or Python others may be needed."""
    text = licences.PAGE.read_text(encoding="utf-8")
    listed = text[text.index(licences.BEGIN) + len(licences.BEGIN) : text.index(licences.END)].strip()
    if sys.platform == "linux" and sys.version_info[:2] == (3, 11):
        assert listed == licences.table().strip()
    assert not COPYLEFT.search(listed)


def test_the_bill_of_materials_has_what_no_installer_knows() -> None:
    of_tool = {
        "components": [{"bom-ref": "l1", "name": "numpy", "version": "1", "description": "line 1", "type": "library"}],
        "dependencies": [{"ref": "l1"}, {"ref": "root-component", "dependsOn": ["l1"]}],
    }
    found = sbom.completed(of_tool)
    named = {each["name"]: each for each in found["components"]}
    assert named.keys() == {"numpy", "torch", "@niivue/niivue", "ogl"}
    assert "BSD-3-Clause" in named["numpy"]["licenses"][0]["expression"]
    assert named["torch"]["version"] == next(number for name, number, _ in pinned("constraints.txt") if name == "torch")
    (root,) = (each for each in found["dependencies"] if each["ref"] == "root-component")
    assert len(root["dependsOn"]) == 4
    header = (ROOT / "viscera" / "study" / "report" / "templates" / "ogl.js").read_text(encoding="utf-8")[:400]
    assert "1.0.11" in header
    assert "0.69" in (ROOT / "viscera" / "view" / "page" / "LICENSES-niivue.txt").read_text(encoding="utf-8")[:400]


VULNERABLE = {"name": "x", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
FINE = {"name": "y", "version": "1", "vulns": []}
SKIPPED = {"name": "z", "version": "1", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([FINE] * 10, 0, "10 packages: no known vulnerability."),
        ([FINE, VULNERABLE], 1, "x 1: CVE-1, mended in 2"),
        ([SKIPPED] * 3, 2, "answered for 0 of 3 packages: nothing is known of the others"),
        ([VULNERABLE, SKIPPED], 1, "answered for 1 of 2 packages"),
        (None, 2, "The advisory database cannot be reached (ConnectionError: no route)"),
    ],
)
def test_an_audit_that_could_not_ask_does_not_end_well(found: Any, code: int, said: str) -> None:
    report = "" if found is None else json.dumps({"dependencies": found, "fixes": []})
    got, text = audit.verdict(report, "Traceback\nConnectionError: no route\n")
    assert got == code
    assert said in text


@pytest.mark.slow
@pytest.mark.skipif(not GIT or not (ROOT / ".git").exists(), reason="needs the repository")
def test_a_release_is_the_same_bytes_whenever_and_wherever_it_is_built(tmp_path: Path) -> None:
    made = []
    for name, mask, zone in (("one", 0o077, "UTC"), ("two", 0o002, "Asia/Tokyo")):
        clone = tmp_path / name / f"clone-{name}"
        subprocess.run([GIT, "clone", "-q", "--no-hardlinks", ROOT, clone], check=True)
        (clone / "viscera" / "not_in_git.py").touch()
        command = [sys.executable, "scripts/release.py", "HEAD", "dist"]
        subprocess.run(command, cwd=clone, check=True, umask=mask, env={**os.environ, "TZ": zone, "LC_ALL": "C"})
        made.append({path.name: path.read_bytes() for path in (clone / "dist").iterdir()})
    assert made[0] == made[1]
    (wheel,) = (tmp_path / "one").rglob("*.whl")
    (sdist,) = (tmp_path / "one").rglob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as source:
        assert {each.date_time for each in archive.infolist()} == {archive.infolist()[0].date_time}
        assert {each.uname for each in source} == {""}
        assert not [each for each in (*archive.namelist(), *source.getnames()) if "not_in_git" in each]
        assert "viscera/view/page/niivue.umd.js" in archive.namelist()
    sums = dict(line.split("  ")[::-1] for line in (wheel.parent / "SHA256SUMS").read_text().splitlines())
    assert sums == {path.name: sha256(path) for path in (wheel, sdist)}
