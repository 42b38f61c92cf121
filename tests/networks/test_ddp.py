"""Networks in PyTorch's DistributedDataParallel: two processes on CPUs, gloo."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.rank_processes import as_rank, start
from viscera.core.network_config import NetworkConfig
from viscera.losses.deep_supervision import labels_of_level, level_weights
from viscera.losses.dice import WeightedDiceLoss
from viscera.networks.unet3d import UNet3D

STEPS = 3


def of_levels(network: nn.Module, x: Tensor, labels: Tensor) -> Any:
    loss = WeightedDiceLoss([1.0, 2.0, 3.0], sums="sub_volume")
    logits = network(x, all_levels=True)
    scales = ((1, 1, 1), (2, 2, 2))
    parts = [loss(each, labels_of_level(labels, scale)) for each, scale in zip(logits, scales, strict=True)]
    return torch.stack([share * part for share, part in zip(level_weights(2), parts, strict=True)]).sum()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 1, 8, 8, 8, generator=generator), torch.randint(0, 3, (2, 8, 8, 8), generator=generator)


def network_of() -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(1, 3, 2, 3, design=NetworkConfig(deep_supervision=True, normalisation="instance"))


def train(rank: int, size: int, port: int, folder: Path) -> None:
    as_rank(rank, size, port)
    torch.distributed.init_process_group("gloo")
    x, labels = (each[rank : rank + 1] for each in data())
    parallel, plain_loss = nn.parallel.DistributedDataParallel, WeightedDiceLoss([1.0, 2.0, 3.0])
    network: Any = parallel(network_of())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        of_levels(network, x, labels).backward()
        optimiser.step()
        network.eval()
        with torch.no_grad():
            assert network(x).shape == (1, 3, 8, 8, 8)  # between steps, without the lower levels
        network.train()
    torch.save(network.module.state_dict(), folder / f"{rank}.pt")
    network = parallel(network.module, find_unused_parameters=True)
    for _ in range(2):
        plain_loss(network(x), labels).backward()  # the lower levels take no part
    torch.distributed.destroy_process_group()


def test_a_network_with_deep_supervision_trains_on_two_processes(tmp_path: Path) -> None:
    assert start(train, 2, tmp_path) == [0, 0]
    network, (x, labels) = network_of(), data()  # the mean over two processes is that over two sub-volumes
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        of_levels(network, x, labels).backward()
        optimiser.step()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, value in network.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)
