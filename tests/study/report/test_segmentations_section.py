"""Figures 2-4: which panels they have."""

import dataclasses
from collections.abc import Callable

from viscera.study.report.case_gallery import scene_views
from viscera.study.report.page_section import Report
from viscera.study.report.segmentations_section import composite_png, organ_figures
from viscera.study.results import Scene, StudyResult

StudyMaker = Callable[..., StudyResult]


def test_figures_have_truth_and_each_rate_by_weighting(make_study: StudyMaker, scene: Scene) -> None:
    study = make_study([None] * 6)
    figures = organ_figures(study, scene, scene_views(Report(study, scene)))
    assert [(f.number, f.weighting) for f in figures] == [(2, "uniform"), (3, "simple"), (4, "square")]
    assert [p.title for p in figures[0].panels] == ["ground truth", "rate 0.001", "rate 0.01"]
    assert figures[0].panels[0].surface is figures[2].panels[0].surface  # drawn once
    assert composite_png(figures[2], "Figure 4: <b>$x_1$").startswith(b"\x89PNG")


def test_the_best_model_per_organ_is_the_last_figure(make_study: StudyMaker, scene: Scene) -> None:
    fused = dataclasses.replace(scene, predictions={**scene.predictions, "fused": scene.truth})
    study = make_study([None] * 6)
    figures = organ_figures(study, fused, scene_views(Report(study, fused)))
    assert (figures[3].number, figures[3].title, figures[3].weighting) == (5, "best model per organ", "fused")
    assert [p.title for p in figures[3].panels] == ["ground truth", "fused"]
