"""What a model card says, `card.json`: the sections of Mitchell et al., Model Cards for Model Reporting, FAT* 2019."""

from typing import Any, Literal

from pydantic import Field

from viscera.card.score_summary import ScoreSummary
from viscera.core.settings import Settings
from viscera.io.training_data import TrainingData


class OtherSetting(Settings):
    """A setting that is not the paper's."""

    setting: str  # dotted key
    paper: Any
    here: Any


class WeightsFile(Settings):
    """A checkpoint of the run."""

    file: str
    sha256: str
    step: int


class ModelDetails(Settings):
    """What the model is, and how it came about."""

    name: str
    viscera: str  # version that wrote the card
    date: str  # of the card, when it was first written with this content
    network: str
    parameters: int
    inputs: str
    outputs: tuple[str, ...]  # classes, background first
    loss: str
    # (L,) R_l of the training set, as the weights were computed from; of a mean empty where its runs have others
    class_voxel_counts: tuple[int, ...]
    class_weights: tuple[float, ...]  # (L,) as the loss used them at the last step; likewise
    other_settings: tuple[OtherSetting, ...]  # than those of the preset `paper`
    started_from: str = ""  # another run whose weights it began with, by name and checksum
    may_have_seen_held_out: bool = False  # whether it is not known that those had not been trained on what it holds out
    state: str  # of the training: finished, interrupted, failed, running, unknown
    step: int
    iterations: int
    training_seconds: float | None
    machine: str
    versions: dict[str, str]  # of what it was trained with
    weights: tuple[WeightsFile, ...]
    licence: str = ""  # of the weights, as it was stated
    citation: str


class EvaluationData(Settings):
    """Which cases the scores are of."""

    scores: str = ""  # name of the table; empty: the model is not evaluated
    scores_sha256: str = ""
    cases: int = 0
    splits: dict[Literal["train", "validation", "test", "other"], int] | None = None  # as the training saw the store
    out_of_fold: bool = False  # each case by the run of the mean that held it out


class CalibrationFacts(Settings):
    """What temperature scaling made of the probabilities of a checkpoint, on its validation cases."""

    checkpoint: str
    temperature: float
    ece_before: float | None = None  # expected calibration error, 0 to 1
    ece_after: float | None = None
    nll_before: float | None = None  # mean negative log-likelihood of a voxel, nats
    nll_after: float | None = None
    cases: int | None = None  # how many


class Member(Settings):
    """One of the runs whose mean a model is."""

    seed: int
    model_details: ModelDetails  # by the name of its folder
    training_data: TrainingData
    calibration: tuple[CalibrationFacts, ...] = ()


class DifferingSetting(Settings):
    """A setting in which the runs of a mean differ."""

    setting: str  # dotted key
    here: dict[str, Any]  # by run


class Use(Settings):
    """What the model is for, and what it is not for."""

    primary: str
    users: str
    out_of_scope: tuple[str, ...]


class ModelCard(Settings):
    """All of it."""

    format_version: int = 1
    model_details: ModelDetails  # of a mean: what its runs share
    members: tuple[Member, ...] = ()  # of a mean: its runs; empty of a single run
    differing_settings: tuple[DifferingSetting, ...] = ()  # between them
    intended_use: Use
    factors: tuple[str, ...]
    metrics: tuple[str, ...]
    evaluation_data: EvaluationData
    training_data: TrainingData
    data_licence: str = ""  # as it was stated here; empty: as the data set states it, or not at all
    quantitative_analyses: tuple[ScoreSummary, ...] = ()
    calibration: tuple[CalibrationFacts, ...] = ()  # of the weights that were calibrated
    ethical_considerations: tuple[str, ...]
    caveats_and_recommendations: tuple[str, ...]
    checksum: str = Field(default="", exclude=True, description="of this file without this key (`io.seals`)")
    markdown_sha256: str = Field(default="", description="of the card.md that is written with it")
    replaces_sha256: str = ""  # of an earlier version, which wrote it before the card.md: of the one before
