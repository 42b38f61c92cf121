"""What a prediction is held against: the organs of the training cases, and which confidence they deserve."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from viscera.core.facts import OrganFacts
from viscera.io.files import damaged, read_json, write_json
from viscera.io.store import Store
from viscera.metrics.organ_facts import organ_facts
from viscera.metrics.trust import OrganRange, TrainingRanges

_RANGES = TypeAdapter(TrainingRanges)


def training_ranges(store: Store) -> dict[str, OrganRange]:
    """The organs of the training cases, on the prepared grid; an organ is judged by the cases that label it."""
    facts: dict[str, list[OrganFacts]] = {organ.name: [] for organ in store.classes.organs}
    for name in store.names("train"):
        measured = organ_facts(store.volume(name), store.label_map(name), store.classes)
        for organ, found in measured.items():
            if organ not in store.manifest.cases[name].unlabelled:
                facts[organ].append(found)
    return {organ: OrganRange.of(found) for organ, found in facts.items()}


def save_ranges(path: Path, ranges: TrainingRanges) -> None:
    """Write them beside a model."""
    write_json(path, _RANGES.dump_python(ranges, mode="json"))


def load_ranges(path: Path) -> TrainingRanges | None:
    """Read them; None where an earlier version wrote none.

    Raises:
        BadInputError: damaged.
    """
    if not path.exists():
        return None
    try:
        return _RANGES.validate_python(read_json(path))
    except ValidationError as error:
        raise damaged(path, error, "Delete it to predict without it.") from error
