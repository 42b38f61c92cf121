"""Arms that were trained elsewhere and copied into a study: taken as they are, or refused."""

from viscera.core.config import Config, differences
from viscera.core.errors import BadInputError
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder, RunStatus, read_config
from viscera.io.store import Store
from viscera.stages.predict import unpredicted

_WHERE_AND_HOW_OFTEN = {"device", "resident", "checkpoint_every", "log_every", "validate_every", "iterations"}


def refuse_strangers(run: RunFolder, store: Store, config: Config) -> None:
    """Check a run that has ended: it must be the one that the study would make.

    Args:
        run: an arm's; nothing is checked where it has not ended: `train` checks what it goes on with.
        store: of the study.
        config: of the arm.

    Raises:
        BadInputError: other settings, more steps, fewer without weights to go on from, or another training set; or it
            does not say.
    """
    status = run.read_status()
    if status is None or status.state not in {"finished", "failed"}:
        return
    if not run.config_path.exists():
        raise BadInputError(
            f"{run.path}: a run without its config.yaml. Copy the whole folder of the run, or delete it."
        )
    other = _other_settings(read_config(run.config_path), config.model_copy(update={"prepare": store.manifest.prepare}))
    if status.step > config.train.iterations:
        other.append(f"{status.step} steps (now {config.train.iterations})")
    if other:
        raise BadInputError(
            f"{run.path}: this run was made with {', '.join(other)}. Give the study the same settings, or delete the "
            "run to train it here."
        )
    if status.state == "finished" and status.step < config.train.iterations and not run.last.exists():
        raise BadInputError(
            f"{run.path}: trained for {status.step} of {config.train.iterations} steps, and it has no last.pt to go on "
            "from. Copy its last.pt too, or delete the run to train it here."
        )
    if _voxel_counts(run, status) != tuple(store.voxel_counts(config.train.loss.counts).tolist()):
        raise BadInputError(
            f"{run.path}: this run was trained on other cases than the training cases of {store.path}. Give the store "
            "that it was trained on, or delete the run to train it here."
        )


def refuse_unpredicted(run: RunFolder, store: Store) -> None:
    """Check a run that came without weights: it must bring its label maps of all test cases.

    Raises:
        BadInputError: some are missing, were changed, or are of other scans.
    """
    missing = unpredicted(store, store.names("test"), run.predictions)
    if missing:
        raise BadInputError(
            f"{run.path}: it has no last.pt, and no label map of {', '.join(missing[:5])} that fits the store. Copy "
            "its last.pt or its predictions too, or delete the run to train it here."
        )


def _other_settings(earlier: Config, config: Config) -> list[str]:
    of_the_set = {"mean_hu", "sd_hu"} if config.train.intensity.mean_hu is None else set()  # filled in by `train`
    return [
        *differences(earlier.prepare, config.prepare, within="prepare."),
        *differences(earlier.train, config.train, _WHERE_AND_HOW_OFTEN | of_the_set, "train."),
        *differences(earlier.predict, config.predict, within="predict."),
    ]


def _voxel_counts(run: RunFolder, status: RunStatus) -> tuple[int, ...]:
    if status.training_voxel_counts:
        return status.training_voxel_counts
    return tuple(load_checkpoint(run.last).class_voxel_counts.tolist())
