"""The plan of a study from before its first run: hashed, kept, and refused afterwards."""

import hashlib
import json
import logging
import re
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


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ((r'"iterations": 2,', r'"iterations": 3,'), "The plan was changed after it was written"),
        ((r'"arms": \[', r'"arms": [['), "plan.json, cannot be read"),
    ],
)
def test_a_plan_that_was_edited_or_cannot_be_read_is_none_that_was_never_made(
    edited: tuple[str, str],
    said: str,
    tiny_store: Store,
    tmp_path: Path,
    tiny_config: Configure,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By hand in an editor, so that both the SHA-256 of the plan and the checksum of the file are the old ones."""
    study, config = tmp_path / "study", grid(tiny_config)
    run_study(tiny_store.path, study, config)
    path = study / "plan.json"
    text = path.read_text()
    path.write_text(re.sub(*edited, text))
    assert path.read_text() != text
    page = render_page(read_report(study), [PLAN])
    assert said in " ".join(page.split())
    assert ("the plan was changed afterwards" in page) != ("the plan cannot be read" in page)
    assert "planned in advance" not in page
    assert "as planned.</p>" not in page
    caplog.clear()
    if "changed" in said:  # the study goes on, and says so
        run_study(tiny_store.path, study, config)
        assert "plan.json: changed after it was written" in caplog.text
    else:
        with pytest.raises(BadInputError, match=r"plan\.json.* (damaged|valid JSON)"):
            run_study(tiny_store.path, study, config)


def test_an_edited_plan_is_replaced_before_the_first_run(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Its date alone was changed, so it says the same as the one of now."""
    study = tmp_path / "study"
    plan_study(tiny_store.path, study, grid(tiny_config))
    path = study / "plan.json"
    path.write_text(re.sub('"written": "[^"]*"', '"written": "2001-01-01 00:00:00"', path.read_text()))
    caplog.clear()
    now = plan_study(tiny_store.path, study, grid(tiny_config))
    assert not now.written.startswith("2001")
    assert read_analysis_plan(StudyFolder(study)) == (now, True)
    assert "the plan was changed after it was written, and nothing has been trained" in caplog.text


def test_a_plan_can_be_made_smaller_or_another_before_the_first_run(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    study = tmp_path / "study"
    wide = {"study.weightings": ["uniform", "simple"], "study.seeds": [0, 1], "train.iterations": 4}
    first = plan_study(tiny_store.path, study, grid(tiny_config, **wide))
    assert (first.runs, first.iterations) == ("2 arms × 2 seeds", 4)
    caplog.clear()
    second = plan_study(tiny_store.path, study, grid(tiny_config))
    assert (second.arms, second.seeds, second.iterations) == (("simple_lr0.01",), (0,), 2)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "nothing has been trained, so the plan is replaced: 2 arms × 2 seeds of 4 iterations before" in said
    assert f"1 arm × 1 seed of 2 iterations now (SHA-256 {second.sha256})" in said
    assert StudyFolder(study).read_record().all_stages == (2,)
    run_study(tiny_store.path, study, grid(tiny_config))
    assert [path.name for path in (study / "arms").iterdir()] == ["simple_lr0.01"]
    page = render_page(read_report(study), [PLAN])
    assert "are as planned, and every planned run is finished and scored.</p>" in page
    run_study(tiny_store.path, study, grid(tiny_config, **{"study.seeds": [1]}))  # from now on it is extended
    assert StudyFolder(study).read_record().config.study.seeds == (0, 1)
    assert read_analysis_plan(StudyFolder(study)) == (second, True)


def test_a_study_that_was_only_planned_says_how_to_plan_it_anew(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    study = tmp_path / "study"
    plan_study(tiny_store.path, study, grid(tiny_config, **{"train.iterations": 4}))
    for settings in ({"train.iterations": 2}, {"train.iterations": 4, "train.filters": 4}):
        with pytest.raises(BadInputError, match="None of its runs has begun, so --plan-only can plan it anew"):
            run_study(tiny_store.path, study, grid(tiny_config, **settings))
    forecast = StudyFolder(study).forecast_path
    forecast.write_text('{"iterations": 4, "arms": []}')  # of the former filters
    plan_study(tiny_store.path, study, grid(tiny_config, **{"train.iterations": 4}))
    assert forecast.exists()
    plan_study(tiny_store.path, study, grid(tiny_config, **{"train.iterations": 4, "train.filters": 4}))
    assert not forecast.exists()


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
    for iterations in (2, 1):  # whatever is asked for
        with pytest.raises(BadInputError, match="this run has begun, and a plan is made before the first run"):
            plan_study(tiny_store.path, study, grid(tiny_config, **{"train.iterations": iterations}))


def test_a_study_that_began_without_one_gets_none(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    study = tmp_path / "study"
    run_study(tiny_store.path, study, grid(tiny_config))
    (study / "plan.json").unlink()
    run_study(tiny_store.path, study, grid(tiny_config))
    assert not (study / "plan.json").exists()
    assert "no plan from before its first run" in render_page(read_report(study), [PLAN])
