"""`viscera plan`: from a Store to a file of settings for `prepare` and `train`."""

from pathlib import Path

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.progress import OnProgress, unseen
from viscera.core.wording import counted
from viscera.io.disk.folder_lock import alone_with
from viscera.io.files import refuse_unwritable, write_text
from viscera.io.remote.mirror_index import with_addresses
from viscera.io.store import Store
from viscera.planning.plan_text import plan_yaml
from viscera.planning.training_plan import Plan, Wanted, planned

__all__ = ["Plan", "Wanted", "plan_training"]


def plan_training(
    store_path: Path,
    out: Path,  # YAML file to write; it must not be there
    base: Config,  # what is not planned: loss, optimiser, normalisation …
    wanted: Wanted,  # time or steps, memory
    *,
    progress: OnProgress = unseen,  # called before each timing
) -> Plan:
    """Plan a training on a store, and write it down; raises as `planned`, and BadInputError for a file that exists."""
    _refuse_existing(out)
    store = Store.open(store_path)
    refuse_unwritable(next(folder for folder in out.absolute().parents if folder.exists()))  # before minutes of timing
    with alone_with(out):
        _refuse_existing(out)
        plan = planned(store, base, wanted, progress)
        title = f"viscera plan {store_path}: a training on {counted(plan.data.cases, 'case')}."
        write_text(out, plan_yaml(plan, with_addresses(title)))
    return plan


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise BadInputError(f"{out}: exists. Move it away, or give another file with --out.")
