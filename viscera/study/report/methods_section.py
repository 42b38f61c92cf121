"""The section "Methods": what was done, as a paragraph for a paper, from the settings really used; and how to cite."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import viscera
from viscera.core.arms import weighting_name
from viscera.core.config import PrepareConfig, TrainConfig
from viscera.core.settings import differences, written
from viscera.core.wording import counted
from viscera.metrics.paired_tests import SEEDS_FOR_SETTINGS
from viscera.study.report.comparisons import ALPHA
from viscera.study.report.comparisons_section import primary_comparisons
from viscera.study.report.page_section import Report, Section, machine
from viscera.study.results import StudyResult

SOFTWARE_TITLE = "viscera: multi-organ segmentation of abdominal CT with a 3D FCN, and a study of Dice loss weighting"
PAPER_TITLE = (
    "On the influence of Dice loss function in multi-class organ segmentation of abdominal CT using 3D fully "
    "convolutional networks"
)
PAPER_AUTHORS = (
    *("Shen, Chen", "Roth, Holger R.", "Oda, Hirohisa", "Oda, Masahiro", "Hayashi, Yuichiro"),
    *("Misawa, Kazunari", "Mori, Kensaku"),
)
PAPER_YEAR = 2018
_NAMED = ("weighting", "learning_rate", "iterations", "fold", "patch", "batch_size", "filters", "levels", "seed")


def methods(report: Report) -> str:
    """One paragraph of whole sentences; it says that the data are a phantom where they are."""
    study = report.study
    sentences = [*_data(study), *_training(study), *_prediction(study), *_analysis(report), *_machine(study)]
    return " ".join(sentences) + report.of_phantom


def _data(study: StudyResult) -> Iterator[str]:
    record = study.record
    yield f"Data: {record.dataset.rstrip('.') or 'not described'}."
    if study.split is not None:
        split = study.split
        parts = [counted(split.training, "training case"), counted(split.test, "test case")]
        if split.validation:
            parts.insert(1, counted(split.validation, "validation case"))
        yield f"They were split into {_listed(parts)}."
    yield f"Scans and labels were {_grid_of(record.config.prepare)}."


def _grid_of(prepare: PrepareConfig) -> str:
    if prepare.spacing_mm is not None:
        return f"resampled to {_by(prepare.spacing_mm)} mm voxels"
    coarser = prepare.downsample
    return "kept on their grid" if coarser == 1 else f"downsampled {_by(coarser)} times along every axis"


def _training(study: StudyResult) -> Iterator[str]:
    config = study.record.config
    train, grid, low = config.train, config.study, config.train.intensity
    models, done = len(study.runs), sum(run.status is not None and run.status.state == "finished" for run in study.runs)
    these = f"We trained {counted(models, 'network')}"
    if done < models:
        these = f"We planned {counted(models, 'network')} and trained {done:,} of them to the end"
    yield (
        f"{these} (3D U-Net, {train.filters} filters in the first convolution, "
        f"{train.levels} levels) with the Dice loss over all {len(study.classes)} classes, background included, and "
        f"class weights {_listed([weighting_name(each) for each in grid.weightings])} (Shen et al. 2018, Eq. 2-6), at "
        f"learning {'rates' if len(grid.learning_rates) > 1 else 'rate'} "
        f"{_listed([f'{r:g}' for r in grid.learning_rates])}, "
        f"with {counted(len(grid.seeds), 'random seed')} each."
    )
    if any(grid.variants):
        variants = [
            f"{name} ({', '.join(f'{key} {written(value)}' for key, value in changed.items())})" if name else "as above"
            for name, changed in grid.variants.items()
        ]
        yield f"Each weighting and rate was trained in {counted(len(variants), 'variant')}: {'; '.join(variants)}."
    scaled = "scaled to 0 to 1" if low.scaling == "unit" else "standardised"
    yield (
        f"Intensities were clipped to {low.low_hu:g} to {low.high_hu:g} HU and {scaled}. "
        f"Each of {train.iterations:,} steps used "
        f"{train.batch_size} {'patch' if train.batch_size == 1 else 'patches'} of {train.patch}³ voxels, each from "
        f"another patient{', changed at random' if train.augment.enabled else ', without augmentation'}, and "
        f"{ {'adam': 'Adam', 'adamw': 'AdamW', 'sgd': 'SGD with Nesterov momentum'}[train.optimiser.name] }."
    )
    unlike = differences(train, TrainConfig(), ["method"], apart_from=_NAMED)
    if unlike:
        yield f"Settings other than the defaults: {'; '.join(each.replace('(now', '(default') for each in unlike)}."
    trained = [run.status.step for run in study.runs if run.status is not None]
    if min(trained, default=0) < train.iterations:
        so_far = f"{median(trained):,.0f} steps at the median" if trained else "none"
        yield f"Not every model was trained to the end ({so_far})."
    if study.left_out:
        yield f"Models that were not trained to the end, or not scored, are in no result: {study.left_out}."


def _prediction(study: StudyResult) -> Iterator[str]:
    config = study.record.config
    train, predict = config.train, config.predict
    if predict.mode == "sub_volumes" or (predict.mode == "auto" and not train.network.normalises_batches):
        how = (
            f"by sub-volumes of {train.patch}³ voxels with an overlap of {predict.overlap:.0%} ({predict.blend} blend)"
        )
    else:
        how = "in few large blocks" if predict.mode == "auto" else "in one pass over the whole volume"
    which = "last" if predict.checkpoint == "last" else "checkpoint of highest Dice on the validation cases"
    which = "last checkpoint" if which == "last" else which
    yield f"Each test scan was segmented with the {which}, {how}."


def _analysis(report: Report) -> Iterator[str]:
    grid = report.grid
    where = {"original": "the original grid of each scan", "prepared": "the prepared grid"}.get(grid, "")
    if not where:
        yield "Nothing was scored yet."
        return
    yield f"Dice was computed per case and organ on {where} and averaged over cases."
    family = report.once(primary_comparisons).family("dice")
    if family is None or not family.tests:
        return
    third = ", and Student's t over cases and seeds" if family.of_enough else ""
    if family.of_enough and not family.of_settings:
        third += f" of arms that share {SEEDS_FOR_SETTINGS} seeds or more"
    yield (
        f"Arms were compared by paired two-sided tests over {counted(family.cases, 'case')} (Wilcoxon's signed-rank "
        f"test and sign flips of the mean{third}; the largest p counts), corrected by Holm's method over "
        f"{counted(family.tests, 'test')}; differences with p < {ALPHA:g} are called significant."
    )


def _machine(study: StudyResult) -> Iterator[str]:
    statuses = [run.status for run in study.runs if run.status is not None]
    machines = dict.fromkeys(machine(status) for status in statuses if status.hardware)
    torch = dict.fromkeys(status.versions["torch"] for status in statuses if "torch" in status.versions)
    yield (
        f"Software: viscera {study.record.version or viscera.__version__}"
        + "".join(f", PyTorch {version}" for version in torch)
        + (f"; hardware: {'; '.join(machines)}." if machines else ".")
    )


def _by(values: float | Sequence[float]) -> str:
    return "×".join(f"{v:g}" for v in ((values,) if isinstance(values, int | float) else values))


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def citations() -> str:
    """BibTeX of the paper and of this software, as CITATION.cff has them."""
    authors = " and ".join(PAPER_AUTHORS)
    return (
        f"@article{{shen{PAPER_YEAR}dice,\n  title = {{{PAPER_TITLE}}},\n  author = {{{authors}}},\n"
        f"  year = {{{PAPER_YEAR}}}\n}}\n\n"
        f"@software{{viscera,\n  title = {{{SOFTWARE_TITLE}}},\n  author = {{{{The viscera authors}}}},\n"
        f"  version = {{{viscera.__version__}}}\n}}"
    )


def _values(report: Report) -> Mapping[str, object]:
    return {"methods": methods(report), "citations": citations()}


METHODS = Section("methods", "Methods paragraph and how to cite", _values, brief="ready to paste")
