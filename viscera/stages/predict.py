"""`viscera predict`: from a Run and scans, NIfTI or DICOM, to label maps on the scans' own grids."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, UsageError
from viscera.core.processes import Spread, for_each
from viscera.core.progress import OnProgress, unseen
from viscera.core.shard import Shard
from viscera.core.wording import agreeing, counted
from viscera.engine.confidence_maps import ConfidenceMaps
from viscera.engine.prediction_tasks import Lists, Segmented, Task, run_all, task_of_store
from viscera.engine.predictor import Predictor
from viscera.io.files import is_occupied, refuse_unwritable, sha256
from viscera.io.formats import ENDINGS, FORMATS, formats_of, refuse_other_file, wanted_formats
from viscera.io.job_parts import alone_with_part, begin_part_beside_others
from viscera.io.predictions import PredictionFiles, predicted_in, read_record, say_what_is_replaced
from viscera.io.probability_maps import MAPS
from viscera.io.pseudonyms import Pseudonyms, is_pseudonym, pseudonymous
from viscera.io.scans import Scan, open_scans
from viscera.io.store import Store
from viscera.metrics.hounsfield import hu_facts, no_hu
from viscera.metrics.organ_facts import organ_facts

log = logging.getLogger(__name__)


_BESIDE_BYTES = 2**27  # that a scan on the network's grid may take beside the scan


def predict(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    run: Path,
    source: Path,  # a NIfTI file or a folder of them; or a folder or zip file of DICOM images
    output: Path,  # a folder, or a file that ends in `.nii`, `.nii.gz`, `.nrrd` or `.dcm`, capitals or not
    config: PredictConfig | None = None,  # how; by default as the Run says
    *,
    series: str | None = None,  # UID of the DICOM series; by default the CT with most images
    formats: Sequence[str] | None = None,  # main one first; by default NIfTI, or what the name asks for
    device: str = "auto",
    pseudonyms: Path | None = None,  # key file, see `io.pseudonyms`: no name of a case, file or folder is told
    overwrite: bool = False,  # label maps that viscera did not write, that were edited, or are of other scans
    jobs: int = 1,  # processes that work at the same time, each with a model of its own
    spread: Spread | None = None,  # over other machines instead, which reach the same files
    shard: Shard | None = None,  # segment this part of a folder alone; others may work beside it in the same output
    progress: OnProgress = unseen,  # called before each case, or with several `jobs` after it; and at the end
) -> list[Path]:
    """Segment a NIfTI file, all of a folder, or one DICOM series: the label maps, in the main format.

    Those that the same model wrote for the same scan before are kept.

    Raises:
        BadInputError: nothing to segment; or, after all else is done, scans that were left out (`quarantine.csv`).
        DefectError: likewise, and one of them was left out by a defect of ours.
    """
    is_file = bool(formats_of(output))
    if spread is not None:  # other machines stand elsewhere
        source, output = source.absolute(), output.absolute()
    refuse_other_file(output)
    if (source / "manifest.json").exists():
        raise BadInputError(
            f"{source}: this is a store; a scan or a folder of scans was expected. For its cases, each by the run that "
            "held it out, add --out-of-fold, with the folder of the runs of all folds."
        )
    wanted = wanted_formats(output, formats)
    keys = _keys(pseudonyms, output) if pseudonyms is not None else None
    with pseudonymous(keys, source), open_scans(source, series) as scans:
        scans = _under_pseudonyms(scans, keys, wanted) if keys else scans  # noqa: PLW2901 - the same scans
        if keys and (others := keys.others_of(predicted_in(output))):
            what = "%s: %s there %s not called by a pseudonym of %s: of another key file, or under a name of its own."
            log.warning(what, output, counted(others, "prediction"), agreeing(others), keys.path)
        _check_output(output, scans, wanted, is_file=is_file)
        tasks = [_task(scan, PredictionFiles.of(output, scan.name, wanted)) for scan in scans]
        _refuse_collisions(tasks, scans)
        of_all = [task.input_name for task in tasks]
        tasks = shard.of(tasks) if shard else tasks
        predictor = Predictor.load(run, config, device)
        _refuse_maps_of_a_rule(run, predictor, wanted)
        refuse_unwritable(output.parent if is_file else output)
        files = [task.files for task in tasks]
        say_what_is_replaced(files, {predictor.checksum}, output, predictor.provenance)
        if spread is None and jobs > 1:
            spread = partial(for_each, jobs=jobs)
        if source.is_file() and scans[0].series is not None:  # unpacked on this machine alone
            spread = None
        load = partial(_loaded, run.absolute(), config, device, predictor.checksum) if spread else lambda _: predictor
        if shard and not is_file:
            begin_part_beside_others(output, "predict", shard, of_all)
        lists = Lists(None if is_file else output, source, shard, keys.told if keys else str)
        with alone_with_part(output, "predict", None if is_file else shard):
            return run_all(tasks, load, lists, progress, overwrite=overwrite, spread=spread)


@lru_cache(maxsize=1)
def _loaded_once(run: Path, config: PredictConfig | None, device: str, _checksum: str) -> Predictor:
    """In a process of several: once for all its scans, for as long as the model is the same.

    What there is to say of it was said where it was loaded first.
    """
    logging.disable(logging.WARNING)
    try:
        return Predictor.load(run, config, device)
    finally:
        logging.disable(logging.NOTSET)


def _loaded(run: Path, config: PredictConfig | None, device: str, checksum: str, _task: Task) -> Predictor:
    return _loaded_once(run, config, device, checksum)


def predict_store(
    run: Path,
    store: Store,
    names: Iterable[str],
    output: Path,
    progress: OnProgress = unseen,
    *,
    formats: Sequence[str] = ("nifti",),  # and maps
) -> list[Path]:
    """Segment prepared cases of a store, on their scans' own grids; otherwise as `predict`."""
    predictor = Predictor.load(run)
    _refuse_maps_of_a_rule(run, predictor, formats)
    store.refuse_other_classes(run, predictor.classes)
    tasks = [task_of_store(store, name, output, formats) for name in names]
    return run_all(tasks, lambda _: predictor, Lists(output, store.path), progress, overwrite=True)


def unpredicted(store: Store, names: Iterable[str], output: Path) -> list[str]:
    """Those of the cases of a store that have no label map in a folder, or one that was made from another scan."""

    def is_there(name: str) -> bool:
        files = PredictionFiles.of(output, name, ["nifti"])
        written = read_record(files.record) or {}
        made_from_ours = written.get("input_sha256") == store.manifest.cases[name].sha256["image.npy"]
        return made_from_ours and files.main.exists() and written.get("output_sha256") == sha256(files.main)

    return [name for name in names if not is_there(name)]


def _keys(path: Path, output: Path) -> Pseudonyms:
    """Raises BadInputError before a new key file would give cases new pseudonyms beside those of another one."""
    under_another = [] if path.exists() else list(filter(is_pseudonym, predicted_in(output)))
    if under_another:
        raise BadInputError(
            f"{path}: there is no such key file, and {output} has {counted(len(under_another), 'prediction')} under "
            "the pseudonyms of another one. Give that key file, or another folder."
        )
    return Pseudonyms.open(path, [output])


def _under_pseudonyms(scans: Sequence[Scan], keys: Pseudonyms, formats: Sequence[str]) -> list[Scan]:
    """Scans by their pseudonyms; raises UsageError for formats that say whose they are."""
    named = [name for name in formats if name in FORMATS and FORMATS[name].of_series]
    if named:
        raise UsageError(
            f"--format {', '.join(named)} says whose scan it is, as DICOM asks for, and does not go with --pseudonyms. "
            "Give nifti or seg-nrrd."
        )
    keys.remember(scan.name for scan in scans)
    for scan in scans:
        images = scan.series.sources if scan.series else ()
        keys.hidden_names.add_names(dict.fromkeys((part for path in images for part in path.parts[-3:]), "…"))
        keys.hidden_names.add_names({scan.path.name: keys.of(scan.name)})
    return sorted((replace(scan, name=keys.of(scan.name), has_pseudonym=True) for scan in scans), key=lambda s: s.name)


def _task(scan: Scan, files: PredictionFiles) -> Task:
    name = scan.name if scan.has_pseudonym else scan.path.name or scan.name
    segment = partial(_segment, scan, name)
    return Task(files, name, scan.sha256, segment, scan.series, scan.placement, in_use=scan.in_use)


def _segment(scan: Scan, name: str, predictor: Predictor, maps: ConfidenceMaps) -> Segmented:
    volume = scan.read()
    doubt = no_hu(hu_facts(volume.hu))
    if doubt is not None:
        what = "%s: its values do not look like HU (%s; expected: %s). If they are not, the label map means nothing."
        log.warning(what, name, *doubt[1:])
    view = predictor.view(volume)
    is_much = view.own_bytes > _BESIDE_BYTES
    if is_much:  # reading it again takes seconds, and the network minutes then
        del volume
    found = predictor.segment_view(view, maps.begun(view.geometry))
    del view
    if is_much:
        volume = scan.read(again=True)
    facts = organ_facts(volume, found.label_map, predictor.classes, found.confidence, found.entropy)
    return found.label_map, facts, found.unlike


def _check_output(output: Path, scans: Sequence[Scan], formats: Sequence[str], *, is_file: bool) -> None:
    if is_file and len(scans) > 1:
        raise BadInputError(f"{output}: one file for {len(scans)} scans. Give a folder.")
    if is_file and output.name.lower() in ENDINGS[formats[0]]:
        raise BadInputError(f"{output}: this is an ending alone. Give a name before it.")
    if is_file and output.is_dir():
        raise BadInputError(f"{output}: this is a folder. Give a name for a file in it, or another folder.")
    if not is_file and is_occupied(output) and not output.is_dir():
        raise BadInputError(f"{output}: this is a file. Give a folder, or a name that ends in .nii.gz.")
    no_dicom = [scan.path for scan in scans if scan.series is None]
    of_series = [name for name in formats if name in FORMATS and FORMATS[name].of_series]
    if no_dicom and of_series:
        raise BadInputError(
            f"{no_dicom[0]}: not a DICOM series, which {', '.join(of_series)} needs. Give the series itself, or "
            "--format nifti or seg-nrrd."
        )


def _refuse_maps_of_a_rule(run: Path, predictor: Predictor, formats: Sequence[str]) -> None:
    maps = [name for name in formats if name in MAPS]
    if maps and predictor.combination is not None:
        raise BadInputError(
            f"{run}: several models as one, each organ from its own (`viscera study --fuse`), so that there is no one "
            f"probability of each class; --format {', '.join(maps)} needs one model, or a folder of runs whose mean is "
            "taken."
        )


def _refuse_collisions(tasks: Sequence[Task], scans: Sequence[Scan]) -> None:
    by_output: dict[Path, str] = {}
    sources = (path for scan in scans for path in (scan.path, *(scan.series.sources if scan.series else ())))
    inputs = {os.path.realpath(path) for path in sources}  # which, unlike Path.resolve, lets links in a circle pass
    for task in tasks:
        replaced = [path for path in task.files.outputs if os.path.realpath(path) in inputs]
        if replaced:
            raise BadInputError(f"{replaced[0]}: the label map would replace a scan. Give another name or folder.")
        main = task.files.main
        if main in by_output:
            both = f"{by_output[main]} and {task.input_name}"
            raise BadInputError(f"{both} would both become {main.name}. Rename one of them.")
        by_output[main] = task.input_name
