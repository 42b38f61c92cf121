"""A training that begins with exported weights: as with the run that they were made from, and with the same checks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.engine.init_from import Source
from viscera.engine.trainer import Trainer
from viscera.export.export_stage import export
from viscera.io.checkpoint import load_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder
from viscera.io.started_from import StartedFrom
from viscera.io.store import Store
from viscera.stages.train import train

pytest.importorskip("safetensors", reason="the extra `export` is not installed")
STILL = {"iterations": 1, "learning_rate": 1e-30, "precision": "float32", "seed": 5}  # weights stay as they begin


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_run, tmp_path_factory.mktemp("exported") / "exs", ["safetensors"])


def test_the_weights_and_what_is_said_are_those_of_the_run(
    tiny_store: Store, tiny_run: Path, exported: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    runs = [
        train(tiny_store.path, tmp_path / source.name, tiny_config(**STILL), init_from=source)
        for source in (tiny_run, exported)
    ]
    one, two = (load_checkpoint(run.last).model for run in runs)
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    then, now = (StartedFrom.read(run) for run in runs)
    assert then is not None
    assert now is not None
    assert now == then._replace(run="exs", sha256=sha256(exported / "model.safetensors"))
    assert now.held_out_unseen


def test_killed_before_its_first_checkpoint_it_begins_again_with_the_export(
    tiny_store: Store,
    exported: Path,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    source = Path(shutil.copytree(exported, tmp_path / "exs"))
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_store.path, tmp_path / "run", tiny_config(**STILL), init_from=source)
    shutil.move(source, tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match=r"there is no such run at .*exs\. Say with --init-from where it is"):
        train(tiny_store.path, tmp_path / "run", tiny_config(**STILL), resume=True)
    shutil.move(tmp_path / "elsewhere", source)
    run = train(tiny_store.path, tmp_path / "run", tiny_config(**STILL), resume=True)
    weights = load_checkpoint(source / "model.safetensors").model
    assert torch.equal(load_checkpoint(run.last).model["head.weight"], weights["head.weight"])


def test_it_knows_on_which_cases_it_was_trained_also_by_way_of_others(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], exported: Path, tmp_path: Path
) -> None:
    assert Source.load(exported).trained_on == Source.load(tiny_run).trained_on != ("",)
    again = train(tiny_store.path, tmp_path / "again", tiny_config(**STILL), init_from=exported)
    before = StartedFrom.read(again)
    assert before is not None
    before._replace(trained_on=("0" * 64,)).write(again)
    chain = Source.load(again.path).trained_on
    assert len(chain) == 2
    assert Source.load(export(again.path, tmp_path / "out", ["safetensors"])).trained_on == chain


def test_an_export_that_does_not_say_it_is_said_to_be_unknown(
    tiny_store: Store,
    exported: Path,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Path(shutil.copytree(exported, tmp_path / "old"))
    said = json.loads((source / "config.json").read_text())
    del said["trained_on"]  # as of before
    (source / "config.json").write_text(json.dumps(said))
    train(tiny_store.path, tmp_path / "run", tiny_config(**STILL), init_from=source)
    said = "old: whether it was trained on any of the cases that are held out here is not known (it does not say what"
    assert said in caplog.text
    begun = StartedFrom.read(RunFolder(tmp_path / "run"))
    assert begun is not None
    assert (begun.trained_on, begun.held_out_unseen) == (("",), False)


def test_what_is_no_single_network_of_the_same_design_is_refused(
    tiny_store: Store, tiny_run: Path, exported: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    def refused(source: Path, **settings: object) -> str:
        with pytest.raises(BadInputError) as error:
            train(tiny_store.path, tmp_path / "run", tiny_config(**STILL, **settings), init_from=source)
        assert not (tmp_path / "run").exists()
        return str(error.value)

    assert "exs: another network (filters 2 (now 4))" in refused(exported, filters=4)
    for seed in (0, 1):
        shutil.copytree(tiny_run, tmp_path / "runs" / f"seed_{seed}")
    mean = export(tmp_path / "runs", tmp_path / "mean", ["safetensors"])
    assert f"several models as one. Give the run of one of them, such as {mean / 'seed_0'}" in refused(mean)
    colours = export(tiny_run, tmp_path / "colours", ["slicer"])
    assert "colours: this is an export to a format that cannot be trained on" in refused(colours)
    spoilt = Path(shutil.copytree(exported, tmp_path / "spoilt"))
    (spoilt / "model.safetensors").write_bytes(b"x")
    assert "its checksum is not the one in config.json" in refused(spoilt)
    (spoilt / "config.json").unlink()
    assert "config.json: there is no such file" in refused(spoilt)
