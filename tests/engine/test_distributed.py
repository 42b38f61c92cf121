"""Several processes that train one model, against one process with all windows: loss, gradient, statistics, weights."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.rank_processes import as_rank, free_port, start
from viscera.core.anatomy import ClassTable
from viscera.core.config import Config
from viscera.core.errors import BadInputError, VisceraError
from viscera.engine.distributed import ALONE, LostRankError, Ranks, WholeBatch, joined
from viscera.engine.feed import Batch, TrainingFacts
from viscera.engine.trainer import Trainer
from viscera.engine.whole_batch_norm import over_the_whole_batch
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import DiceAndCrossEntropyLoss, WeightedDiceLoss
from viscera.networks.unet3d import UNet3D
from viscera.stages.train import train

WINDOWS, CLASSES, EDGE = 3, 4, 6
CLASS_WEIGHTS = [0.5, 1.0, 2.0, 4.0]
LOSSES: dict[str, Callable[[], WeightedDiceLoss]] = {
    "batch": lambda: WeightedDiceLoss(CLASS_WEIGHTS),
    "sub_volume": lambda: WeightedDiceLoss(CLASS_WEIGHTS, sums="sub_volume"),
    "entropy": lambda: DiceAndCrossEntropyLoss(CLASS_WEIGHTS, [1.0, 5.0, 2.0, 3.0], factor=0.7),
}
SEEDS_OF_LOSS = (0, 1)


@dataclass(frozen=True)
class Gradients:
    """Of a step: what is compared."""

    loss: float
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]  # weights and running statistics after the forward pass


def windows(of: slice, *, some_unlabelled: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Some of the three windows: input, labels, which classes each labels; the third looks unlike the first two."""
    random = torch.Generator().manual_seed(3)
    x = torch.rand((WINDOWS, 1, EDGE, EDGE, EDGE), generator=random, dtype=torch.float64)
    x[2] = 5 + 3 * x[2]
    labels = torch.randint(0, CLASSES, (WINDOWS, EDGE, EDGE, EDGE), generator=random)
    labels[0][labels[0] == 2] = 1  # a class that a window lacks
    labelled = torch.ones((WINDOWS, CLASSES), dtype=torch.bool)
    labelled[1, 3] = False
    return x[of], labels[of], labelled[of] if some_unlabelled else None


def step(ranks: Ranks, kind: str, *, some_unlabelled: bool) -> Gradients:
    """Forward and backward pass in float64, by as many ranks as there are."""
    torch.manual_seed(0)
    network = UNet3D(1, CLASSES, base_filters=2, levels=2).double()
    loss = LOSSES[kind]()
    batch = WholeBatch(ranks, WINDOWS)
    if ranks.size > 1:
        over_the_whole_batch(network, batch)
        loss.whole_batch = batch.dice_sums
    x, labels, labelled = windows(ranks.own(WINDOWS), some_unlabelled=some_unlabelled)
    value = loss(network(x), labels, labelled)
    value.backward()
    batch.sum_gradients(list(network.parameters()))
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    return Gradients(value.item(), gradients, network.state_dict())


def designed(ranks: Ranks) -> dict[str, Tensor]:
    """Loss and gradient of a step of a trainer whose network has deep supervision, dropout and a residual encoder."""
    design = {"deep_supervision": True, "dropout": 0.5, "encoder": "residual", "blocks": [1, 1, 2]}
    sizes = {"patch": 8, "batch_size": WINDOWS, "filters": 2, "levels": 3, "precision": "float32"}
    config = Config.model_validate({"train": {**sizes, "network": design}})
    weights = np.array([0.5, 1.0, 2.0, 4.0])
    classes = ClassTable.of_names(["background", "a", "b", "c"])
    facts = TrainingFacts(torch.from_numpy(weights), WeightSchedule(weights, weights), (), classes)
    trainer = Trainer.create(config, facts, torch.device("cpu"), ranks)
    random = torch.Generator().manual_seed(4)
    hu = torch.randint(-500, 500, (WINDOWS, 8, 8, 8), generator=random, dtype=torch.int16)
    labels = torch.randint(0, CLASSES, (WINDOWS, 8, 8, 8), generator=random).to(torch.uint8)
    own = ranks.own(WINDOWS)
    loss = trainer.training_step(Batch(hu[own], labels[own]), diagnose=True).loss
    gradients = {name: each.grad for name, each in trainer.network.named_parameters() if each.grad is not None}
    return {"loss": torch.tensor(float(loss)), **gradients}


def normalised(ranks: Ranks) -> dict[str, Tensor]:
    """Batch normalisation of this rank's windows in bfloat16, far from 0, with parameters in float32; and back."""
    random = torch.Generator().manual_seed(1)
    x = (torch.randn((WINDOWS, 4, EDGE, EDGE, EDGE), generator=random) * 3 + 20)[ranks.own(WINDOWS)]
    network = nn.Sequential(nn.BatchNorm3d(4))
    if ranks.size > 1:
        over_the_whole_batch(network, WholeBatch(ranks, WINDOWS))
    leaf = x.bfloat16().requires_grad_()
    y = network(leaf)
    (y.float() * torch.linspace(-1, 1, EDGE)).sum().backward()
    assert leaf.grad is not None
    return {"y": y.detach().float(), "dx": leaf.grad.float(), **network.state_dict()}


def steps_of_rank(rank: int, size: int, port: int, folder: Path, store: Path, config: Config) -> None:
    """In a process of its own: all kinds of steps, and a training; what came out, into files."""
    as_rank(rank, size, port)
    with joined("cpu") as (ranks, _):
        assert (ranks.rank, ranks.size) == (rank, size)
        found = {
            f"{kind} {unlabelled}": vars(step(ranks, kind, some_unlabelled=unlabelled))
            for kind in LOSSES
            for unlabelled in (False, True)
        }
        said = WholeBatch(ranks, WINDOWS).sum_gradients([with_gradient(float(rank))], says=1.0)
        in_bfloat16, other = normalised(ranks), designed(ranks)
    torch.save({"steps": found, "said": said, "normalised": in_bfloat16, "designed": other}, folder / f"rank_{rank}.pt")
    train(store, folder / "run", config)


def with_gradient(value: float) -> Tensor:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), value)
    return parameter


@pytest.fixture(scope="module")
def configured(tiny_config: Callable[..., Config]) -> Config:
    """With an epsilon far above the gradient's roots: Adam then does not blow up rounding where a gradient is 0.

    And clipped, by the norm of the gradient of all windows, of Dice and cross-entropy.
    """
    more: dict[str, Any] = {"average": 0.5}
    more |= {"optimiser": {"clip_norm": 1e-2}, "loss": {"cross_entropy": 0.5, "cross_entropy_weighting": 0.3}}
    config = tiny_config(batch_size=WINDOWS, precision="float32", iterations=4, log_every=2, validate_every=2, **more)
    adam = config.train.adam.model_copy(update={"epsilon": 1e-3})
    return config.model_copy(update={"train": config.train.model_copy(update={"adam": adam, "learning_rate": 1.0})})


@pytest.fixture(scope="module")
def of_ranks(tiny_store: Store, configured: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By the number of ranks, the folder of what came out; 1 is one process without torch.distributed."""
    folders = {size: tmp_path_factory.mktemp(f"ranks_{size}") for size in (1, 2, 3)}
    train(tiny_store.path, folders[1] / "run", configured)
    for size in (2, 3):
        assert start(steps_of_rank, size, folders[size], tiny_store.path, configured) == [0] * size
    return folders


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("some_unlabelled", [False, True])
def test_loss_gradient_and_statistics_are_those_of_one_process(
    of_ranks: dict[int, Path], size: int, kind: str, some_unlabelled: bool
) -> None:
    """Of three windows on two ranks one has two; neither means over ranks nor statistics of their own come close."""
    expected = step(ALONE, kind, some_unlabelled=some_unlabelled)
    for rank in range(size):
        found = torch.load(of_ranks[size] / f"rank_{rank}.pt")["steps"][f"{kind} {some_unlabelled}"]
        assert found["loss"] == pytest.approx(expected.loss, rel=1e-12)
        assert found["state"].keys() == expected.state.keys()
        for name, value in expected.state.items():
            torch.testing.assert_close(found["state"][name], value, rtol=1e-9, atol=1e-12, msg=name)
        scale = max(float(each.abs().max()) for each in expected.gradients.values())
        for name, value in expected.gradients.items():
            torch.testing.assert_close(found["gradients"][name], value, rtol=1e-7, atol=1e-10 * scale, msg=name)


@pytest.mark.parametrize("size", [2, 3])
def test_normalisation_in_bfloat16_has_its_statistics_in_float32(of_ranks: dict[int, Path], size: int) -> None:
    expected = normalised(ALONE)
    for rank in range(size):
        found = torch.load(of_ranks[size] / f"rank_{rank}.pt")["normalised"]
        own = Ranks(rank, size).own(WINDOWS)
        torch.testing.assert_close(found["0.running_mean"], expected["0.running_mean"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["0.running_var"], expected["0.running_var"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["y"], expected["y"][own], rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(found["dx"], expected["dx"][own], rtol=3e-2, atol=3e-3)


@pytest.mark.parametrize("size", [2, 3])
def test_deep_supervision_and_dropout_are_those_of_one_process(of_ranks: dict[int, Path], size: int) -> None:
    expected = designed(ALONE)
    scale = max(float(each.abs().max()) for each in expected.values())
    for rank in range(size):
        found = torch.load(of_ranks[size] / f"rank_{rank}.pt")["designed"]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5 * scale, msg=name)


def test_one_number_goes_along_with_the_gradients(of_ranks: dict[int, Path]) -> None:
    assert torch.load(of_ranks[3] / "rank_0.pt")["said"] == 3


@pytest.mark.parametrize("size", [2, 3])
def test_a_training_has_the_weights_and_the_curve_of_one_process(of_ranks: dict[int, Path], size: int) -> None:
    one, several = (torch.load(of_ranks[n] / "run" / "last.pt", weights_only=True) for n in (1, size))
    for kind in ("model", "average"):
        for name, value in one[kind].items():
            torch.testing.assert_close(several[kind][name], value, rtol=1e-3, atol=1e-5, msg=f"{kind} {name}")
    assert several["step"] == one["step"] == 4
    lines, expected = (RunFolder(of_ranks[n] / "run").read_curve() for n in (size, 1))
    assert [line["step"] for line in lines] == [2, 4]
    assert "parameter_gradient_share" in lines[-1]
    for line, wanted in zip(lines, expected, strict=True):
        assert line.keys() == wanted.keys()
        assert line["clipped_norm"] > 1e-2
        for name in {
            "loss",
            "clipped_norm",
            "gradient_norm",
            "soft_dice",
            "gradient_share",
            "parameter_gradient_share",
        } & line.keys():
            assert line[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-5), name
        for name in ("dice", "dice_batch_statistics", "validation_dice"):
            assert line[name] == pytest.approx(wanted[name], abs=0.02), name


def test_resumed_by_another_number_of_ranks_it_is_the_same_run(
    of_ranks: dict[int, Path], tiny_store: Store, configured: Config, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(of_ranks[2] / "run", tmp_path / "run"))
    longer = configured.model_copy(update={"train": configured.train.model_copy(update={"iterations": 6})})
    train(tiny_store.path, run, longer, resume=True)
    train(tiny_store.path, tmp_path / "one", longer)
    found, expected = (torch.load(each / "last.pt", weights_only=True)["model"] for each in (run, tmp_path / "one"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


def fails_on_one(rank: int, size: int, _: int, folder: Path, store: Path, config: Config, ports: list[int]) -> None:
    """Rank 1 has no store, then another one, then another version; what each rank is told, into files."""
    told = []
    attempts: list[Callable[[], object]] = [
        lambda: train(store if rank == 0 else folder / "nowhere", folder / "run", config),
        lambda: train(store if rank == 0 else folder / "other", folder / "run", config),
        lambda: train(
            store,
            folder / "run",
            config.model_copy(update={"train": config.train.model_copy(update={"batch_size": 1})}),
        ),
    ]
    for port, attempt in zip(ports, attempts, strict=True):
        as_rank(rank, size, port)
        try:
            attempt()
            told.append("")
        except VisceraError as error:
            told.append(str(error))
    (folder / f"told_{rank}.json").write_text(json.dumps(told))


def test_a_node_without_the_data_or_with_other_data_is_named(
    tiny_store: Store, configured: Config, tmp_path: Path
) -> None:
    other = Store.open(Path(shutil.copytree(tiny_store.path, tmp_path / "other")))
    first = other.names("train")[0]
    record = other.manifest.cases[first]
    other._keep({first: record.model_copy(update={"sources": {}})})
    ports = [free_port() for _ in range(3)]
    assert start(fails_on_one, 2, tmp_path, tiny_store.path, configured, ports) == [0, 0]
    by_rank = [json.loads((tmp_path / f"told_{rank}.json").read_text()) for rank in range(2)]
    host = socket.gethostname()
    assert f"process 1 of 2, on {host}: {tmp_path / 'nowhere'}: this is not a store" in by_rank[0][0]
    assert f"{tmp_path / 'nowhere'}: this is not a store" in by_rank[1][0]
    for told in by_rank:
        assert f"on {host} (process 0), but" in told[1]
        assert "All processes of a training need the same" in told[1]
        assert "2 processes share batches of 1 patches" in told[2]
    assert not (tmp_path / "run").exists()


def test_a_dead_address_is_a_sentence_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "1", "WORLD_SIZE": "2"}
    for name, value in (variables | {"VISCERA_WAIT_S": "2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInputError, match=rf"do not answer at 127\.0\.0\.1:{port} within 2 s"), joined("cpu"):
        pass


def ends_early(rank: int, size: int, port: int, folder: Path) -> None:
    """Rank 1 ends; rank 0 waits for it."""
    as_rank(rank, size, port, wait_s=5)
    with joined("cpu") as (ranks, _):
        if rank == 1:
            os._exit(0)
        try:
            ranks.add_up(torch.zeros(1))
        except LostRankError as error:
            (folder / "told").write_text(str(error))


def test_a_process_that_has_ended_is_not_waited_for_without_end(tmp_path: Path) -> None:
    start(ends_early, 2, tmp_path)
    assert "start all of them again with --resume" in (tmp_path / "told").read_text()


@pytest.mark.parametrize(("number", "size"), [(3, 2), (3, 3), (7, 3), (0, 2), (2, 4)])
def test_own_parts_are_all_in_order_and_differ_by_one_at_most(number: int, size: int) -> None:
    parts = [list(range(number))[Ranks(rank, size).own(number)] for rank in range(size)]
    assert [each for part in parts for each in part] == list(range(number))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
