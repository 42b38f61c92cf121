"""Checkpoints: tensors and JSON, checked when read, never half-written."""

import dataclasses
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from viscera.core.anatomy import ABDOMEN, CLASS_NAMES
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config
from viscera.io.checkpoint import Checkpoint, load_checkpoint, load_with_checksum, save_checkpoint
from viscera.io.files import sha256


def made(step: int = 7) -> Checkpoint:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3), torch.nn.BatchNorm3d(3))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    network(torch.ones(1, 1, 4, 4, 4)).sum().backward()
    optimizer.step()
    return Checkpoint(
        model=network.state_dict(),
        optimizer=optimizer.state_dict(),
        step=step,
        class_voxel_counts=torch.arange(8),
        class_weights=torch.linspace(0, 1, 8, dtype=torch.float64),
        config=resolve_config("demo"),
        classes=ABDOMEN,
        training_spacings_mm=((2.0, 2.0, 2.5),) * 3,
        best_validation_dice=0.25,
        seconds=1.5,
    )


def test_averaged_weights_are_what_is_applied_and_are_only_written_where_there_are_any(tmp_path: Path) -> None:
    plain = made()
    both = dataclasses.replace(plain, average={name: value + 1 for name, value in plain.model.items()})
    for name, checkpoint in {"plain": plain, "both": both}.items():
        save_checkpoint(tmp_path / f"{name}.pt", checkpoint)
        back = load_checkpoint(tmp_path / f"{name}.pt")
        assert all(torch.equal(back.applied[each], value) for each, value in checkpoint.applied.items())
        assert all(torch.equal(back.model[each], value) for each, value in plain.model.items())
    assert "average" not in torch.load(tmp_path / "plain.pt", weights_only=True)  # as files of earlier versions
    content = torch.load(tmp_path / "both.pt", weights_only=True)
    content["average"]["0.bias"] += 1
    torch.save(content, tmp_path / "both.pt")
    with pytest.raises(BadInputError, match="checksum"):
        load_checkpoint(tmp_path / "both.pt")


def test_the_same_is_the_same_to_the_byte_under_every_name_and_after_it_was_read(tmp_path: Path) -> None:
    """PyTorch writes the file's name into it, and texts that are equal once or twice, as they are the same or not."""
    checkpoint = made()
    digests = {save_checkpoint(tmp_path / name, checkpoint) for name in ("last.pt", "other.pt")}
    again = load_checkpoint(tmp_path / "last.pt")
    digests.add(save_checkpoint(tmp_path / "again.pt", again))
    assert digests == {sha256(tmp_path / "last.pt")} == {sha256(tmp_path / "again.pt")}


def test_what_is_read_and_its_checksum_are_of_one_state_while_a_training_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really = tmp_path / "last.pt", torch.load
    before = save_checkpoint(path, made(step=7))

    def late(*arguments: Any, **more: Any) -> Any:
        save_checkpoint(path, made(step=8))
        return really(*arguments, **more)

    monkeypatch.setattr(torch, "load", late)
    checkpoint, digest = load_with_checksum(path)
    assert (checkpoint.step, digest) == (7, before)
    assert sha256(path) != before


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    checkpoint = made()
    save_checkpoint(tmp_path / "last.pt", checkpoint)
    back = load_checkpoint(tmp_path / "last.pt")
    assert all(torch.equal(back.model[name], tensor) for name, tensor in checkpoint.model.items())
    assert back.optimizer["param_groups"] == checkpoint.optimizer["param_groups"]
    assert torch.equal(back.optimizer["state"][0]["exp_avg"], checkpoint.optimizer["state"][0]["exp_avg"])
    assert torch.equal(back.class_voxel_counts, checkpoint.class_voxel_counts)
    assert torch.equal(back.class_weights, checkpoint.class_weights)
    tensors = {"model", "optimizer", "class_voxel_counts", "class_weights"}
    for field in dataclasses.fields(Checkpoint):
        if field.name not in tensors:
            assert getattr(back, field.name) == getattr(checkpoint, field.name)


def test_it_is_plain_to_torch_with_pickle_off(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", made())
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert {"model", "optimizer", "step", "class_voxel_counts", "class_weights", "config"} <= set(content)
    config = content["config"]
    assert config["classes"] == list(CLASS_NAMES)
    assert config["training_spacings_mm"] == [[2.0, 2.0, 2.5]] * 3
    assert config["train"]["intensity"]["low_hu"] == -500.0
    assert config["train"]["patch"] == 24


def test_no_flipped_byte_gets_through(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, made())
    whole, reference = path.read_bytes(), load_checkpoint(path)
    refused = 0
    for at in np.random.default_rng(0).choice(len(whole), 250, replace=False):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (int(at) % 8)
        path.write_bytes(damaged)
        try:
            back = load_checkpoint(path)
        except BadInputError as error:
            assert str(path) in str(error)  # noqa: PT017 - bytes of the zip's padding mean nothing, and may flip
            refused += 1
        else:
            assert all(torch.equal(back.model[name], tensor) for name, tensor in reference.model.items())
            assert back.config == reference.config
            assert back.step == reference.step
    assert refused > 100


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_noticed(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, made())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(BadInputError, match=r"last\.pt: damaged, or no checkpoint"):
        load_checkpoint(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no such checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    torch.save({"state_dict": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(BadInputError, match="not a checkpoint of viscera"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save(torch.zeros(1), tmp_path / "tensor.pt")
    with pytest.raises(BadInputError, match="not a checkpoint of viscera"):
        load_checkpoint(tmp_path / "tensor.pt")
    with pytest.raises(BadInputError, match="damaged, or no checkpoint"):
        load_checkpoint(tmp_path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("pwned",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, "evil.pt")
    Path("pickle.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "pickle.pt"):
        with pytest.raises(BadInputError):
            load_checkpoint(Path(name))
    assert not Path("pwned").exists()


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, made(step=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(BadInputError, match=r"last\.pt: the disk is full .*Free some space"):
            save_checkpoint(path, made(step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path).step == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]
