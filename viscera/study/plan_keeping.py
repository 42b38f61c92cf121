"""The analysis plan of a study, kept: it follows the study until its first run has begun, and then it stays."""

import logging
from collections.abc import Mapping

from viscera.core.wording import counted
from viscera.io.store import Store
from viscera.study.analysis_plan import AnalysisPlan, read_analysis_plan
from viscera.study.plan import StudyPlan

log = logging.getLogger(__name__)


def keep_plan(plan: StudyPlan, store: Store, rules: Mapping[str, float]) -> None:
    """Write the analysis plan of a study, or write it anew, as long as none of its runs has begun.

    Afterwards it stays as it is, or is not there; one that was changed is warned of. Raises BadInputError where it is
    no plan any more.
    """
    if plan.begun is None:
        renewed_plan(plan, store, rules)
        return
    kept, unchanged = read_analysis_plan(plan.folder)
    if kept is not None and not unchanged:
        log.warning(
            "%s: changed after it was written, by its checksums. The report says so, and nothing in it counts as "
            "planned until the file is restored from a copy.",
            plan.folder.plan_path,
        )


def renewed_plan(plan: StudyPlan, store: Store, rules: Mapping[str, float]) -> AnalysisPlan:
    """The analysis plan of a study of which no run has begun: the one that is there, or one of now.

    One of now is written where there is none, one that says other, or one that was changed by hand. Raises
    BadInputError where it is no plan any more.
    """
    before, unchanged = read_analysis_plan(plan.folder)
    now = AnalysisPlan.of(plan.record, store, rules)
    if before is not None and unchanged and before.says_as(now):
        return before
    if before is not None:
        why = "other settings than planned" if unchanged else "the plan was changed after it was written"
        log.warning(
            "%s: %s, and nothing has been trained, so the plan is replaced: %s of %s before (SHA-256 %s), %s of %s now "
            "(SHA-256 %s).",
            *(plan.folder.plan_path, why),
            *(before.runs, counted(before.iterations, "iteration"), before.sha256),
            *(now.runs, counted(now.iterations, "iteration"), now.sha256),
        )
    now.write(plan.folder)
    return now
