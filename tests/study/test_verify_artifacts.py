"""Every file of every artifact, as the disk lists them: what is damaged, cut short or gone is named."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.command_line import refused
from tests.command_line import run as command
from viscera.core.config import Config, PredictConfig
from viscera.export.export_stage import export
from viscera.io.checkpoint import _digest, file_seal, load_checkpoint
from viscera.io.disk.folder_lock import exclusive
from viscera.io.records import read_json, read_yaml, write_record, write_yaml
from viscera.io.runlog import StudyFolder
from viscera.io.seals import Seal
from viscera.io.store import Store
from viscera.io.verifying.file_judgement import BAD, Checked
from viscera.stages.calibrate import calibrate
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict
from viscera.stages.verify import verify

# files that an artifact can be without: that one was there is known by nobody once it is gone
OPTIONAL = {"calibration.json", "confusion.csv.sha256", "forecast.json", "measurements.csv.sha256", "plan.json"}
OPTIONAL |= {"quarantine.csv.sha256", "scores.csv.sha256", "validation_scores.csv.sha256", "study.yaml", "fusion.yaml"}
OPTIONAL |= {"summary.json.sha256"}
OPTIONAL |= {"manifest.json", "export.json"}  # without which it is no artifact at all


@pytest.fixture(scope="module")
def artifacts(
    quick_studies: Callable[..., Path],
    tiny_store: Store,
    tiny_raw: Path,
    tmp_path_factory: pytest.TempPathFactory,
    study_config: Callable[..., Config],
) -> dict[str, Path]:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    root = tmp_path_factory.mktemp("verified")
    shutil.copytree(tiny_store.path, root / "store")
    quick_studies(root / "store", root / "study", study_config(6, fuse=True))
    run = next((root / "study" / "arms").glob("*/seed_0"))
    calibrate(run, root / "store")
    predict(
        run, tiny_raw / "imagesTr", root / "predictions", PredictConfig(), formats=("nifti", "seg-nrrd"), device="cpu"
    )
    out = root / "predictions"
    evaluate(out, root / "store", out / "scores.csv", summary=out / "summary.json", confusion=out / "confusion.csv")
    export(run, root / "export", ["safetensors"])
    return {name: root / name for name in ("store", "study", "predictions", "export")}


def files_of(artifact: Path) -> list[Path]:
    """All that is not hidden and not of the report, as the disk lists it."""
    paths = (path for path in sorted(artifact.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return [path for path in paths if "report" not in path.relative_to(artifact).parts]


def named(artifact: Path) -> dict[Path, Checked]:
    return {each.path: each for each in verify(artifact) if each.state in {*BAD, "edited"}}


@pytest.mark.parametrize("name", ["store", "study", "predictions", "export"])
def test_what_nobody_touched_is_sound_and_every_file_is_looked_at(artifacts: dict[str, Path], name: str) -> None:
    found = verify(artifacts[name])
    assert {each.state for each in found} == {"sound"}
    assert sorted(each.path for each in found) == files_of(artifacts[name])


def injuries(path: Path) -> Iterator[tuple[str, bytes | None]]:
    content = path.read_bytes()
    at = len(content) // 2
    yield "flipped", content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :]
    yield "cut short", content[:at]
    yield "emptied", b""
    yield "gone", None


@pytest.mark.parametrize("name", ["store", "study", "predictions", "export"])
def test_whichever_file_is_injured_is_named_with_what_to_do(artifacts: dict[str, Path], name: str) -> None:
    artifact, unnoticed = artifacts[name], []
    for path in files_of(artifact):
        before = path.read_bytes()
        whole = artifact if name != "study" else path.parent if path.parent.name != "models" else path.parents[1]
        for injury, content in injuries(path):
            if content is None and path.name in OPTIONAL:
                continue
            path.unlink() if content is None else path.write_bytes(content)
            found = named(whole)
            if path not in found or not found[path].what_to_do or (content is None) != (found[path].state == "missing"):
                unnoticed.append((injury, str(path.relative_to(artifact))))
            path.write_bytes(before)
    assert unnoticed == []
    assert named(artifact) == {}


def test_a_store_that_is_being_extended_is_not_called_damaged(artifacts: dict[str, Path], tmp_path: Path) -> None:
    store = shutil.copytree(artifacts["store"], tmp_path / "store")
    case = next((store / "cases").glob("*/image.npy"))
    with exclusive(store):
        assert named(store) == {}
        case.write_bytes(case.read_bytes() + b"a case that is prepared again")
        assert [each.state for each in named(store).values()] == ["being written"]
    assert [each.state for each in named(store).values()] == ["damaged"]


def test_a_run_that_was_killed_while_it_wrote_a_line_is_sound(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(next((artifacts["study"] / "arms").glob("*/seed_0")), tmp_path / "run")
    with (run / "curve.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    assert named(run) == {}


def test_the_command_names_it_and_ends_with_3(artifacts: dict[str, Path], tmp_path: Path) -> None:
    out = shutil.copytree(artifacts["predictions"], tmp_path / "out")
    sound = command("verify", str(out))
    assert (sound.exit_code, sound.output.splitlines()[-1]) == (0, f"{out}: sound")
    label_map = min(out.glob("*.nii.gz"))
    label_map.write_bytes(label_map.read_bytes()[:-1])
    found = command("verify", str(out))
    assert found.exit_code == 3
    assert f"{label_map}: damaged (its checksum does not fit). If somebody edited it, keep a copy" in found.stdout
    assert f"1 of {len(files_of(out))} files is damaged: {label_map.name}" in found.stderr
    said = json.loads(command("verify", str(out), "--json").stdout)
    assert said["sound"] is False
    assert [each["path"] for each in said["files"] if each["state"] == "damaged"] == [str(label_map)]
    assert command("verify", str(label_map)).exit_code == 3
    assert command("verify", str(next((artifacts["store"] / "cases").glob("*/labels.npy")))).exit_code == 0
    assert command("verify", str(label_map.with_suffix("").with_suffix(".json"))).exit_code == 0


@pytest.mark.parametrize("name", ["empty", "nowhere", "no/such/folder"])
def test_where_nothing_of_viscera_is_there_is_nothing_to_verify(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = command("verify", str(tmp_path / name))
    assert result.exit_code == 3
    assert "there is nothing here that viscera wrote" in result.stderr


def test_files_of_an_earlier_version_have_no_checksum_and_are_sound(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(next((artifacts["study"] / "arms").glob("*/seed_0")), tmp_path / "run")
    value = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({key: each for key, each in value.items() if key != "checksum"}, indent=1))
    (run / "scores.csv.sha256").unlink()
    result = command("verify", str(run))
    assert result.exit_code == 0
    assert "2 files can be read but have no checksum" in result.stdout
    assert "run.json, scores.csv" in result.stdout
    (run / "run.json").write_text('{"state": ')
    assert command("verify", str(run)).exit_code == 3


def test_no_byte_of_a_checkpoint_can_change_unnoticed(artifacts: dict[str, Path], tmp_path: Path) -> None:
    """Nor one of its zip archive, which holds no value."""
    last = next((artifacts["study"] / "arms").glob("*/seed_0/last.pt"))
    assert file_seal(last) is Seal.FITS
    assert zipfile.ZipFile(last).comment.startswith(b"sha256:")
    content, copy = last.read_bytes(), tmp_path / "last.pt"
    end = len(content)
    for number, at in enumerate([*range(0, end, end // 300), *range(end - 120, end)]):
        copy.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert file_seal(copy) is not Seal.FITS, at
        if number % 20 == 0:
            assert [each.state for each in verify(copy)] == ["damaged"], at


def newer(path: Path) -> None:
    """As a viscera of the future would write it: whole, with another format version."""
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=True)
        content["format_version"] = 99
        del content["sha256"]
        torch.save(content | {"sha256": _digest(content)}, path)
    elif path.suffix == ".yaml":
        write_yaml(path, read_yaml(path) | {"format_version": 99})
    else:
        write_record(path, read_json(path) | {"format_version": 99})


@pytest.mark.parametrize(
    ("file", "command_of"),
    [
        ("store/manifest.json", lambda root: ("train", root / "store", root / "new")),
        ("run/last.pt", lambda root: ("predict", root / "run", root / "scan.nii.gz", root / "new")),
        ("study/study.yaml", lambda root: ("report", root / "study")),
        ("export/export.json", lambda root: ("export", root / "run", root / "export", "--to", "safetensors")),
        ("export/config.json", lambda root: ("predict", root / "export", root / "scan.nii.gz", root / "new")),
    ],
)
def test_what_a_newer_viscera_wrote_is_refused_by_name(
    artifacts: dict[str, Path], tmp_path: Path, file: str, command_of: Callable[[Path], tuple[object, ...]]
) -> None:
    for name, artifact in artifacts.items():
        shutil.copytree(artifact, tmp_path / name, ignore=shutil.ignore_patterns("predictions"))
    shutil.copytree(next((tmp_path / "study" / "arms").glob("*/seed_0")), tmp_path / "run")
    shutil.copy(next(tmp_path.glob("store/cases/*/labels_original.nii.gz")), tmp_path / "scan.nii.gz")
    newer(tmp_path / file)
    said = refused(3, *command_of(tmp_path))
    assert f"{tmp_path / file}: format version 99, expected " in said
    assert "a newer viscera wrote it" in said
    assert "pip install --upgrade viscera" in said
    if file != "export/config.json":  # of which its export knows the checksum
        assert [each.state for each in named((tmp_path / file).parent).values()] == ["newer"]


def test_checkpoints_and_studies_of_version_0_1_have_no_format_version_and_are_read(
    artifacts: dict[str, Path], tmp_path: Path
) -> None:
    study = shutil.copytree(artifacts["study"], tmp_path / "study")
    value = read_yaml(study / "study.yaml")
    assert value.pop("format_version") == 1
    (study / "study.yaml").write_text(yaml.safe_dump(value))
    assert StudyFolder(study).read_record().format_version == 1
    last = next((study / "arms").glob("*/seed_0/last.pt"))
    content = torch.load(last, weights_only=True)
    del content["format_version"], content["sha256"]
    torch.save(content | {"sha256": _digest(content)}, last)
    assert load_checkpoint(last).step == 6


@pytest.mark.parametrize(
    ("within", "what"),
    [("", "this is a data set, scans with labels"), ("labelsTr", "these are the labels of a data set")],
)
def test_a_data_set_has_no_checksums(tiny_raw: Path, within: str, what: str) -> None:
    said = refused(3, "verify", str(tiny_raw / within))
    assert f"{what}; viscera keeps no checksum of that, so nothing can be verified. Give a store, a run" in said


def test_where_nothing_has_a_checksum_nothing_is_called_sound(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("day,what\n")
    result = command("verify", str(tmp_path))
    assert result.exit_code == 0
    assert "sound" not in result.stdout
    assert "nothing here has a checksum, so that nothing could be verified" in result.stdout


def test_what_is_gone_need_not_be_deleted(artifacts: dict[str, Path], tmp_path: Path) -> None:
    out = shutil.copytree(artifacts["predictions"], tmp_path / "out")
    gone = min(out.glob("*.nii.gz"))
    gone.unlink()
    (found,) = named(out).values()
    assert found.what_to_do == f"Run `viscera predict RUN INPUT {out}` again."
    run = shutil.copytree(next((artifacts["study"] / "arms").glob("*/seed_0")), tmp_path / "run")
    for path in files_of(run):
        content = path.read_bytes()
        path.unlink()
        assert "elete" not in " ".join(each.what_to_do for each in named(run).values() if each.state == "missing")
        path.write_bytes(content)


def test_a_checkpoint_that_was_cut_short_is_told_in_plain_words(artifacts: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(next((artifacts["study"] / "arms").glob("*/seed_0")), tmp_path / "run")
    best = run / "best.pt"
    best.write_bytes((run / "last.pt").read_bytes()[:5000])
    said = command("verify", str(run)).stdout
    assert (
        f"{best}: damaged (it cannot be read: cut short, or no checkpoint). Restore it from a copy, or delete it: "
        "predictions are made with last.pt." in said
    )
