"""`viscera report`: from a Study to `report/`: the page, Table 1 and the figures."""

from pathlib import Path

from viscera.core.progress import OnProgress, Progress, unseen
from viscera.io.files import write_bytes, write_text
from viscera.io.records import write_csv
from viscera.study.report.claims_section import CLAIMS_SECTION
from viscera.study.report.comparisons_section import COMPARISONS
from viscera.study.report.curves_section import FIGURE1, RATES
from viscera.study.report.fusion_section import FUSED_SECTION
from viscera.study.report.gradients_section import GRADIENTS
from viscera.study.report.iterations_section import ITERATIONS
from viscera.study.report.page_section import Content, Rows, Section, render_page
from viscera.study.report.segmentations_section import SEGMENTATIONS
from viscera.study.report.study_reader import read_report
from viscera.study.report.summary_section import COST, GAP, SETTINGS, SUMMARY
from viscera.study.report.table1_section import TABLE1
from viscera.study.report.trust_section import TRUST

SECTIONS: tuple[Section, ...] = (
    SUMMARY,
    TABLE1,
    COMPARISONS,
    CLAIMS_SECTION,
    FIGURE1,
    GRADIENTS,
    RATES,
    GAP,
    TRUST,
    ITERATIONS,
    FUSED_SECTION,
    SEGMENTATIONS,
    COST,
    SETTINGS,
)


def make_report(study: Path, progress: OnProgress = unseen) -> Path:
    """Write `report/` of a Study: whatever is there is shown, whatever is missing is said.

    Args:
        study: a Study, finished or not; nothing but its `report/` is written.
        progress: called before each part, and at the end.

    Returns:
        `STUDY/report/index.html`; beside it `table1.{csv,md,tex}` and `table1_intervals.csv` (and `table1_prepared*`
        where both grids are scored), `comparisons.csv` and `claims.csv` on the primary grid, `beside_paper.csv` and
        `rank_correlation.csv` where the study has three of the paper's six models or more, and `figures/`. The last
        three are left out where the classes are not the paper's.

    Raises:
        BadInputError: no Study there, or its folder cannot be written to.
    """
    progress(Progress("report", 0, 3, "reading"))
    report = read_report(study)
    progress(Progress("report", 1, 3, "page"))
    page = render_page(report, SECTIONS)
    progress(Progress("report", 2, 3, "tables and figures"))
    files = {name: content for section in SECTIONS for name, content in section.files(report).items()}
    folder = study / "report"
    for name, content in files.items():
        _write(folder / name, content)
    for pattern in (pattern for section in SECTIONS for pattern in section.owns):
        for path in folder.glob(pattern):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
    write_text(folder / "index.html", page)
    progress(Progress("report", 3, 3))
    return folder / "index.html"


def _write(path: Path, content: Content) -> None:
    if isinstance(content, Rows):
        write_csv(path, content.header, content.rows)
    elif isinstance(content, str):
        write_text(path, content)
    else:
        write_bytes(path, content)
