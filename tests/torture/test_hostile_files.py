"""A thousand spoilt files, and those that ask for very much: each ends in a result or a sentence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from torture.bombs import BOMBS, Bomb
from torture.hostile_files import Found, exploded, judged, tried
from torture.hostile_seeds import Artifacts, of_run
from torture.hostile_targets import TARGETS
from torture.mutations import Mutation, mutated_bytes, mutated_dicom, mutated_json, mutated_table, mutated_yaml
from viscera.core.errors import BadInputError
from viscera.io.store import Store

pytest.importorskip("safetensors", reason="the extra `export` is not installed")
pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")
INPUTS = 1000
LEFT_OUT = {"study", "report", "run", "checkpoint"}  # which take longer: `make torture` has them
SELDOM = {"dicom series", "dicom frames", "dicom results", "data set", "manifest", "arrays", "predictions", "zip"}


@pytest.fixture(scope="module")
def artifacts(tiny_raw: Path, tiny_store: Store, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return of_run(tmp_path_factory.mktemp("hostile"), tiny_raw, tiny_store.path, tiny_run)


def test_a_thousand_spoilt_files(artifacts: Artifacts, tmp_path: Path) -> None:
    targets = [replace(each, weight=1 if each.name in SELDOM else 16) for each in TARGETS if each.name not in LEFT_OUT]
    found = tried(artifacts, tmp_path, INPUTS, seed=17, targets=targets)
    assert found.failures == []
    assert found.inputs == INPUTS
    assert found.results > 20  # some are harmless
    assert len(found.answers) > 120  # kinds of refusals: most checks were met


@pytest.mark.parametrize("bomb", [each for each in BOMBS if each.cheap], ids=lambda bomb: bomb.name)
def test_small_files_that_ask_for_very_much(bomb: Bomb, tmp_path: Path) -> None:
    found = exploded(bomb, tmp_path)
    assert found.failures == []
    assert found.inputs == 1


def test_what_a_reader_does_is_judged() -> None:
    found = Found()

    def endless() -> Iterator[int]:
        while True:
            yield sum(range(1000))

    judged("refused", lambda: _raise(BadInputError("no")), found)
    judged("read", lambda: 3, found)
    assert (found.inputs, found.results, found.answers, found.failures) == (2, 1, {"no"}, [])
    judged("broken", lambda: _raise(KeyError("x")), found)
    judged("endless", lambda: [None for each in endless() if each < 0], found, most_s=0.05)
    assert found.failures[0].startswith("broken: KeyError: 'x' at ")
    assert found.failures[1].startswith("endless: longer than 0.05 s of the processor")


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("mutate", [mutated_bytes, mutated_json, mutated_yaml, mutated_table, mutated_dicom])
def test_the_same_chance_spoils_alike(mutate: Mutation) -> None:
    content = b'{"a": [1, {"b": "c"}], "d": null}\n'
    seeds = range(20)
    made = {tuple(mutate(Random(seed), content) for seed in seeds) for _ in range(2)}  # noqa: S311 - to be repeated
    assert len(made) == 1
    assert len(set(made.pop())) > 10
