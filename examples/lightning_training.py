"""viscera's network and loss in a Lightning module: a start for a training of your own.

python examples/lightning_training.py STORE OUT [--steps 200] [--patch 32] [--weighting simple]

STORE is made by `viscera prepare`. Written into OUT: Lightning's checkpoint and logs.
"""

import argparse
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import viscera
from viscera.core.config import IntensityConfig
from viscera.imaging.windows import network_input
from viscera.io.store import Store


class RandomPatches(Dataset[tuple[Tensor, Tensor]]):
    """Random patches of the training cases of a store: HU (I, J, K) int16 and labels (I, J, K) uint8.

    Which one has a number is a function of the number alone, whichever process cuts it.
    """

    def __init__(self, store: Store, patch: int, number: int) -> None:
        self.store, self.patch, self.number = store, patch, number
        self.names = store.names("train")

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng(number)
        name = self.names[random.integers(len(self.names))]
        hu, labels = self.store.image(name), self.store.labels(name)
        first = [int(random.integers(max(n - self.patch, 0) + 1)) for n in hu.shape]
        box = tuple(slice(at, at + self.patch) for at in first)
        missing = [(0, max(0, self.patch - n)) for n in hu.shape]
        hu = np.pad(hu[box], missing, constant_values=-1024)
        return torch.from_numpy(hu), torch.from_numpy(np.pad(labels[box], missing))


class Segmenter(lightning.LightningModule):
    """The network, the loss with the weights of a whole training set, and Adam."""

    def __init__(self, class_weights: list[float], base_filters: int = 8, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate, self.intensity = learning_rate, IntensityConfig()
        self.network = viscera.UNet3D(num_classes=len(class_weights), base_filters=base_filters, levels=3)
        self.loss = viscera.WeightedDiceLoss(class_weights, ignore_index=255)

    def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
        """The loss of a batch (B, I, J, K)."""
        hu, labels = batch
        value: Tensor = self.loss(self.network(network_input(hu, self.intensity)), labels)
        self.log("loss", value, prog_bar=True)
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as in the paper."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def main() -> None:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--weighting", default="simple")
    given = parser.parse_args()
    store = Store.open(given.store)
    weights = viscera.class_weights(store.voxel_counts(), given.weighting)
    patches = DataLoader(RandomPatches(store, given.patch, 3 * given.steps), batch_size=3)
    trainer = lightning.Trainer(
        max_steps=given.steps, accelerator="auto", devices=1, default_root_dir=given.out, log_every_n_steps=10,
        enable_checkpointing=False, logger=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Segmenter(weights.tolist()), patches)
    trainer.save_checkpoint(given.out / "last.ckpt")


if __name__ == "__main__":
    main()
