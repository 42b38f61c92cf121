"""The plan of a study from before its first run: hashed, kept, and refused afterwards."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.io.records import read_json, write_json
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study.analysis_plan import read_analysis_plan
from viscera.study.launch import plan_study, run_study
from viscera.study.report.page_section import render_page
from viscera.study.report.plan_section import PLAN
from viscera.study.report.report_stage import read_report

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("quick_studies")


def grid(configure: Configure, **settings: object) -> Config:
    """One arm of two steps, with some settings replaced."""
    study = {"study.weightings": ["simple"], "study.learning_rates": [0.01], "study.seeds": [0]}
    return with_settings(configure(iterations=2), study | settings, "test")


def test_the_hash_is_that_of_the_content_as_sorted_json(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    planned = plan_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    content = read_json(tmp_path / "study" / "plan.json")
    stated = content.pop("sha256")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == stated == planned.sha256
    assert read_analysis_plan(StudyFolder(tmp_path / "study")) == (planned, True)
    assert not (tmp_path / "study" / "arms").exists()


def test_it_names_no_case_and_no_folder(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    plan_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    text = (tmp_path / "study" / "plan.json").read_text()
    assert not [name for name in tiny_store.manifest.cases if name in text]
    assert str(tmp_path) not in text


def test_a_changed_plan_is_noticed(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    plan_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    path = tmp_path / "study" / "plan.json"
    content = read_json(path)
    write_json(path, content | {"iterations": 3})
    plan, unchanged = read_analysis_plan(StudyFolder(tmp_path / "study"))
    assert plan is not None
    assert not unchanged
    path.write_text("{}")
    with pytest.raises(BadInputError, match=r"plan\.json: damaged"):
        read_analysis_plan(StudyFolder(tmp_path / "study"))


def test_before_the_first_run_it_follows_the_study_and_then_it_stays(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    study = tmp_path / "study"
    first = plan_study(tiny_store.path, study, grid(tiny_config))
    assert plan_study(tiny_store.path, study, grid(tiny_config, **{"study.jobs": 2})) == first  # of the machine
    with caplog.at_level(logging.WARNING):
        second = plan_study(tiny_store.path, study, grid(tiny_config, **{"study.seeds": [0, 1]}))
    assert second.seeds == (0, 1)
    assert first.sha256 in caplog.text
    run_study(tiny_store.path, study, grid(tiny_config))
    run_study(tiny_store.path, study, grid(tiny_config, **{"study.seeds": [2]}))
    kept, unchanged = read_analysis_plan(StudyFolder(study))
    assert kept == second
    assert unchanged
    assert "seeds" in render_page(read_report(study), [PLAN])
    with pytest.raises(BadInputError, match="this run has begun, and a plan is made before the first run"):
        plan_study(tiny_store.path, study, grid(tiny_config))


def test_a_study_that_began_without_one_gets_none(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    study = tmp_path / "study"
    run_study(tiny_store.path, study, grid(tiny_config))
    (study / "plan.json").unlink()
    run_study(tiny_store.path, study, grid(tiny_config))
    assert not (study / "plan.json").exists()
    assert "no plan from before its first run" in render_page(read_report(study), [PLAN])
