"""The test cases of a study, each with its reference and the prediction of every arm and seed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from viscera.core.arms import FUSED, arms_of
from viscera.core.errors import BadInputError
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.store import Store
from viscera.view.gallery import Gallery, LabelLayer, ShownCase
from viscera.view.given_beside import Beside, is_store, predictions_of, scans_of, store_scan


def study_gallery(path: Path, beside: Beside) -> Gallery:
    """Find the cases of a study; a run that has no prediction of a case is missing there.

    Raises BadInputError where its store is not there any more, unless it is given as the scans.
    """
    study = StudyFolder(path)
    record = study.read_record()
    given = beside.scans if beside.scans and is_store(beside.scans) else Path(record.store)
    if not is_store(given):
        raise BadInputError(
            f"{path}: its store {record.store} is not there, and with it the scans and references. Give the place "
            "where it is now with --scans STORE."
        )
    store = Store.open(given)
    scans = scans_of(beside.scans) if beside.scans and given != beside.scans else {}
    predicted = {title: _predictions(run, store, title) for title, run in _runs(study)}
    names = store.names("test") or sorted({name for layers in predicted.values() for name in layers})
    cases = tuple(
        ShownCase(
            name,
            scans.get(name) or store_scan(store, name),
            (*_reference(store, name), *(layers[name] for layers in predicted.values() if name in layers)),
            "test",
        )
        for name in names
    )
    if not cases:
        raise BadInputError(f"{path}: no test case and no prediction to look at. Run the study first.")
    roots = (path.resolve(), given.resolve(), *beside.roots)
    return Gallery("study", path, roots, store.classes, cases)


def _runs(study: StudyFolder) -> Iterator[tuple[str, RunFolder]]:
    """Every run of the plan by its title, in the order of Table 1, and the fused predictor."""
    plan = study.read_record().config.study
    for arm in arms_of(plan):
        for seed in plan.seeds:
            several = f", seed {seed}" * (len(plan.seeds) > 1)
            yield f"{arm.title}{several}", study.run(arm, seed)
    if study.fused.fusion.exists():
        yield FUSED, study.fused


def _predictions(run: RunFolder, store: Store, title: str) -> dict[str, LabelLayer]:
    files = {path.name.removesuffix(".nii.gz"): path for path in sorted(run.predictions.glob("*.nii.gz"))}
    there = {name: path for name, path in files.items() if name in store.manifest.cases}
    return predictions_of(there, store.classes, run.scores, title) if there else {}


def _reference(store: Store, name: str) -> Iterator[LabelLayer]:
    record = store.manifest.cases.get(name)
    if record is not None:
        path, read = store.original_labels_path(name), partial(store.original_labels, name)
        yield LabelLayer("reference", "reference", (path,), read, unlabelled=record.unlabelled)
