"""Which plan is taken: of several sizes the largest for memory and time; and what of the base stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError, RunFailedError
from viscera.core.resolve import resolve_config
from viscera.core.settings import differences
from viscera.engine.step_cost import TrainingCost
from viscera.engine.step_memory import step_memory
from viscera.io.records import read_yaml
from viscera.io.store import Store
from viscera.planning import training_plan
from viscera.planning.plan_text import plan_yaml
from viscera.planning.training_plan import Plan, Wanted, planned

CPU = torch.device("cpu")
BASE = resolve_config(assignments=["train.device=cpu", "train.precision=float32", "train.memory_layout=channels_first"])
Pretend = Callable[[Callable[[TrainConfig], float]], list[TrainConfig]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Lets steps take what a function says, in place of timing them; the list grows by each that is tried closely."""

    def times(seconds: Callable[[TrainConfig], float]) -> list[TrainConfig]:
        tried: list[TrainConfig] = []

        def measured(_store: Store, config: Config, _device: torch.device, **_: float) -> TrainingCost:
            tried.append(config.train)
            return TrainingCost(seconds(config.train), 0.0, 0.0, 0.0, 0.0, 10.0, 8)

        monkeypatch.setattr(training_plan, "noise_step_seconds", lambda train, *_: seconds(train))
        monkeypatch.setattr(training_plan, "measured_cost", measured)
        return tried

    return times


def size_of(plan: Plan) -> tuple[int, int]:
    return plan.config.train.patch, plan.config.train.filters


def by_edge(per_voxel: float) -> Callable[[TrainConfig], float]:
    return lambda train: per_voxel * train.patch**3


@pytest.mark.parametrize(("seconds", "edge"), [(4000, 40), (400, 24), (40, 24)])
def test_the_largest_that_leaves_three_thousand_steps(
    seconds: float, edge: int, roomy_store: Store, pretend: Pretend
) -> None:
    """A step of 40³ takes 0.64 s, 3,000 of them with what is beside them 2,304; of 32³ 0.33 and 1,180, of 24³ 500."""
    pretend(by_edge(1e-5))
    plan = planned(roomy_store, BASE, Wanted(seconds=seconds))
    assert size_of(plan) == (edge, 8)
    assert plan.config.train.iterations == pytest.approx((0.95 * seconds - 10) / (1e-5 * edge**3), rel=0.1)
    assert plan.seconds <= seconds
    assert any("are few" in each or "little is learnt" in each for each in plan.warnings) == (seconds < 100)


@pytest.mark.parametrize(("steps", "edge"), [(77, 40), (100_000, 40), (200_000, 32), (900_000, 24)])
def test_with_steps_given_they_take_a_day_at_most(steps: int, edge: int, roomy_store: Store, pretend: Pretend) -> None:
    """86,400 s are 112,500 steps of 40³, with what is beside them, and 219,000 of 32³."""
    pretend(by_edge(1e-5))
    plan = planned(roomy_store, BASE, Wanted(iterations=steps))
    assert size_of(plan) == (edge, 8)
    assert plan.config.train.iterations == steps
    assert plan.seconds == pytest.approx(10 + steps * 1e-5 * edge**3)


def test_a_trial_that_is_slower_than_the_search_or_lacks_memory_leads_to_the_next_smaller(
    roomy_store: Store, monkeypatch: pytest.MonkeyPatch, pretend: Pretend
) -> None:
    tried = pretend(by_edge(1e-5))
    monkeypatch.setattr(training_plan, "noise_step_seconds", lambda *_: 1e-3)
    assert size_of(planned(roomy_store, BASE, Wanted(seconds=800))) == (32, 8)  # 2,000 steps are enough
    assert [train.patch for train in tried] == [40, 32]

    def no_memory(_store: Store, config: Config, _device: torch.device, **_: float) -> TrainingCost:
        if config.train.patch > 24:
            raise RunFailedError("out of memory")
        return TrainingCost(0.1, 0.0, 0.0, 0.0, 0.0, 10.0, 8)

    monkeypatch.setattr(training_plan, "measured_cost", no_memory)
    assert size_of(planned(roomy_store, BASE, Wanted(iterations=5))) == (24, 8)


def test_a_smaller_plan_where_memory_does_not_suffice(roomy_store: Store, pretend: Pretend) -> None:
    pretend(by_edge(1e-9))
    train = BASE.train.model_copy(update={"patch": 24, "batch_size": 2, "filters": 8, "levels": 3})
    enough = step_memory(train, 8, CPU).of(train)
    assert size_of(planned(roomy_store, BASE, Wanted(memory=1.01 * enough))) == (24, 8)
    with pytest.raises(BadInputError, match=r"There are 1 MiB of memory, and the smallest network .* takes 3\d\d MiB"):
        planned(roomy_store, BASE, Wanted(memory=2**20))


def test_a_budget_that_is_shorter_than_the_set_up_is_refused(roomy_store: Store, pretend: Pretend) -> None:
    pretend(by_edge(1e-4))
    with pytest.raises(BadInputError, match=r"A budget of 15 s is too short: .* about 10 s here, and a step 1.4 s"):
        planned(roomy_store, BASE, Wanted(seconds=15))


def test_what_is_not_planned_is_as_in_the_base(roomy_store: Store, pretend: Pretend, tmp_path: Path) -> None:
    """A recipe of its own: nothing changes but what the plan gives a reason for, and nothing that is fixed.

    Its blocks are for two levels, and are continued. The file holds all of it.
    """
    pretend(by_edge(1e-6))
    own = ["train.optimiser.name=sgd", "train.loss.cross_entropy=1", "train.network.normalisation=instance"]
    own += [
        "train.network.encoder=residual",
        "train.network.blocks=[2, 1, 1]",
        "train.levels=3",
        "predict.overlap=0.25",
    ]
    own += ["train.rate_schedule.shape=cosine", "train.rate_schedule.warm_up=50", "train.organ_windows=0.5"]
    base = resolve_config(
        assignments=[*own, "train.network.deep_supervision=true", "train.intensity.low_hu=-150", "train.device=cpu"],
        options={"train.precision": "float32"},
    )
    plan = planned(roomy_store, base, Wanted(seconds=900, fixed=frozenset({"train.intensity.low_hu"})))
    changed = {each.split()[0] for each in differences(base, plan.config)}
    assert changed <= {*plan.choices, "prepare.downsample", "prepare.test_fraction", "prepare.validation_fraction"}
    assert plan.config.train.intensity.low_hu == -150
    assert plan.config.train.network.blocks == (2, 1, 1, 1)[: plan.config.train.levels]
    assert plan.config.train.levels == 4
    assert plan.config.train.rate_schedule.shape == "cosine"
    assert plan.config.prepare == roomy_store.manifest.prepare
    assert plan.config.train.intensity.high_hu != 500
    path = tmp_path / "plan.yaml"
    path.write_text(plan_yaml(plan, "a plan"), encoding="utf-8")
    read = resolve_config(file_values=read_yaml(path))  # with the preset that `train` has by default
    assert (read.prepare, read.train, read.predict) == (plan.config.prepare, plan.config.train, plan.config.predict)


def test_groups_that_do_not_divide_few_filters_leave_those_out(roomy_store: Store, pretend: Pretend) -> None:
    pretend(by_edge(1e-6))
    own = ["train.network.normalisation=group", "train.network.groups=16", "train.filters=16", "train.device=cpu"]
    base = resolve_config(assignments=own)
    with pytest.raises(BadInputError, match="16 groups of channels do not divide 8 filters"):
        planned(roomy_store, base, Wanted(iterations=9))
