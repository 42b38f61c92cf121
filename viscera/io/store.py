"""The Store: prepared cases as memory-mapped arrays, and a manifest that says everything about them.

manifest.json                    format version, classes, settings, cases
cases/NAME/image.npy             int16 HU (I, J, K), canonical axes, prepared grid
cases/NAME/labels.npy            uint8 on the same grid; 255 where nobody labelled the voxel
cases/NAME/labels_original.nii.gz  the labels on the scan's own grid
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable, LabelNumbers
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError, RunFailedError, first_line, refuse_unknown
from viscera.core.geometry import Geometry, size_text
from viscera.core.machine_errors import lacking
from viscera.core.processes import in_threads
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.core.shape_hints import given_path
from viscera.core.suggestions import did_you_mean
from viscera.core.wording import counted
from viscera.io.disk.folder_lock import TURN_S, exclusive
from viscera.io.files import is_occupied, sha256, write_text
from viscera.io.format_versions import refuse_newer
from viscera.io.manifest import FORMAT_VERSIONS, CaseRecord, Manifest, Split
from viscera.io.nifti import read_labels
from viscera.io.prepared_case import PreparedCase, write_case
from viscera.io.records import read_sealed, validated
from viscera.io.seals import KEY, Seal, damaged, sealed_json

_MANIFEST_SHARE = 0.03  # of the time in which cases are added


class Store:
    """A folder of prepared cases. Opening reads the manifest only; arrays are memory-mapped when asked for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.classes = ClassTable.of_names(manifest.classes)
        self._fingerprint: tuple[Manifest | None, str] = None, ""

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(names)} {split}" for split in get_args(Split) if (names := self.names(split)))
        cases = counted(len(self.manifest.cases), "case") + (f": {parts}" if parts else "")
        return f"Store({self.path}, {cases}; {len(self.classes)} classes)"

    @classmethod
    def create(
        cls, path: Path, prepare: PrepareConfig, dataset: str, classes: ClassTable = ABDOMEN, pseudonyms: str = ""
    ) -> "Store":
        """Start an empty store, also in place of another; raises BadInputError where the folder holds anything else."""
        refuse_foreign(path)
        store = cls(path, Manifest(classes=classes.names, prepare=prepare, dataset=dataset, pseudonyms=pseudonyms))
        store._keep({})
        return store

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a store; raises BadInputError for no store there, a damaged manifest, or one of a newer format."""
        path = given_path(path, "the store")
        manifest_path = path / "manifest.json"
        if path.name == manifest_path.name and path.is_file():
            raise BadInputError(f"{path}: this is a file of a store. Give its folder: {path.parent}.")
        if not manifest_path.exists():
            raise BadInputError(
                f"{path}: this is not a store (it has no manifest.json). Make one with `viscera prepare`."
            )
        return cls.of_manifest(path, manifest_path)

    @classmethod
    def of_manifest(cls, path: Path, manifest_path: Path) -> "Store":
        """A store whose manifest lies elsewhere, as that of one whose files are still coming."""
        value, seal = read_sealed(manifest_path)
        version = value.get("format_version") if isinstance(value, dict) else None
        refuse_newer(manifest_path, version, max(FORMAT_VERSIONS))
        if version not in FORMAT_VERSIONS:
            expected = " or ".join(map(str, FORMAT_VERSIONS))
            raise BadInputError(
                f"{manifest_path}: format version {version}, expected {expected}. Prepare the store again."
            )
        if seal is Seal.BROKEN:
            raise damaged(manifest_path, f"key `{KEY}`")
        return cls(path, validated(Manifest, value, manifest_path, "Prepare it again."))

    def refuse_other_classes(self, run: Path, classes: ClassTable) -> None:
        """Raise BadInputError where a run knows other classes than this store has."""
        if classes != self.classes:
            raise BadInputError(
                f"{run}: it was trained on {', '.join(classes.names)}; {self.path} holds "
                f"{', '.join(self.classes.names)}. Give the store that it was trained on."
            )

    @property
    def fingerprint(self) -> str:
        """Twelve digits that differ where settings, cases, split or a file's checksum do."""
        if self._fingerprint[0] is not self.manifest:  # each task of a large store asks for it
            self._fingerprint = self.manifest, hashlib.sha256(self.manifest.text().encode()).hexdigest()[:12]
        return self._fingerprint[1]

    def names(self, split: Split | None = None) -> list[str]:
        """Case names in order, of one split or all; raises BadInputError for a split that there is not."""
        if split is not None:
            refuse_unknown("split", split, get_args(Split))
        return sorted(n for n, record in self.manifest.cases.items() if split is None or record.split == split)

    def record(self, name: str) -> CaseRecord:
        """What the manifest says of a case; BadInputError, as of all that takes a name, where there is no such case."""
        if name not in self.manifest.cases:
            likely = did_you_mean(name, self.manifest.cases)
            raise BadInputError(
                f"{self.path}: there is no case {name!r}; `names()` lists those that there are.{likely}"
            )
        return self.manifest.cases[name]

    def image(self, name: str) -> HuArray:
        """int16 HU (I, J, K), memory-mapped."""
        return self._array(name, "image.npy", np.int16)

    def labels(self, name: str) -> LabelArray:
        """uint8 labels (I, J, K), memory-mapped."""
        return self._array(name, "labels.npy", np.uint8)

    def volume(self, name: str) -> Volume:
        """The prepared scan."""
        hu = self.image(name)
        self._refuse_other_shape(name, hu)
        return Volume(hu, self.geometry(name))

    def label_map(self, name: str) -> LabelMap:
        """The prepared labels."""
        labels = self.labels(name)
        self._refuse_other_shape(name, labels)
        return LabelMap(labels, self.geometry(name), self.classes)

    def original_labels_path(self, name: str) -> Path:
        """The file of the labels on the scan's own grid."""
        self.record(name)
        return self.path / "cases" / name / "labels_original.nii.gz"

    def original_labels(self, name: str) -> LabelMap:
        """The labels on the scan's own grid."""
        return read_labels(self.original_labels_path(name), self.original_numbers, classes=self.classes)

    @property
    def original_numbers(self) -> LabelNumbers:
        """What the numbers mean in the labels on the scans' own grids."""
        return LabelNumbers({label: label for label in range(len(self.classes))}, ignored=IGNORED)

    def geometry(self, name: str) -> Geometry:
        """The prepared grid."""
        return self.record(name).prepared.geometry

    def original_geometry(self, name: str) -> Geometry:
        """The scan's own grid."""
        return self.record(name).original.geometry

    def voxel_counts(self, grid: Literal["prepared", "original"] = "prepared") -> npt.NDArray[np.int64]:
        """(L,) voxels of each class over the training cases: R_l of Eq. 4 and 5.

        Those of an organ are of the cases that label it; those of background of all, what they do not label included.
        Voxels that nobody labelled (`ignore`) are in none.
        """
        refuse_unknown("grid", grid, ("prepared", "original"))
        counts = np.zeros(len(self.classes), dtype=np.int64)
        for record in map(self.manifest.cases.__getitem__, self.names("train")):
            counts += record.voxel_counts_prepared if grid == "prepared" else record.voxel_counts_original
        return counts

    def labelled(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(cases, L) whether each of these cases labels each class."""
        rows = [[c not in self.record(name).unlabelled for c in self.classes.names] for name in names]
        return np.array(rows, dtype=np.bool_).reshape(len(rows), len(self.classes))

    def add(self, case: PreparedCase) -> None:
        """Store one case and say so in the manifest; interrupted at any point, the store is as before or complete.

        A case that is stored again keeps its split: a test case never becomes a training case.
        """
        if case.name in self.manifest.cases:
            self.expect([case.name])
        self._keep({case.name: write_case(self.path, case, self.classes, self.manifest.cases.get(case.name))})

    def expect(self, names: Iterable[str], *, beside_others: bool = False, replaced: bool = True) -> None:
        """Say in the manifest, before, that the files of these cases are `replaced`; or that they are not, after all.

        Until it is told of the new files, nobody takes the one for the other.
        """
        cases, wanted = self.manifest.cases, {"awaited": replaced}
        records = {name: cases[name].model_copy(update=wanted) for name in names if cases[name].awaited != replaced}
        if records:
            self._say(records, beside_others=beside_others)

    @contextmanager
    def adding(self, *, beside_others: bool = False) -> Iterator[Callable[[str, CaseRecord], None]]:
        """What to tell of each of many cases, once `write_case` has written it.

        The manifest, which is written as a whole, then follows at once while that takes at most 3 % of the
        time, else later; and at the end in any case. Cases that a killed process did not come to tell are
        prepared again. Beside other processes that do the same, the store is held and looked at anew each time.
        """
        untold: dict[str, CaseRecord] = {}
        began, spent = time.monotonic(), 0.0

        def tell(name: str, record: CaseRecord) -> None:
            nonlocal spent
            untold[name] = record
            at = time.monotonic()
            if spent <= _MANIFEST_SHARE * (at - began):
                say()
                spent += time.monotonic() - at

        def say() -> None:
            self._say(untold, beside_others=beside_others)
            untold.clear()

        try:
            yield tell
        finally:
            if untold:
                say()

    def _say(self, records: Mapping[str, CaseRecord], *, beside_others: bool) -> None:
        with exclusive(self.path, wait_s=TURN_S) if beside_others else nullcontext():
            if beside_others:
                self.reload()
            self._keep(records)

    def reload(self) -> None:
        """See what other processes have said in the manifest."""
        self.manifest = Store.open(self.path).manifest

    def remove_leftovers(self) -> None:
        """Delete the half-written cases of a process that was killed; only for who holds the store alone."""
        for folder in (self.path / "cases").glob(".????????-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def assign(self, splits: dict[str, Split]) -> None:
        """Write the split of the named cases into the manifest."""
        cases = self.manifest.cases
        self._keep({name: cases[name].model_copy(update={"split": split}) for name, split in splits.items()})

    def assign_folds(self, folds: dict[str, int], number: int) -> None:
        """Write the fold of the named cases into the manifest, and how many there are."""
        prepare, cases = self.manifest.prepare.model_copy(update={"folds": number}), self.manifest.cases
        self.manifest = self.manifest.model_copy(update={"prepare": prepare})
        self._keep({name: cases[name].model_copy(update={"fold": fold}) for name, fold in folds.items()})

    def of_fold(self, fold: int | Literal["all"] | None) -> "Store":
        """The store as a training of a fold sees it: validation is the fold, training all others but the test cases.

        With "all" nothing is validation; None: the store as it is. Raises BadInputError where it has no such fold.
        """
        if fold is None:
            return self
        number = self.manifest.prepare.folds
        if number == 0:
            raise BadInputError(f"{self.path}: this store has no folds. Prepare it again with --folds 5.")
        if fold != "all" and not (isinstance(fold, int) and 0 <= fold < number):
            raise BadInputError(f"{self.path}: there is no fold {fold!r}; 0 to {number - 1}, or all, were expected.")

        def split(record: CaseRecord) -> Split | None:
            if record.fold is None:
                return record.split if record.split == "test" else None
            return "validation" if record.fold == fold else "train"

        cases = {n: record.model_copy(update={"split": split(record)}) for n, record in self.manifest.cases.items()}
        return Store(self.path, self.manifest.model_copy(update={"cases": cases}))

    def verify(self, names: Iterable[str]) -> None:
        """Raise BadInputError where a file of these cases is missing or not as it was written, by its checksum."""

        def verify(name: str) -> None:
            if self.record(name).awaited:
                raise BadInputError(
                    f"{self.path / 'cases' / name}: `viscera prepare` replaces this case, or was stopped while it did. "
                    "Wait for it, or run it again."
                )
            for file, expected in self.manifest.cases[name].sha256.items():
                path = self.path / "cases" / name / file
                if not path.is_file() or sha256(path) != expected:
                    raise BadInputError(
                        f"{path}: {'changed since it was written' if path.exists() else 'missing'}. "
                        f"Delete {path.parent} and run `viscera prepare` again to restore the case."
                    )

        for _ in in_threads(verify, names):  # hashing leaves the interpreter to others
            pass

    def _array(self, name: str, file: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        self.record(name)
        path = self.path / "cases" / name / file
        try:
            array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            array = np.asarray(array)  # of which windows are cut faster
        except Exception as error:  # a header that is no Python makes NumPy raise almost anything
            if too_little := lacking(error):
                raise RunFailedError(f"{path}: {too_little}") from error
            raise BadInputError(
                f"{path}: missing or damaged ({first_line(error)}). Run `viscera prepare` again."
            ) from error
        if array.dtype != dtype or array.ndim != 3:
            why = f"{array.dtype} of shape {array.shape}; {np.dtype(dtype)} of three axes was expected"
            raise BadInputError(f"{path}: damaged ({why}). Run `viscera prepare` again.")
        return array

    def _refuse_other_shape(self, name: str, array: npt.NDArray[Any]) -> None:
        if array.shape != (shape := self.record(name).prepared.shape):
            raise BadInputError(
                f"{self.path}: {name} has {size_text(array.shape)} voxels, and {size_text(shape)} by the manifest. Run "
                "`viscera prepare` again."
            )

    def _keep(self, records: Mapping[str, CaseRecord]) -> None:
        """Write the manifest, with these cases in place of what it said of them."""
        self.manifest = self.manifest.with_cases({**self.manifest.cases, **records})  # in whichever order prepared
        write_text(self.path / "manifest.json", sealed_json(self.manifest.text()))


def refuse_foreign(path: Path) -> None:
    """Raise BadInputError where a folder holds something that is not a store."""
    if is_occupied(path) and not (path / "manifest.json").exists():
        raise BadInputError(f"{path}: exists and is not a store. Choose an empty or new folder.")
