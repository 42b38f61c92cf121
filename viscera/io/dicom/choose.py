"""Which series of a folder is the scan."""

from collections.abc import Sequence

from viscera.core.errors import BadInputError
from viscera.io.dicom.series import Series

_LIKE_SIZE = 0.5  # of the largest
_NAMED = 5
_HOW = "Name one with --series UID (in Python: series=UID)"


def choose_series(found: Sequence[Series], origin: object, uid: str | None = None) -> Series:
    """The series with this UID, or description; or else the CT with most images.

    Args:
        found: what `find_series` found.
        origin: where, for messages.
        uid: of the wanted series; or its description, since anonymisation may leave no UID.

    Raises:
        BadInputError: no such series; none that is a CT scan; several with as many images; scans of several patients
            of like size (more than half as many images); the chosen one has a problem.
    """
    chosen = _by_uid(found, origin, uid) if uid is not None else _by_rule(found, origin)
    if chosen.geometry is None:
        others = [series for series in found if not series.passed_over and series is not chosen]
        instead = f", or name another series with --series UID: {_listed(others)}" if uid is None and others else ""
        raise BadInputError(f"{origin}: series {chosen.title}: {chosen.problem}{instead}.")
    return chosen


def _by_uid(found: Sequence[Series], origin: object, uid: str) -> Series:
    named = [series for series in found if series.uid == uid] or [s for s in found if s.description == uid]
    if not uid or not named:
        raise BadInputError(f"{origin}: there is no series {uid!r}. There are {_listed(found) or 'none'}.")
    readable = [series for series in named if series.geometry is not None]
    scans = [series for series in readable if not series.passed_over] or readable or named
    if len(scans) > 1:
        raise BadInputError(
            f"{origin}: {len(scans)} series are called {uid}: {_listed(scans)}. Put each into a folder of its own."
        )
    return scans[0]


def _by_rule(found: Sequence[Series], origin: object) -> Series:
    scans = [series for series in found if not series.passed_over]
    if not scans:
        reasons = "; ".join(f"{s.title}: {s.passed_over}" if s.uid else s.passed_over for s in found[:_NAMED])
        or_name = f" {_HOW}, or give" if any(s.geometry is not None for s in found) else " Give"
        raise BadInputError(
            f"{origin}: there is no CT scan in it ({reasons}).{or_name} the folder of one."
            if found
            else f"{origin}: there is no DICOM image in it. Give the folder of a CT series, or a NIfTI file."
        )
    chosen = max(scans, key=lambda series: series.number_of_images)
    rivals = [s for s in scans if s is not chosen]
    as_large = [s for s in rivals if s.number_of_images == chosen.number_of_images]
    if as_large:
        raise BadInputError(f"{origin}: several scans have as many images: {_listed([chosen, *as_large])}. {_HOW}.")
    others = [
        s
        for s in rivals
        if s.patient_id != chosen.patient_id and s.number_of_images > _LIKE_SIZE * chosen.number_of_images
    ]
    if others:
        raise BadInputError(f"{origin}: scans of several patients: {_listed([chosen, *others])}. {_HOW}.")
    return chosen


def _listed(series: Sequence[Series]) -> str:
    more = f" and {len(series) - _NAMED} more" if len(series) > _NAMED else ""
    return ", ".join(each.title for each in series[:_NAMED]) + more
