"""nnU-Net's `ignore` on its whole way: a data set with voxels that nobody labelled, a store, a run, scores, a check."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.layout_examples import save_labels
from viscera.check.check_stage import check
from viscera.check.check_tables import check_text
from viscera.core.anatomy import CLASS_NAMES, IGNORED, title_of
from viscera.core.config import Config, EvaluateConfig, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.doctor.diagnosis import diagnose
from viscera.engine.feed import feed_of
from viscera.engine.monitor import Monitor
from viscera.engine.trust import training_ranges
from viscera.imaging.resample import GridChange, coarsen_labels
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.store import Store
from viscera.io.training_data import TrainingData
from viscera.stages.evaluate import evaluate
from viscera.stages.prepare import ignored_text, prepare
from viscera.stages.train import train

AS_IT_IS = PrepareConfig(downsample=1)
TABLE = {**{name: number for number, name in enumerate(CLASS_NAMES)}, "ignore": 8}
FIRST_IGNORED = 7  # of ten planes along K
WHOLLY = "case_3"
SPLIT = {"train": ["case_0", "case_1", "case_2", WHOLLY], "validation": ["case_4"], "test": ["case_5"]}


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory, make_nnunet: Callable[..., Path], make_case: Callable[..., tuple]):  # type: ignore[type-arg,no-untyped-def] # noqa: ANN201
    """Six patients whose upper planes nobody labelled; of one nobody labelled anything."""
    folder = tmp_path_factory.mktemp("partly")
    cases = {f"case_{number}": make_case(number) for number in range(6)}
    for name, (_, labels) in cases.items():
        labels[:, :, 0 if name == WHOLLY else FIRST_IGNORED :] = 8
    (folder / "split.json").write_text(json.dumps(SPLIT))
    return make_nnunet(folder / "raw", cases, names=TABLE)


@pytest.fixture(scope="module")
def store(partly: Path) -> Store:
    return prepare(partly, partly.parent / "store", AS_IT_IS, split_file=partly.parent / "split.json")


def test_the_store_keeps_them_counts_them_apart_and_says_so_in_its_version(
    partly: Path, store: Store, tiny_store: Store
) -> None:
    manifest = json.loads((store.path / "manifest.json").read_text())
    assert (manifest["format_version"], tiny_store.manifest.format_version) == (2, 1)  # 1 is all that others read
    assert "ignored" not in (tiny_store.path / "manifest.json").read_text()
    record = store.manifest.cases["case_1"]
    assert (record.ignored_prepared, record.ignored_original) == (14 * 12 * 3, 14 * 12 * 3)
    assert record.meaning == {**{str(n): n for n in range(1, 8)}, "8": IGNORED}
    assert (store.labels("case_1")[:, :, FIRST_IGNORED:] == IGNORED).all()
    assert np.array_equal(store.original_labels("case_1").canonical().labels, store.labels("case_1"))
    expected = np.zeros(8, dtype=np.int64)
    for name in SPLIT["train"]:
        labels = find_cases(partly)[int(name[-1])].read_labels().labels
        expected += [np.count_nonzero(labels == label) for label in range(8)]
    assert store.voxel_counts().tolist() == store.voxel_counts("original").tolist() == expected.tolist()
    assert expected.sum() == 3 * 14 * 12 * FIRST_IGNORED
    assert "6 of 6 cases have voxels that nobody labelled (`ignore`), 41.7% of theirs" in ignored_text(store)
    assert ignored_text(store).endswith(f"nothing is labelled of {WHOLLY}: nothing is learnt from it")
    assert not ignored_text(tiny_store)


def test_a_store_notices_that_the_number_means_something_else_now(partly: Path, store: Store, tmp_path: Path) -> None:
    before = store.manifest
    split = partly.parent / "split.json"
    assert prepare(partly, store.path, AS_IT_IS, split_file=split).manifest == before
    table = partly / "dataset.json"
    said = table.read_text()
    try:
        table.write_text(json.dumps({"labels": {**TABLE, "ignore": 9, "kidney": 8}, "file_ending": ".nii.gz"}))
        with pytest.raises(BadInputError, match=r"case_0: its labels are taken to mean .* when .* ignore 8"):
            prepare(partly, store.path, AS_IT_IS, split_file=split)
        other = prepare(partly, tmp_path / "other", AS_IT_IS)
        assert other.manifest.format_version == 1  # all of it is background
        table.write_text(said)
        with pytest.raises(BadInputError, match=r"case_0: its labels are taken to mean .* ignore 8; when it was"):
            prepare(partly, other.path, AS_IT_IS)
    finally:
        table.write_text(said)


def test_coarse_voxels_are_what_is_at_their_centre_or_covers_most_of_them() -> None:
    # blocks of four: two ignored and two of liver; three ignored; one ignored; two, and one each of two classes
    labels = np.array([255, 255, 3, 3, 255, 255, 255, 3, 3, 3, 255, 3, 255, 255, 3, 4], dtype=np.uint8)
    label_map = LabelMap(labels.reshape(16, 1, 1), Geometry.from_spacing((16, 1, 1), (1.0, 1.0, 1.0)))
    change = GridChange.by_factor(label_map.geometry, (4, 1, 1))
    # the centre lies between the second and the third of four: nearest takes the later one
    assert coarsen_labels(label_map, change, "nearest").labels.ravel().tolist() == [3, 255, 255, 3]
    assert coarsen_labels(label_map, change, "majority").labels.ravel().tolist() == [3, 255, 3, 255]


@pytest.mark.parametrize(
    "scheme",
    [
        {"capture": "always", "resident": "always"},
        {"loss": {"cross_entropy": 1.0, "sums": "sub_volume"}, "organ_windows": 0.5},
        {"levels": 3, "network": {"deep_supervision": True}, "augment": {"enabled": True, "rotation_probability": 1}},
    ],
)
def test_a_training_goes_by_what_is_labelled(
    store: Store, tiny_config: Callable[..., Config], tmp_path: Path, scheme: dict[str, object]
) -> None:
    config = tiny_config(iterations=12, diagnose=True, monitor_windows=8, **scheme)
    run = train(store.path, tmp_path / "run", config)
    curve = run.read_curve()
    assert all(np.isfinite(line["loss"]) and np.isfinite(line["gradient_norm"]) for line in curve)
    assert all(0 <= share <= 1 for line in curve for share in line["gradient_share"].values())
    assert list(curve[-1]["validation_dice"]) == list(CLASS_NAMES)  # there is no class for it
    feed = feed_of(store, tiny_config().train)  # without what augmentation needs beyond
    windows = [feed.batch(step).labels.numpy() for step in range(40)]
    assert any((window == IGNORED).all() for batch in windows for window in batch)
    monitor = Monitor.create(feed, [], config.train, config.predict, feed.batch(1).hu.device)
    held = [window.labels.numpy() for window in monitor.windows]
    perfect = [np.where(labels == IGNORED, 1, labels).astype(np.uint8) for labels in held]
    assert {each.dice for each in monitor._outcomes(perfect).values()} <= {1.0, None}


def test_scores_leave_them_out(store: Store, partly: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    truth = store.original_labels("case_5")
    prediction = np.where(truth.labels == IGNORED, 4, truth.labels)  # right where there is a truth
    save_labels(tmp_path / "p" / "case_5.nii.gz", prediction, truth.geometry.affine)
    metrics = EvaluateConfig(metrics=["dice", "hd95_mm", "surface_dice", "volume_ml"])
    rows = evaluate(tmp_path / "p", store.path, tmp_path / "s.csv", metrics, summary=tmp_path / "summary.json")
    assert {row.value for row in rows if row.metric in {"dice", "surface_dice"}} <= {1, None}
    assert {row.value for row in rows if row.metric == "hd95_mm"} <= {0, None}
    assert "1 of 1 reference has voxels that nobody labelled (`ignore`; case_5)" in caplog.text
    counts = json.loads((tmp_path / "summary.json").read_text())["metric_per_case"][0]["metrics"]["4"]
    assert (counts["FP"], counts["FN"], counts["TP"] + counts["TN"]) == (0, 0, 14 * 12 * FIRST_IGNORED)
    of_data_set = evaluate(tmp_path / "p", partly, tmp_path / "other.csv", metrics)
    assert of_data_set == rows


def test_the_doctor_and_what_predictions_are_held_against(store: Store, tiny_config: Callable[..., Config]) -> None:
    found = diagnose(store.path, tiny_config())
    assert found.cases_with_class == (3, *[3] * 7)
    assert np.isfinite([share for arm in found.arms for share in arm.gradient_share]).all()
    ranges = training_ranges(store)
    assert {each.cases for each in ranges.values()} == {3}  # the one that nobody labelled says nothing
    reaching = {name for name, each in ranges.items() if each.volume_ml is None}
    above = {name for label, name in enumerate(CLASS_NAMES[1:], 1) if 4 + label % 5 >= FIRST_IGNORED}
    assert reaching >= above  # they may go on where nobody labelled


def test_what_a_training_says_of_its_cases(store: Store, tiny_store: Store) -> None:
    data = TrainingData.of(store)
    assert (data.cases_with_ignored, data.mean_volume_of) == (4, "labelled part")
    assert TrainingData.of(tiny_store).mean_volume_of == "organ"


def test_a_check_counts_them_and_calls_nothing_broken_by_them(partly: Path, tmp_path: Path) -> None:
    found = check(partly, tmp_path / "check")
    notes = {finding.case: finding for finding in found.all_findings() if finding.kind == "ignored"}
    whole = [title_of(name) for label, name in enumerate(CLASS_NAMES) if label and 4 + label % 5 < FIRST_IGNORED]
    value = notes["case_1"].value
    assert value.startswith("504 of 1,680 voxels, 30.0%; volumes of the labelled part alone: ")
    assert set(value.partition("alone: ")[2].split(", ")) == {*map(title_of, CLASS_NAMES[1:])} - {*whole}
    assert {finding.level for finding in notes.values()} == {"note"}
    kinds = {(finding.case, finding.kind) for finding in found.all_findings() if finding.level == "suspicious"}
    assert (WHOLLY, "nothing_labelled") in kinds
    with (tmp_path / "check" / "check.csv").open(newline="") as file:
        assert {row["case"]: row["ignored_voxels"] for row in csv.DictReader(file)} == {
            f"case_{n}": "1680" if n == 3 else "504" for n in range(6)
        }
    page = (tmp_path / "check" / "index.html").read_text()
    assert "nobody labelled (ignore)" in page
    assert page.count("<small>in part</small>") == 5 * (7 - len(whole))
    assert "not there   ~ labelled in part\n" in check_text(found)
