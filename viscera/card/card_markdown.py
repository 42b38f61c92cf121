"""A model card as Markdown that can be uploaded as `README.md`: with the metadata of Hugging Face's hub above it.

https://github.com/huggingface/hub-docs/blob/main/modelcard.md describes the metadata; the sections are those of
Mitchell et al., FAT* 2019. What comes from data (names, licences) is escaped: it formats nothing, and is no HTML.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml
from tabulate import tabulate

from viscera.card.card_statements import OF_PROBABILITIES, is_phantom
from viscera.card.model_card import CalibrationFacts, EvaluationData, Member, ModelCard, ModelDetails
from viscera.card.score_summary import FOREGROUND, ScoreSummary
from viscera.core.anatomy import title_of
from viscera.core.geometry import size_text
from viscera.core.settings import written
from viscera.core.wording import counted
from viscera.io.scores import metric_title
from viscera.io.training_data import GridFacts, TrainingData

NOT_STATED = "not stated"
_TASK = {"type": "image-segmentation", "name": "Segmentation of organs in abdominal CT"}
_TAGS = ["medical-imaging", "computed-tomography", "abdomen", "segmentation", "3d-unet", "pytorch"]
# of https://huggingface.co/docs/hub/repositories-licenses, those that data and weights of this kind have
_HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|isc|bsd(-[23]-clause)?|mpl-2\.0|a?gpl-3\.0|gpl-2\.0|lgpl-(2\.1|3\.0)|eupl-1\.[12]|cc0-1\.0|"
    r"cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-sa-[34]\.0|cc-by-nc-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|"
    r"cc-by-nc-sa-[234]\.0|cdla-sharing-1\.0|cdla-permissive-[12]\.0|odc-by|odbl|pddl|openrail|unlicense"
)


def as_markdown(card: ModelCard) -> str:
    """The whole file."""
    head = yaml.safe_dump(hub_metadata(card), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(_sections(card)) + "\n"


def hub_metadata(card: ModelCard) -> dict[str, Any]:
    """What stands above the text, for Hugging Face's hub; scores only where the model is evaluated."""
    details, phantom = card.model_details, is_phantom(card.training_data)
    metadata: dict[str, Any] = hub_licence(details.licence)
    metadata |= {"library_name": "viscera", "pipeline_tag": _TASK["type"]}
    metadata["tags"] = [*_TAGS, "phantom"] if phantom else list(_TAGS)
    metrics = [
        {
            "type": each.metric,
            "value": each.mean,
            "name": f"{metric_title(each.metric)}, {title_of(each.organ)}, {each.grid} grid, mean of {each.cases}",
        }
        for each in card.quantitative_analyses
        if each.mean is not None and not each.metric.endswith("volume_ml")
    ]
    if metrics:
        dataset = _line(card.training_data.dataset) or "not described"
        scored = {"type": _slug(dataset), "name": f"{dataset} ({_split_text(card.evaluation_data)})"}
        result = {"task": dict(_TASK), "dataset": scored, "metrics": metrics}
        metadata["model-index"] = [{"name": details.name, "results": [result]}]
    return metadata


def hub_licence(licence: str) -> dict[str, str]:
    """A licence by the hub's own name for it where it has one: `CC-BY-SA 4.0` is `cc-by-sa-4.0`."""
    if not licence.strip():
        return {"license": "unknown"}
    name = _slug(licence)
    return {"license": name} if _HUB_LICENCES.fullmatch(name) else {"license": "other", "license_name": name}


def escaped(text: str) -> str:
    """Text as it is, in one line: no Markdown and no HTML comes of it, also in a cell of a table."""
    plain = html.escape(_line(text), quote=False)
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|(?<=^)[#>+-])", r"\\\1", plain)


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-") or "none"


def _sections(card: ModelCard) -> Iterator[str]:
    details, data = card.model_details, card.training_data
    yield f"# Model card: {escaped(details.name)}"
    phantom = " Its training data are phantoms: it says nothing about patients." if is_phantom(data) else ""
    several = f" {counted(len(card.members), 'run')} as one: the mean of their probabilities." if card.members else ""
    yield f"**For research; no medical device.**{phantom} Segments organs in abdominal CT, with viscera.{several}"
    yield "## Model details"
    yield _listed(_of_details(details, card.members))
    if card.members:
        yield from _members(card)
    yield "### Settings that are not the paper's"
    other = [
        (f"`{each.setting}`", escaped(written(each.paper)), escaped(written(each.here)))
        for each in details.other_settings
    ]
    yield _table(("setting", "paper", "this model"), other) if other else "None."
    yield "## Intended use"
    use = card.intended_use
    yield _listed([("Primary intended uses", use.primary), ("Primary intended users", use.users)])
    yield "### Out-of-scope uses"
    yield _points(use.out_of_scope)
    yield "## Factors"
    yield _points(card.factors)
    yield "## Metrics"
    yield _points(card.metrics)
    yield "## Evaluation data"
    yield _evaluation(card)
    yield "## Training data"
    yield _listed(_of_data(data, card.data_licence, card.members))
    yield _classes(data, [each.model_details for each in card.members] or [details])
    yield "## Quantitative analyses"
    yield from _scores(card.quantitative_analyses)
    if card.calibration:
        yield "### Calibration"
        yield _listed((f"{each.checkpoint}.pt", _calibration(each)) for each in card.calibration)
    yield "## Ethical considerations"
    yield _points(card.ethical_considerations)
    yield "## Caveats and recommendations"
    yield _points(card.caveats_and_recommendations)


def _of_details(details: ModelDetails, members: Sequence[Member]) -> Iterator[tuple[str, str]]:
    yield "Name", details.name
    yield "Network", f"{details.network}; {details.parameters:,} parameters" + (" together" if members else "")
    yield "Input", details.inputs
    yield "Output", "a label map on the scan's own grid: " + ", ".join(map(title_of, details.outputs))
    yield "Loss", details.loss
    if details.started_from:
        yield "Began with the weights of", details.started_from
    yield "Training", _training(details, members)
    made_with = ", ".join(f"{name} {version}" for name, version in details.versions.items())
    yield "Made with", made_with or NOT_STATED
    yield "Card", f"of {details.date}, by viscera {details.viscera}"
    for file in details.weights:
        yield file.file, f"weights of step {file.step:,}, SHA-256 {file.sha256}"
    yield "Licence of the weights", details.licence or NOT_STATED
    yield "Citation", details.citation


def _training(details: ModelDetails, members: Sequence[Member]) -> str:
    took = "" if details.training_seconds is None else f", {_duration(details.training_seconds)}"
    on = f" on {details.machine}" if details.machine else ""
    if not members:
        return f"{details.step:,} of {counted(details.iterations, 'step')} ({details.state}){took}{on}"
    steps = _range([member.model_details.step for member in members], "{:,}")
    steps += " step" if steps == "1" else " steps"
    return f"{counted(len(members), 'run')} of {steps} ({details.state}){took + ' together' if took else ''}{on}"


def _members(card: ModelCard) -> Iterator[str]:
    yield "### Its runs"
    yield _table(
        ("run", "seed", "fold held out", "training cases", "steps", "state", "began with the weights of"),
        [
            (
                *(escaped(each.model_details.name), str(each.seed), written(each.training_data.fold)),
                *(str(each.training_data.cases.get("train", NOT_STATED)), f"{each.model_details.step:,}"),
                *(each.model_details.state, escaped(each.model_details.started_from) or "none"),
            )
            for each in card.members
        ],
    )
    yield "### Settings in which its runs differ"
    names = [each.model_details.name for each in card.members]
    rows = [
        (f"`{each.setting}`", *(escaped(written(each.here.get(name))) for name in names))
        for each in card.differing_settings
    ]
    yield _table(("setting", *map(escaped, names)), rows) if rows else "None."


def _evaluation(card: ModelCard) -> str:
    evaluation = card.evaluation_data
    if not evaluation.scores:
        return (
            "Not evaluated. `viscera evaluate` makes scores, and `viscera card RUN --scores scores.csv` puts them here."
        )
    facts = [
        ("Cases", f"{evaluation.cases}, {_split_text(evaluation)}"),
        ("Scores", f"{evaluation.scores}, SHA-256 {evaluation.scores_sha256}"),
    ]
    seen = (evaluation.splits or {}).get("train", 0)
    warning = (
        f"\n\n**{seen} of them are training cases of this model: scores of its own label maps are too good there.**"
        if seen
        else ""
    )
    return _listed(facts) + warning


def _split_text(evaluation: EvaluationData) -> str:
    if evaluation.out_of_fold:
        return "out of fold: each by the run that held it out"
    if evaluation.splits is None:
        return "which of them are training cases is not stated"
    named = {"train": "training", "validation": "validation", "test": "test", "other": "not of the store"}
    return ", ".join(f"{number} {named[split]}" for split, number in evaluation.splits.items() if number)


def _of_data(data: TrainingData, licence: str, members: Sequence[Member]) -> Iterator[tuple[str, str]]:
    yield "Data set", data.dataset or "not described"
    yield "Licence of the data", licence or data.licence or NOT_STATED
    counts = {"train": "training", "validation": "validation", "test": "test"}
    cases = ", ".join(f"{data.cases[split]} {name}" for split, name in counts.items() if split in data.cases)
    yield "Cases", (cases or NOT_STATED) + (" (a training case of any of its runs is one)" if members else "")
    held_out = [written(member.training_data.fold) for member in members]
    if members and set(held_out) != {"none"}:
        yield "Folds", f"its runs held out {', '.join(held_out)} of {data.folds or 'different numbers of'} folds"
    elif data.fold == "all":
        yield "Folds", f"trained on all {data.folds}; none was held out"
    elif data.fold is not None:
        yield "Folds", f"fold {data.fold} of {data.folds} was held out, for validation"
    for name, grid in (("Scans", data.original), ("Prepared", data.prepared)):
        if grid is not None:
            yield f"{name}, along R, A, S", _grid(grid)
    if data.sha256:
        yield "Training set", f"SHA-256 {data.sha256}"


def _grid(grid: GridFacts) -> str:
    shape = size_text(round(n) if float(n).is_integer() else n for n in grid.shape)
    return (
        f"{shape} voxels of {size_text(grid.spacing_mm)} mm (medians); voxels from {size_text(grid.finest_mm)} to "
        f"{size_text(grid.coarsest_mm)} mm"
    )


def _classes(data: TrainingData, trained: Sequence[ModelDetails]) -> str:
    """Of one run, or of several: counts and weights then from the least to the most."""
    known = bool(data.cases_with_class)
    rows = [
        (
            str(label),
            escaped(title_of(name)),
            f"{data.cases_with_class[label]} of {data.cases_labelling[label]}" if known else NOT_STATED,
            NOT_STATED if not known else "" if (ml := data.mean_volume_ml[label]) is None else f"{ml:,.1f}",
            _range([each.class_voxel_counts[label] for each in trained], "{:,}"),
            _range([each.class_weights[label] for each in trained], "{:.4g}"),
        )
        for label, name in enumerate(data.classes)
    ]
    volume = "mean volume, mL" if data.mean_volume_of == "organ" else "mean volume of what is labelled, mL"
    return _table(("label", "class", "in cases", volume, "voxels in training", "weight in the loss"), rows)


def _range(values: Sequence[float], how: str) -> str:
    """`5 to 7`, or `5` where all are."""
    ends = dict.fromkeys(how.format(each) for each in (min(values), max(values)))
    return " to ".join(ends)


def _scores(scores: Sequence[ScoreSummary]) -> Iterator[str]:
    if not scores:
        yield "Not evaluated."
        return
    for grid in dict.fromkeys(each.grid for each in scores):
        own = {(each.organ, each.metric): each for each in scores if each.grid == grid}
        metrics = list(dict.fromkeys(metric for _, metric in own))
        organs = sorted(dict.fromkeys(organ for organ, _ in own), key=lambda organ: organ == FOREGROUND)
        rows = [
            (escaped(title_of(organ)), *(_score(own.get((organ, metric))) for metric in metrics)) for organ in organs
        ]
        yield f"Mean [95 % interval] (cases), on the {'grid of the scans' if grid == 'original' else grid + ' grid'}:"
        yield _table(("class", *map(metric_title, metrics)), rows)


def _score(score: ScoreSummary | None) -> str:
    if score is None:
        return ""
    digits = 3 if score.metric.endswith("dice") else 4 if score.metric in OF_PROBABILITIES else 1
    left_out = [f"{score.infinite} not found"] if score.infinite else []
    left_out += [f"{score.absent} absent"] if score.absent else []
    count = f"({', '.join([str(score.cases), *left_out])})"
    if score.mean is None:
        return f"– {count}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.{digits}f}, {score.high:.{digits}f}]"
    return f"{score.mean:.{digits}f}{interval} {count}".replace("[", "\\[").replace("]", "\\]")


def _calibration(facts: CalibrationFacts) -> str:
    text = f"probabilities of temperature {facts.temperature:.3g}"
    if facts.ece_before is not None and facts.ece_after is not None:
        text += f"; expected calibration error {facts.ece_after:.4f}, without it {facts.ece_before:.4f}"
    return text + ("" if facts.cases is None else f" (on {counted(facts.cases, 'validation case')})")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{escaped(name)}:** {escaped(text)}" for name, text in pairs)


def _points(texts: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(text)}" for text in texts)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
