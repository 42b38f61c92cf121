"""A training on noise: what a step of a network takes, in time and memory, before there is anything to train on."""

import numpy as np
import torch

from viscera.core.anatomy import ClassTable
from viscera.core.config import Config, IntensityConfig, TrainConfig
from viscera.engine.feed import Batch, TrainingFacts
from viscera.engine.trainer import Trainer
from viscera.losses.balance import WeightSchedule


def trainer_on_noise(train: TrainConfig, num_classes: int, device: torch.device) -> tuple[Trainer, Batch]:
    """A trainer at step 0 with weights of 1, whatever the weighting, and a batch of noise on its device."""
    classes = ClassTable.of_names(["background", *(f"class_{label}" for label in range(1, num_classes))])
    weights = np.ones(num_classes)
    facts = TrainingFacts(torch.from_numpy(weights), WeightSchedule(weights, weights), (), classes)
    train = train.model_copy(update={"intensity": IntensityConfig()})  # z-scores would need moments
    trainer = Trainer.create(Config(train=train), facts, device)
    noise = np.random.default_rng(0).integers(0, num_classes, (train.batch_size, *[train.patch] * 3))
    hu, labels = (torch.from_numpy(noise.astype(kind)).to(device) for kind in (np.int16, np.uint8))
    return trainer, Batch(hu, labels)
