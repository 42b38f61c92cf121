"""A training that begins with the weights of another: every tensor, outputs by the names of their classes."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.engine.init_from import Source, begin_from, warn_of_other_voxels
from viscera.engine.trained_model import build_network
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import load_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.train import train


@pytest.fixture
def source(tiny_run: Path) -> Source:
    return Source.load(tiny_run)


@pytest.fixture
def settings(source: Source) -> TrainConfig:
    return source.checkpoint.config.train.model_copy(update={"seed": 7})


def test_a_run_at_a_url_is_named_by_it(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    home = tmp_path / "viscera" / "remote" / ("0" * 16)
    shutil.copytree(tiny_run, home / "run")
    (home / "index.json").write_text('{"url": "s3://bucket/run"}')
    assert Source.load(home / "run").run == "s3://bucket/run"
    assert Source.load(tiny_run).run == str(tiny_run)


def test_all_weights_of_the_same_classes(source: Source, settings: TrainConfig) -> None:
    network = build_network(settings, len(ABDOMEN))
    taken = begin_from(network, ABDOMEN, settings, source)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, source.checkpoint.model[name], rtol=0, atol=0)
    assert (taken.classes, taken.new, taken.left) == (ABDOMEN.names, (), ())


def test_outputs_by_name_and_new_ones_at_random(source: Source, settings: TrainConfig) -> None:
    table = ClassTable.of_names(["background", "spleen", "left_kidney", "liver"])
    torch.manual_seed(3)
    network = build_network(settings, 4)
    random = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken = begin_from(network, table, settings, source)
    assert taken.classes == ("background", "spleen", "liver")
    assert taken.new == ("left_kidney",)
    assert set(taken.left) == set(ABDOMEN.names) - {"background", "spleen", "liver"}
    now, theirs = network.state_dict(), source.checkpoint.model
    for kind in ("weight", "bias"):
        name = f"head.{kind}"
        for row, organ in ((0, "background"), (1, "spleen"), (3, "liver")):
            assert torch.equal(now[name][row], theirs[name][ABDOMEN.names.index(organ)])
        assert torch.equal(now[name][2], random[name][2])
    assert torch.equal(now["down.0.0.weight"], theirs["down.0.0.weight"])
    assert taken.text.endswith(f"new, and begun at random: left_kidney; left behind: {', '.join(taken.left)}.")


def test_without_a_common_organ_it_is_said(source: Source, settings: TrainConfig) -> None:
    table = ClassTable.of_names(["background", "left_kidney"])
    taken = begin_from(build_network(settings, 2), table, settings, source)
    assert (taken.classes, taken.new) == (("background",), ("left_kidney",))
    assert taken.text.endswith("; no organ has the same name.")


def test_other_voxels_are_warned_of(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_other_voxels(source, [(2.0, 2.0, 2.5), (3.0, 2.9, 3.0)])  # the median: 2.5, 2.45, 2.75; it saw 2, 2, 2.5
    assert not caplog.text
    warn_of_other_voxels(source, [(2.0, 2.0, 1.6)])
    assert "it saw voxels of 2×2×2.5 mm, these are of 2×2×1.6 mm" in caplog.text


@pytest.mark.parametrize(("field", "value"), [("filters", 4), ("levels", 3)])
def test_another_network_is_refused_by_name(source: Source, settings: TrainConfig, field: str, value: int) -> None:
    before = getattr(settings, field)
    other = settings.model_copy(update={field: value})
    with pytest.raises(BadInputError, match=rf"another network \({field} {before} \(now {value}\)\)"):
        begin_from(build_network(other, len(ABDOMEN)), ABDOMEN, other, source)


def test_norms_whose_weights_are_called_alike_are_another_network(source: Source, settings: TrainConfig) -> None:
    def normalising(kind: str) -> TrainConfig:
        return TrainConfig.model_validate(settings.model_dump() | {"network": {"normalisation": kind, "groups": 1}})

    network = build_network(normalising("instance"), len(ABDOMEN))
    config = source.checkpoint.config.model_copy(update={"train": normalising("group")})
    grouped = source._replace(checkpoint=replace(source.checkpoint, config=config, model=network.state_dict()))
    with pytest.raises(BadInputError, match=r"network\.normalisation group \(now instance\)"):
        begin_from(network, ABDOMEN, normalising("instance"), grouped)


def test_another_epsilon_or_number_of_groups_is_another_network(source: Source, settings: TrainConfig) -> None:
    keras = settings.model_copy(update={"initialisation": "keras"})
    with pytest.raises(BadInputError, match=r"initialisation he \(now keras\)"):
        begin_from(build_network(keras, len(ABDOMEN)), ABDOMEN, keras, source)
    two, one = (
        TrainConfig.model_validate(settings.model_dump() | {"network": {"normalisation": "group", "groups": groups}})
        for groups in (2, 1)
    )
    network = build_network(two, len(ABDOMEN))
    config = source.checkpoint.config.model_copy(update={"train": two})
    other = source._replace(checkpoint=replace(source.checkpoint, config=config, model=network.state_dict()))
    with pytest.raises(BadInputError, match=r"network\.groups 2 \(now 1\)"):
        begin_from(network, ABDOMEN, one, other)


def test_heads_of_deep_supervision_are_taken_where_both_have_them(source: Source, settings: TrainConfig) -> None:
    deep = TrainConfig.model_validate(settings.model_dump() | {"levels": 3, "network": {"deep_supervision": True}})
    plain = TrainConfig.model_validate(settings.model_dump() | {"levels": 3})
    first, second = (build_network(deep, len(ABDOMEN)) for _ in range(2))
    config = source.checkpoint.config.model_copy(update={"train": deep})
    other = source._replace(checkpoint=replace(source.checkpoint, config=config, model=first.state_dict()))
    table = ClassTable.of_names(["background", "spleen"])
    few = build_network(deep, 2)
    begin_from(few, table, deep, other)
    spleen = ABDOMEN.names.index("spleen")
    heads = [name for name in few.state_dict() if name.startswith("lower_heads.")]
    assert len(heads) == 2
    for name in heads:
        assert torch.equal(few.state_dict()[name][1], first.state_dict()[name][spleen])
    without = build_network(plain, len(ABDOMEN))
    begin_from(without, ABDOMEN, plain, other)
    assert torch.equal(without.state_dict()["head.weight"], first.state_dict()["head.weight"])
    config = source.checkpoint.config.model_copy(update={"train": plain})
    begin_from(
        second,
        ABDOMEN,
        deep,
        source._replace(checkpoint=replace(other.checkpoint, config=config, model=without.state_dict())),
    )
    assert torch.equal(second.state_dict()["head.weight"], first.state_dict()["head.weight"])


def test_other_numbers_for_the_same_hu_are_warned_of(
    source: Source, settings: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    wide = settings.model_copy(update={"intensity": settings.intensity.model_copy(update={"high_hu": 900.0})})
    with caplog.at_level(logging.WARNING):
        begin_from(build_network(wide, len(ABDOMEN)), ABDOMEN, wide, source)
    assert "intensity.high_hu 500 (now 900)" in caplog.text


def test_a_run_says_where_it_began(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(iterations=1, learning_rate=1e-30, precision="float32", seed=5)
    run = train(tiny_store.path, tmp_path / "run", config, init_from=tiny_run)
    then, now = (load_checkpoint(folder.last) for folder in (RunFolder(tiny_run), run))
    for name, tensor in now.model.items():
        if name.endswith(("weight", "bias")):
            np.testing.assert_array_equal(tensor, then.model[name])
    record = json.loads(run.started_from.read_text())
    assert (record["run"], record["step"], record["new"]) == (tiny_run.name, then.step, [])
    assert record["sha256"] == sha256(RunFolder(tiny_run).last)
    for path in run.path.iterdir():  # a path says who works where, and the folder travels
        assert str(tiny_run.parent).encode() not in path.read_bytes(), path.name
    more = tiny_config(iterations=2, learning_rate=1e-30, precision="float32", seed=5)
    train(tiny_store.path, tmp_path / "run", more, resume=True, init_from=tmp_path / "gone")  # it has begun already
    assert json.loads(run.started_from.read_text()) == record


def test_killed_before_its_first_checkpoint_it_begins_again_as_it_began(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(iterations=1, learning_rate=1e-30, precision="float32", seed=5, average=0.9)
    run = train(tiny_store.path, tmp_path / "run", config, init_from=tiny_run)
    run.last.unlink()
    with pytest.raises(
        BadInputError, match=r"run: began with the weights of .*, and has none of its own yet, .*--init-from"
    ):
        train(tiny_store.path, tmp_path / "run", config, resume=True)
    run.source_path.write_text(f"{tiny_run}\n")  # as it stands there until the first checkpoint
    train(tiny_store.path, tmp_path / "run", config, resume=True)
    assert not run.source_path.exists()
    then, now = (load_checkpoint(folder.last) for folder in (RunFolder(tiny_run), run))
    for state in (now.model, now.average):  # which begins with these weights, too
        assert torch.equal(state["head.weight"], then.model["head.weight"])
    run.last.unlink()
    record = json.loads(run.started_from.read_text())
    run.started_from.write_text(json.dumps(record | {"sha256": "0", "run": str(tiny_run)}))  # as of before
    with pytest.raises(BadInputError, match=r"it began with the weights of .* as they were"):
        train(tiny_store.path, tmp_path / "run", config, resume=True)


def test_where_its_weights_come_from_is_known_until_it_has_its_own(
    tiny_store: Store,
    tiny_run: Path,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    config = tiny_config(iterations=1, learning_rate=1e-30, precision="float32", seed=5)
    monkeypatch.chdir(tiny_run.parent)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_store.path, tmp_path / "run", config, init_from=Path(tiny_run.name))
    monkeypatch.chdir(tmp_path)
    run = train(tiny_store.path, tmp_path / "run", config, resume=True)
    then, now = (load_checkpoint(folder.last) for folder in (RunFolder(tiny_run), run))
    assert torch.equal(now.model["head.weight"], then.model["head.weight"])
    assert not run.source_path.exists()


def test_what_cannot_be_begun_with_is_refused_before_anything_is_written(
    tiny_store: Store, tiny_run: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    def refused(source: Path, **settings: object) -> str:
        with pytest.raises(BadInputError) as error:
            train(tiny_store.path, tmp_path / "run", tiny_config(iterations=1, **settings), init_from=source)
        assert not (tmp_path / "run").exists()
        return str(error.value)

    several = tmp_path / "cv"
    shutil.copytree(tiny_run, several / "fold_0")
    assert "nothing: this is not a run (it has no last.pt)" in refused(tmp_path / "nothing")
    assert "this is not a run" in refused(tiny_store.path)
    assert f"several models as one. Give the run of one of them, such as {several / 'fold_0'}" in refused(several)
    assert refused(tiny_run / "last.pt").endswith(f"the folder of a run was expected. Give {tiny_run}.")
    assert "another network (filters 2 (now 4))" in refused(tiny_run, filters=4)
    (several / "fold_0" / "last.pt").unlink()
    assert "fold_0: it has no weights yet (no last.pt)" in refused(several / "fold_0")


def test_what_a_user_may_not_expect_is_said(
    tiny_store: Store,
    tiny_run: Path,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = RunFolder(Path(shutil.copytree(tiny_run, tmp_path / "source")))
    status = source.read_status()
    assert status is not None
    source.write_status(status.model_copy(update={"state": "interrupted", "iterations": 99}))
    train(tiny_store.path, tmp_path / "run", tiny_config(iterations=1), init_from=source.path)
    assert f"source: this run is interrupted, at step {status.step} of 99; its weights are taken as they" in caplog.text
    train(tiny_store.path, tmp_path / "run", tiny_config(iterations=2), resume=True, init_from=tiny_run)
    assert f"run: it has begun already, and continues with its own weights, not with those of {tiny_run}" in caplog.text
