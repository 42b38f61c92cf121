"""Calibration errors of probability maps: against the whole arrays, and what lacks, changed or is not labelled."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from viscera.core.anatomy import CLASS_NAMES, IGNORED
from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.core.shard import Shard
from viscera.engine.case_reliability import case_reliability
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.merge import merge
from viscera.stages.predict import predict, predict_store

MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
ECE = EvaluateConfig(metrics=("ece", "dice", "ace"))


@pytest.fixture(scope="module")
def predicted(half_run: Path, half_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test cases with their probabilities; to read only."""
    folder = tmp_path_factory.mktemp("predicted")
    predict_store(half_run, half_store, half_store.names("test"), folder, formats=["nifti", "probabilities"])
    return folder


def test_errors_and_bins_are_those_of_the_whole_arrays(predicted: Path, half_store: Store, tmp_path: Path) -> None:
    rows = evaluate(predicted, half_store.path, tmp_path / "scores.csv", ECE)
    names = half_store.names("test")
    assert [(row.case, row.metric) for row in rows] == [
        (name, metric) for name in names for metric in ("dice", "ece", "ace") for _ in CLASS_NAMES
    ]
    value = {(row.case, row.organ, row.metric): row.value for row in rows}
    table = pd.read_csv(tmp_path / "reliability.csv")
    name = names[1]
    probabilities = nib.load(predicted / f"{name}.probabilities.nii.gz").get_fdata()
    truth = half_store.original_labels(name).labels
    for label, organ in enumerate(CLASS_NAMES):
        p, is_organ = probabilities[..., label].ravel(), (truth == label).ravel()
        at = np.ceil(np.round(p * 20, 5)).astype(int).clip(1, 20)  # (0, 0.05] is bin 1
        gaps = {b: abs(p[at == b].mean() - is_organ[at == b].mean()) for b in np.unique(at)}
        expected = sum(gap * (at == b).mean() for b, gap in gaps.items())
        assert value[name, organ, "ece"] == pytest.approx(expected, abs=1e-6)
        assert value[name, organ, "ace"] == pytest.approx(np.mean(list(gaps.values())), abs=1e-6)
        of = table[(table.case == name) & (table.organ == organ)]
        assert of.lower.tolist() == pytest.approx([(b - 1) / 20 for b in gaps])
        assert of.voxels.sum() == truth.size
        assert of.correct.sum() == is_organ.sum()
        np.testing.assert_allclose(of.fraction, [is_organ[at == b].mean() for b in gaps], atol=1e-9)
        np.testing.assert_allclose(of.probability, [p[at == b].mean() for b in gaps], atol=1e-6)


def test_in_parts_and_in_processes_the_tables_are_the_same(predicted: Path, half_store: Store, tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "scores.csv"
    evaluate(predicted, half_store.path, whole, ECE, jobs=1)
    for part in (1, 2):
        out = tmp_path / f"part{part}" / "scores.csv"
        evaluate(predicted, half_store.path, out, ECE, shard=Shard.parse(f"{part}/2"))
    merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "merged")
    for table in ("scores.csv", "reliability.csv"):
        assert (tmp_path / "merged" / table).read_bytes() == whole.with_name(table).read_bytes()


def test_the_same_in_the_patient_whatever_the_orientation_of_the_scan(
    half_run: Path, tmp_path: Path, make_case: MakeCase
) -> None:
    hu, labels = make_case(3, (15, 11, 9))
    values = {}
    for codes in ("RAS", "SLP"):
        folder = tmp_path / codes
        for kind, array in (("scans", hu), ("truth", labels)):
            image = nib.Nifti1Image(array, np.diag([2.0, 2.1, 2.4, 1]))
            there = nib.orientations.axcodes2ornt(codes)
            turned = image.as_reoriented(
                nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), there)
            )
            (folder / kind).mkdir(parents=True)
            # the truth stays as it is: it lies on the grid of the scan, its axes run another way
            nib.save(turned if kind == "scans" else image, folder / kind / "a.nii.gz")
        predict(half_run, folder / "scans", folder / "out", formats=["nifti", "probabilities"])
        rows = evaluate(folder / "out", folder / "truth", folder / "scores.csv", ECE)
        values[codes] = {(row.organ, row.metric): row.value for row in rows}
    assert values["RAS"] == pytest.approx(values["SLP"], abs=1e-6)


def test_without_probabilities_there_is_no_error(
    predicted: Path, half_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(predicted, tmp_path / "p"))
    first, second, *_ = half_store.names("test")
    (folder / f"{first}.probabilities.nii.gz").unlink()
    out = tmp_path / "o" / "scores.csv"
    with caplog.at_level(logging.WARNING):
        rows = evaluate(folder, half_store.path, out, ECE)
    assert f"has no probabilities beside their label map, and no ece and ace: {first}" in caplog.text
    errors = {(row.case, row.metric): row.value for row in rows if row.organ == "liver"}
    assert errors[first, "ece"] is errors[first, "ace"] is None
    assert errors[second, "ece"] is not None
    with pytest.raises(BadInputError, match=r"measured on the scans' own grids"):
        evaluate(folder, half_store.path, out, ECE.model_copy(update={"grid": "prepared"}))
    changed = folder / f"{second}.probabilities.nii.gz"
    changed.write_bytes(changed.read_bytes() + b"\0")
    with pytest.raises(BadInputError, match="made by another model, or changed since"):
        evaluate(folder, half_store.path, tmp_path / "x" / "scores.csv", ECE)
    for path in folder.glob("*.probabilities.nii.gz"):
        path.unlink()
    with pytest.raises(BadInputError, match=r"there are none\. Predict with --format nifti,probabilities"):
        evaluate(folder, half_store.path, tmp_path / "y" / "scores.csv", ECE)
    assert not (tmp_path / "y").exists()
    evaluate(folder, half_store.path, tmp_path / "y" / "scores.csv", ECE.without_calibration())
    assert not (tmp_path / "y" / "reliability.csv").exists()


def test_bins_of_before_do_not_stay_beside_scores_without_them(
    predicted: Path, half_store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "part1" / "scores.csv"
    evaluate(predicted, half_store.path, out, ECE, shard=Shard.parse("1/2"))
    merge([out.parent], tmp_path / "merged")
    assert (tmp_path / "merged" / "reliability.csv").exists()
    evaluate(predicted, half_store.path, out, ECE.without_calibration(), shard=Shard.parse("1/2"))
    merge([out.parent], tmp_path / "merged")
    for folder in (out.parent, tmp_path / "merged"):
        assert not (folder / "reliability.csv").exists()
    evaluate(predicted, half_store.path, out.with_name("ece.csv"), ECE)
    evaluate(predicted, half_store.path, out, ECE.without_calibration(), shard=Shard.parse("1/2"))
    assert (out.parent / "reliability.csv").exists()  # of the other table
    evaluate(predicted, half_store.path, out, ECE, shard=Shard.parse("1/2"))
    (out.parent / "reliability.csv").write_text("of a screw\n")
    evaluate(predicted, half_store.path, out, ECE.without_calibration(), shard=Shard.parse("1/2"))
    assert (out.parent / "reliability.csv").read_text() == "of a screw\n"


def test_a_part_without_cases_leaves_no_summary_of_before(predicted: Path, half_store: Store, tmp_path: Path) -> None:
    out, summary = tmp_path / "scores.csv", tmp_path / "summary.json"
    evaluate(predicted, half_store.path, out, shard=Shard.parse("1/99"), summary=summary)
    assert summary.exists()
    out.unlink()
    evaluate(predicted, half_store.path, out, shard=Shard.parse("99/99"), summary=summary)
    assert out.exists()
    assert not summary.exists()


def test_a_class_that_a_case_does_not_label_has_no_error_and_background_neither(
    predicted: Path, half_store: Store, tmp_path: Path
) -> None:
    (name, *_) = half_store.names("test")
    truth = half_store.original_labels(name)
    (tmp_path / "labelsTr").mkdir()
    labels = {each: n for n, each in enumerate(CLASS_NAMES) if each != "liver"}
    (tmp_path / "dataset.json").write_text(f'{{"labels": {labels}, "file_ending": ".nii.gz"}}'.replace("'", '"'))
    without = np.where(truth.labels == CLASS_NAMES.index("liver"), 0, truth.labels)
    nib.save(nib.Nifti1Image(without, truth.geometry.affine), tmp_path / "labelsTr" / f"{name}.nii.gz")
    for file in (f"{name}.nii.gz", f"{name}.probabilities.nii.gz", f"{name}.json"):
        (tmp_path / "p").mkdir(exist_ok=True)
        shutil.copy(predicted / file, tmp_path / "p")
    rows = evaluate(tmp_path / "p", tmp_path / "labelsTr", tmp_path / "scores.csv", ECE)
    value = {row.organ: row.value for row in rows if row.metric == "ece"}
    assert value["background"] is value["liver"] is None
    assert value["spleen"] is not None
    assert {"background", "liver"}.isdisjoint(pd.read_csv(tmp_path / "reliability.csv").organ)


def test_voxels_that_nobody_labelled_are_in_no_bin(predicted: Path, half_store: Store) -> None:
    (name, *_) = half_store.names("test")
    path = predicted / f"{name}.probabilities.nii.gz"
    truth = half_store.original_labels(name)
    partly = truth.labels.copy()
    partly[4:] = IGNORED
    found = case_reliability(path, truth, LabelMap(partly, truth.geometry), half_store.classes, ())
    assert [each.found.voxels.sum() for each in found if each.found] == [truth.labels[:4].size] * 8
    assert [each.found.correct.sum() for each in found if each.found] == np.bincount(
        truth.labels[:4].ravel(), minlength=8
    ).tolist()
