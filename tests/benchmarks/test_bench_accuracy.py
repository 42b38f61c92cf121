"""Times, ratios and plans of `bench_accuracy`, worked by hand; contenders that need nothing to learn."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import accuracy_ours
from benchmarks.accuracy_cost import Cost
from benchmarks.accuracy_data import DataSet, Fast, Phantom, set_up
from benchmarks.accuracy_nnunet import Size, cut, epochs
from benchmarks.accuracy_ours import Planned
from benchmarks.accuracy_page import PAGE, Crossing, Point, collect, crossing, curve, page, ratio_line, take_up
from benchmarks.bench_accuracy import run_piece
from benchmarks.record import RESULTS
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.io.store import Store
from viscera.planning.training_plan import Wanted

COST = {"prepare_s": 20.0, "overhead_s": 4.0, "step_s": 0.5, "predict_s": 6.0, "mirrored_s": None}


def test_steps_are_what_a_budget_leaves_beside_everything_else() -> None:
    cost = Cost(**COST, fast=Fast())  # type: ignore[arg-type]
    assert cost.steps_within(1) == 60  # 60 s less 30, at half a second
    assert cost.seconds(60) == 60
    assert cost.steps_within(0.4) == 0  # 24 s do not do for 30


def test_the_goal_is_crossed_between_points_on_a_scale_of_logarithms() -> None:
    points = [Point(7, 400, (0.9, 1.1), "plain"), Point(2, 100, (0.5,), "plain")]
    found = crossing(points)
    assert found is not None
    assert found.seconds == pytest.approx(200)  # half-way from .5 to 1, so half of the factor of 4
    assert found.bound == ""
    assert crossing(points, 0.4) == Crossing(100, "before")
    assert crossing(points[1:]) == Crossing(100, "not_within")
    assert crossing([]) is None


def results(dice: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Points of two budgets, 60 and 90 s, of contenders that cost the same."""
    contenders = {key: {**COST, "fast": {"bfloat16": False, "channels_last": False}} for key in dice}
    pieces = [
        {"contender": key, "costs_like": key, "minutes": m, "seed": 0, "steps": steps}
        | {"dice": {"plain": {"foreground": value}}}
        for key, values in dice.items()
        for value, m, steps in zip(values, (1, 1.5), (60, 120), strict=True)
    ]
    names = {"ours": "ours-x", "nnunet": "nnunet", "nnunet-no-mirroring": "nnunet-no-mirroring"}
    return {"data": {"name": "phantom"}, "names": names, "cost": {"contenders": contenders}, "pieces": pieces}


def test_ratios_say_what_is_a_bound() -> None:
    both = results({"ours-x": [0.5, 1.0], "nnunet": [0.1, 0.2], "nnunet-no-mirroring": [0.2, 0.3]})
    line = ratio_line(both, "nnunet")
    assert line == (
        "RATIO name=accuracy_time_vs_nnunet ours=73.48 peer=90 ratio=1.22 bound=peer_not_within_90_s"
    )  # 60 times the root of 1.5
    neither = results({"ours-x": [0.5, 0.6], "nnunet": [0.1, 0.2]})
    assert ratio_line(neither, "nnunet").endswith("there is no ratio.")
    assert ratio_line(neither, "monai").endswith("there is no point of the peer yet, so there is no ratio.")
    assert ratio_line(results({"ours-x": [0.5, 1], "nnunet": [0, 0], "nnunet-no-mirroring": [0.5, 1]}), "nnunet") == (
        "RATIO name=accuracy_time_vs_nnunet ours=73.48 peer=73.48 ratio=1"
    )  # of two variants the first to reach it counts


def test_the_better_of_plain_and_mirrored_counts_at_its_own_cost() -> None:
    found = results({"nnunet": [0.5, 0.6]})
    found["cost"]["contenders"]["nnunet"]["mirrored_s"] = 46.0
    found["pieces"][1]["dice"]["mirrored"] = {"foreground": 0.7}
    assert curve(found, "nnunet") == [Point(1, 60, (0.5,), "plain"), Point(1.5, 130, (0.7,), "mirrored")]


@pytest.mark.parametrize(("steps", "expected"), [(1, (1, 1)), (7, (7, 1)), (200, (200, 1)), (1000, (200, 5))])
def test_short_epochs_make_up_the_steps(steps: int, expected: tuple[int, int]) -> None:
    assert epochs(steps) == expected


def test_at_most_a_hundredth_of_the_steps_is_left_over() -> None:
    for steps in range(1, 3000, 7):
        number, each = epochs(steps)
        assert steps * 0.99 <= number * each <= steps


def test_a_plan_is_cut_in_size_alone() -> None:
    old = {"n_stages": 6, "features_per_stage": [32], "norm_op": "torch.nn.InstanceNorm3d", "strides": []}
    plan = {"patch_size": [128] * 3, "batch_size": 2, "spacing": [3.0] * 3, "architecture": {"arch_kwargs": old}}
    made = cut({"plans_name": "nnUNetPlans", "configurations": {"2d": {}, "3d_fullres": plan}}, Size(48, 3, 16, 3))
    new = made["configurations"]["3d_fullres"]
    assert (new["patch_size"], new["batch_size"], new["spacing"]) == ([48] * 3, 3, [3.0] * 3)
    of_network = new["architecture"]["arch_kwargs"]
    assert of_network["features_per_stage"] == [16, 32, 64]
    assert of_network["strides"] == [[1] * 3, [2] * 3, [2] * 3]
    assert of_network["norm_op"] == "torch.nn.InstanceNorm3d"
    assert old["n_stages"] == 6


class Oracle:
    """Knows the answer; counts what it is asked."""

    key = costs_like = "oracle"
    title = cost_title = "oracle"
    mirrors = True
    fast: Sequence[Fast] = (Fast(),)

    def __init__(self, data: DataSet) -> None:
        self.data, self.prepared, self.trained = data, data.work, 0

    def settings(self) -> Mapping[str, Any]:
        return {}

    def load(self) -> None: ...

    def prepare(self) -> None: ...

    def prepare_again(self) -> None: ...

    def train(self, steps: int, _seed: int, _folder: Path, _fast: Fast, on_step: Callable[[], None]) -> int:
        self.trained += 1
        on_step()
        return steps

    def predict(self, _folder: Path, scans: Sequence[Path], out: Path, _fast: Fast, *, mirrored: bool) -> None:
        assert mirrored in {False, True}
        for scan, reference in zip(scans, self.data.references, strict=True):
            shutil.copyfile(reference, out / scan.name.replace("_0000", ""))


def test_a_piece_is_done_once_and_unseen_cases_are_not_trained_on(tmp_path: Path) -> None:
    data = set_up(tmp_path, None, "phantom", Phantom(3, 1, (24, 20, 16), 16.0))
    assert len(data.training) == 2
    assert not {path.name for path in data.scans} & {path.name for path in (data.raw / "imagesTr").iterdir()}
    assert set_up(tmp_path, None, "another name") == data
    oracle = Oracle(data)
    with pytest.raises(BadInputError, match="the cost of oracle was not measured"):
        run_piece(data, oracle, 0, 1)
    values = COST | {"fast": {"bfloat16": False, "channels_last": False}}
    (tmp_path / "cost.json").write_text(json.dumps({"contenders": {"oracle": values}}))
    piece = json.loads(run_piece(data, oracle, 0, 1).read_text())
    assert piece["steps"] == 60
    assert piece["dice"]["plain"]["foreground"] == piece["dice"]["mirrored"]["foreground"] == 1
    run_piece(data, oracle, 0, 1)
    assert oracle.trained == 1
    assert json.loads(run_piece(data, oracle, 0, 0.4).read_text())["dice"] == {}  # no step within the budget
    assert oracle.trained == 1


def test_points_that_were_collected_are_not_trained_again(tmp_path: Path) -> None:
    """In another folder with the same data; other data, or other costs, are refused."""
    phantom, results = Phantom(3, 1, (24, 20, 16), 16.0), tmp_path / "results"
    results.mkdir()
    first, second, other = (set_up(tmp_path / name, None, "phantom", phantom) for name in "abc")
    values = COST | {"fast": {"bfloat16": False, "channels_last": False}}
    (tmp_path / "a" / "cost.json").write_text(json.dumps({"contenders": {"oracle": values}}))
    run_piece(first, Oracle(first), 0, 1)
    collect(first, results)
    assert take_up(second, results) == 1
    oracle = Oracle(second)
    piece = json.loads(run_piece(second, oracle, 0, 1).read_text())
    assert (oracle.trained, piece["steps"], piece["dice"]["plain"]["foreground"]) == (0, 60, 1)
    run_piece(second, oracle, 1, 1)
    assert oracle.trained == 1
    assert take_up(second, results) == 0
    (tmp_path / "c" / "cost.json").write_text(json.dumps({"contenders": {}}))
    with pytest.raises(BadInputError, match="other costs"):
        take_up(other, results)
    with pytest.raises(BadInputError, match="its data are not those"):
        take_up(set_up(tmp_path / "d", None, "phantom", Phantom(4, 1, (24, 20, 16), 16.0)), results)


def test_a_plan_is_made_for_each_budget_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 mm scans, planned for 32 mm: half the voxels along each axis. Later objects have the plan."""
    data = set_up(tmp_path / "a", None, "phantom", Phantom(3, 1, (24, 20, 16), 16.0))

    def planned(store: Store, base: Config, wanted: Wanted) -> SimpleNamespace:
        assert store.manifest.prepare.test_fraction == 0
        assert wanted.seconds == 90
        return SimpleNamespace(config=with_settings(base, {"prepare.spacing_mm": 32.0, "train.patch": 8}, "here"))

    monkeypatch.setattr(accuracy_ours, "planned", planned)
    ours = Planned(data, "strong", 1.5)
    ours.prepare()
    assert (ours.key, ours.costs_like) == ("ours-strong", "ours-strong-1.5-minutes")
    store = Store.open(ours.prepared)
    assert {store.manifest.cases[name].prepared.shape for name in store.names("train")} == {(12, 10, 8)}
    again = Planned(data, "strong", 1.5)
    assert again.config == ours.config
    assert (again.config.train.patch, again.config.train.organ_windows) == (8, 0.33)
    assert Planned(data, "strong", 3).config.train.patch == 64


def test_the_page_is_the_one_that_the_results_give() -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("accuracy_*.json"))]
    assert PAGE.read_text(encoding="utf-8") == page(found)
