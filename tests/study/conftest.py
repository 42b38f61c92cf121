"""Small studies: arms in this process, no report, and one grid of two arms to start from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ellipsoid_abdomen import label_map
from tests.fabricated_studies import hostile_page, make_study, paper_rows, scene, study_of_dice
from viscera.core.config import Config
from viscera.io.store import Store
from viscera.study import launch
from viscera.study.launch import run_study

__all__ = [
    "hostile_page",
    "label_map",
    "make_study",
    "paper_rows",
    "scene",
    "study_of_dice",
]  # fixtures of several rooms
Configure = Callable[..., Config]


def page_only(study: Path) -> Path:
    """In place of the report, which has tests of its own and takes longer than a small study."""
    (study / "report").mkdir(exist_ok=True)
    (study / "report" / "index.html").write_text("a page")
    return study / "report" / "index.html"


@pytest.fixture(scope="module")
def quick_studies() -> Iterator[Callable[..., Path]]:
    """`run_study` with its arms in this process, as each new one imports PyTorch; without a forecast and a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "make_report", page_only)
        patch.setattr(launch, "_forecast", lambda *_: None)  # as the journeys have it
        patch.setattr(launch, "start_pool", lambda *_: None)
        yield run_study


@pytest.fixture(scope="session")
def study_config(tiny_config: Configure) -> Callable[..., Config]:
    """Two arms of a rate at which twelve steps do something; keywords replace settings of `study`."""

    def configure(iterations: int = 12, **study: object) -> Config:
        config = tiny_config(iterations=iterations, batch_norm="recomputed")
        grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "seeds": [0], "jobs": 1} | study
        return Config.model_validate(config.model_dump() | {"study": grid})

    return configure


@pytest.fixture(scope="module")
def finished(
    quick_studies: Callable[..., Path],
    tiny_store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    study_config: Configure,
) -> Path:
    """A study of two arms that nothing disturbed; to read only."""
    study = tmp_path_factory.mktemp("study") / "study"
    quick_studies(tiny_store.path, study, study_config())
    return study
