"""What a model card says in words: the same of every model, or decided by a few of its facts."""

from collections.abc import Iterator, Sequence

from viscera.card.model_card import Member, ModelDetails, Use
from viscera.core.anatomy import title_of
from viscera.core.wording import agreeing, counted
from viscera.io.training_data import TrainingData

CITATION = (
    "C. Shen, H. R. Roth, H. Oda, M. Oda, Y. Hayashi, K. Misawa, K. Mori: On the influence of Dice loss function in "
    "multi-class organ segmentation of abdominal CT using 3D fully convolutional networks, 2018."
)
USE = Use(
    primary="Research on the segmentation of organs in abdominal CT: comparison of methods, and label maps that people "
    "look at and correct.",
    users="Researchers who can judge a label map of the abdomen, or work with somebody who can.",
    out_of_scope=(
        (
            "Diagnosis, planning of treatment, or any other use on which the care of a patient depends: it is no "
            "medical device, and nobody has approved it as one."
        ),
        "Decisions without a person who looks at the label maps.",
        (
            "Scans unlike those of the training: of another modality or part of the body, with other voxel sizes or "
            "contrast phases, of patients of other ages or with other diseases."
        ),
        "Structures that are not among its classes: they are called background, or one of the classes.",
    ),
)
FACTORS = (
    "Organs: all scores are given by organ; small ones are harder.",
    (
        "Voxel sizes: those of the training are given below; viscera predict says where a scan is more than 1.5 "
        "times finer or coarser."
    ),
    (
        "Scanner, contrast phase, age, sex and disease of the patients are not recorded here, and scores are not given "
        "by them."
    ),
)
METRICS = (
    (
        "Dice: twice the overlap over the sum of both volumes, from 0 to 1. HD95: 95th percentile of the distances "
        "between both surfaces, in mm. Surface Dice: share of both surfaces within a tolerance of the other."
    ),
    (
        "Means are over the cases in which the metric is a finite number; an organ that is in neither label map is "
        "left out. Foreground is the mean over the organs of their means."
    ),
    (
        "In brackets: 95 % interval by Student's t over the cases. It says how much the mean would vary with other "
        "cases of the same kind, and neither how the model does on scans of another hospital nor how much another seed "
        "of the training would change."
    ),
)
OF_PROBABILITIES = {
    "ece": (
        "ECE: expected calibration error of an organ's probabilities, over all voxels of a scan, in 20 bins of equal "
        "width, from 0 to 1; most voxels are surely not the organ, which makes it small."
    ),
    "ace": "ACE: likewise, the mean over the bins that have voxels.",
}
LOOK = "Look at every label map; measurements.csv beside predictions flags organs that are unlike those of training."
_FEW = 20  # cases


def is_phantom(data: TrainingData) -> bool:
    """Whether the training data say that they are procedural, as the report of a study takes it."""
    return "phantom" in data.dataset.lower()


def ethics(data: TrainingData) -> Iterator[str]:
    """On whose data, and on whom it may be wrong."""
    if is_phantom(data):
        yield "The training data are procedural phantoms: they are of no patient."
    else:
        yield (
            "The training data are scans of patients; consent, ethical approval and the terms of use are those of the "
            "data set. This card names no case, and weights can still hold traces of the scans: share them only as far "
            "as the data may be shared."
        )
    yield "Whether it is worse for some groups of patients than for others was not measured."


def caveats(details: ModelDetails, data: TrainingData, *, is_evaluated: bool) -> Iterator[str]:
    """What somebody who uses a single run must know, from its own facts."""
    yield from _of_phantoms(data)
    if details.state != "finished" or details.step < details.iterations:
        yield f"The training is not complete ({details.state}, step {details.step:,} of {details.iterations:,})."
    yield from _of_evaluation(is_evaluated=is_evaluated)
    yield from _of_training_set(data, details.class_voxel_counts)
    if data.fold not in {None, "all"}:
        yield f"One run of a cross-validation: it was not trained on fold {data.fold} of {data.folds}."
    yield from _of_first_weights([details])
    yield LOOK


def caveats_of_mean(
    members: Sequence[Member], data: TrainingData, *, is_evaluated: bool, out_of_fold: bool
) -> Iterator[str]:
    """What somebody who uses the mean of several runs must know."""
    yield from _of_phantoms(data)
    yield (
        f"It is the mean of the probabilities of {counted(len(members), 'run')}: a prediction takes the time of "
        f"{counted(len(members), 'network')}."
    )
    for each in (member.model_details for member in members):
        if each.state != "finished" or each.step < each.iterations:
            at = f"{each.state}, step {each.step:,} of {each.iterations:,}"
            yield f"The training of {each.name} is not complete ({at})."
    yield from _of_evaluation(is_evaluated=is_evaluated)
    if out_of_fold:
        yield (
            "Its scores are out of fold: each case was segmented by the one run that held it out. They say how "
            "good such a run is; the mean of all runs was not scored by them."
        )
    yield from _of_first_weights([member.model_details for member in members])
    counts = [member.model_details.class_voxel_counts for member in members]
    yield from _of_training_set(data, tuple(map(max, zip(*counts, strict=True))))
    calibrated = [member for member in members if member.calibration]
    if calibrated:
        yield (
            f"{len(calibrated)} of its {counted(len(members), 'run')} {agreeing(len(calibrated))} calibrated, each by "
            "itself: their mean was not calibrated, and may be less sure than it could be."
        )
    yield LOOK


def _of_first_weights(runs: Sequence[ModelDetails]) -> Iterator[str]:
    for run in runs:
        if run.may_have_seen_held_out:
            yield (
                f"{run.name} began with the weights of another training ({run.started_from.split(',')[0]}). Whether "
                "that one was trained on cases that this one holds out is not known: scores of them may be too good."
            )


def _of_phantoms(data: TrainingData) -> Iterator[str]:
    if is_phantom(data):
        yield "Trained on phantoms alone: nothing here says how the model does on patients."


def _of_evaluation(*, is_evaluated: bool) -> Iterator[str]:
    if not is_evaluated:
        yield "It is not evaluated: nobody knows from this card how good it is."


def _of_training_set(data: TrainingData, voxel_counts: Sequence[int]) -> Iterator[str]:
    """What the training set lacks, as far as it is known."""
    cases = data.cases.get("train")
    if cases is not None and cases < _FEW:
        yield f"Trained on {counted(cases, 'case')} only."
    never = [name for name, n in zip(data.classes, data.cases_with_class, strict=False) if n == 0]
    if never:
        yield f"In no training case, and not learnt: {', '.join(map(title_of, never))}."
    lost = [name for name, n in zip(data.classes, voxel_counts, strict=False) if n == 0 and name not in never]
    if lost:
        names = ", ".join(map(title_of, lost))
        yield f"Too small for the network's grid in every training case, and not learnt: {names}."
    partly = [
        f"{title_of(name)} in {n} of {cases}"
        for name, n in zip(data.classes, data.cases_labelling, strict=False)
        if cases is not None and n < cases
    ]
    if partly:
        yield f"Not labelled in all training cases: {', '.join(partly)}."
    if data.cases_with_ignored:
        yield (
            f"In {counted(data.cases_with_ignored, 'training case')} a part was labelled by nobody, and says nothing. "
            "Mean volumes are of what is labelled: too small where an organ goes on in such a part."
        )
