"""What a section of the report is, and how the page is made from a list of them.

A section is added by one file here, one template of its anchor's name, and its place in `report_stage.SECTIONS`. The
file knows the numbers, the template the sentences that only the page says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import isnan
from typing import Any, NamedTuple, TypeVar

import pandas as pd

import viscera
from viscera.core.arms import weighting_name
from viscera.core.wording import counted
from viscera.drawing.canvas import page_environment
from viscera.io.runlog import RunStatus
from viscera.study.analysis_plan import AnalysisPlan
from viscera.study.rate_range import RateRange
from viscera.study.report.page_scripts import scripts_of
from viscera.study.results import Scene, StudyResult, signed

T = TypeVar("T")
PHANTOM = " (phantom)"


@dataclass(frozen=True, eq=False)
class Report:
    """What was read of a study; the sections make everything else from it."""

    study: StudyResult  # numbers and curves
    scene: Scene | None = None  # the case of Figures 2-4; None where its scan or reference is not available
    problems: Sequence[str] = ()  # what could not be read or shown, in sentences
    rate_ranges: Sequence[RateRange] = ()  # learning-rate range tests, where some were made
    plan: AnalysisPlan | None = None  # from before the first run; None where there is none
    plan_unchanged: bool = False  # whether its hash is that of its content
    plan_is_damaged: bool = False  # it is there, and cannot be read
    test_sha256: str = ""  # of the test cases as the store holds them now; empty where it is not available
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def grid(self) -> str:
        """The primary grid, whose scores count; empty where nothing is scored."""
        return next(iter(self.study.grids), "")

    @property
    def has_added_runs(self) -> bool:
        """Whether arms, seeds or iterations were added to what was planned, perhaps because of what was seen."""
        if self.plan is None:
            return False
        arms, seeds = {arm.name for arm in self.study.arms}, set(self.study.record.config.study.seeds)
        unplanned = arms.difference(self.plan.arms) or seeds.difference(self.plan.seeds)
        return bool(unplanned) or self.study.record.all_stages[-1] != self.plan.iterations

    @property
    def of_phantom(self) -> str:
        """What ends the heading of all that is copied out of the page, where the data are procedural."""
        return PHANTOM if self.study.phantom else ""

    def once(self, compute: Callable[["Report"], T]) -> T:
        """What a function makes of this report: computed once, however many sections ask for it."""
        if compute not in self._made:
            self._made[compute] = compute(self)
        made: T = self._made[compute]
        return made


class Rows(NamedTuple):
    """A CSV file: its header and its rows."""

    header: Sequence[str]
    rows: Iterable[Sequence[object]]

    @classmethod
    def of_tables(cls, **tables: pd.DataFrame) -> "Rows":
        """One row per cell of tables of classes by arms; four decimals, empty where undefined."""
        first, *_ = tables.values()
        cells = ((name, arm, [table[arm][name] for table in tables.values()]) for name in first.index for arm in first)
        rows = ((name, arm, *("" if isnan(v) else f"{v:.4f}" for v in values)) for name, arm, values in cells)
        return cls(("class", "arm", *tables), rows)


Content = str | bytes | Rows
Text = str | Callable[[Report], str]


class Group(IntEnum):
    """Where on the page a section stands: groups come in this order, and within one as `SECTIONS` lists them."""

    GLANCE = 0  # what is seen first: the finding, the pictures, Table 1
    REASONS = 1  # how it came about
    DETAILS = 2  # folded until it is asked for


@dataclass(frozen=True)
class Section:
    """One section of the page; its template also has `study`, `config`, `organs` and the macros of `kit.html.j2`."""

    anchor: str  # its id in the page, and the name of its template
    title: Text  # in the list of sections; a function where it depends on the study
    values: Callable[[Report], Mapping[str, object] | None]  # what its template shows; None leaves the section out
    files: Callable[[Report], Mapping[str, Content]] = lambda _: {}  # what it writes into `report/`, by path there
    owns: tuple[str, ...] = ()  # patterns of files that it does not write every time: an earlier report's are removed
    group: Group = Group.DETAILS
    heading: Text | None = None  # above its text; None: the title; empty: its template has its own
    brief: Text = ""  # what it comes to, in a few words, beside the heading while it is folded


class Picture(NamedTuple):
    """A picture of the page: address, and text for those who do not see it."""

    uri: str
    alt: str


class Shown(NamedTuple):
    """A section as it stands in the page."""

    group: Group
    anchor: str
    title: str
    heading: str
    brief: str
    text: str  # HTML


def render_page(report: Report, sections: Sequence[Section]) -> str:
    """The HTML, pictures and scripts inside; every text from the data is escaped."""
    environment = page_environment("viscera.study.report")
    study = report.study
    filters = (one_decimal, two_decimals, share, counted, signed, machine, versions)
    environment.filters |= {each.__name__: each for each in filters}
    titles = {arm.name: arm.title for arm in study.arms}
    environment.filters["arm_title"] = lambda name: titles.get(name, name)
    common = {"study": study, "config": study.record.config, "organs": study.classes.organs}
    common["of_phantom"] = report.of_phantom  # on what is copied out of the page
    shown = []
    for section in sorted(sections, key=lambda each: each.group):
        values = section.values(report)
        if values is not None:
            text = environment.get_template(f"{section.anchor}.html.j2").render(**common, **values)
            title = _text(section.title, report)
            heading = title if section.heading is None else _text(section.heading, report)
            brief = _text(section.brief, report)
            shown.append(Shown(section.group, section.anchor, title, heading, brief, text))
    scripts = scripts_of(environment, surfaces="data-surfaces" in "".join(each.text for each in shown))
    page = environment.get_template("index.html.j2")
    weightings = [weighting_name(weighting) for weighting in study.record.config.study.weightings]
    names = {"sections": shown, "groups": Group, "scripts": scripts, "weightings": weightings}
    return page.render(**common, **names, version=viscera.__version__)


def _text(of: Text, report: Report) -> str:
    return of if isinstance(of, str) else of(report)


def one_decimal(value: float | None) -> str:
    """`61.2`; a dash where there is none, or NaN."""
    return "–" if value is None or isnan(value) else f"{value:.1f}".replace("-", "\N{MINUS SIGN}")


def two_decimals(value: float | None) -> str:
    """`0.61`, as of a Dice; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share of 1 for people: `12 %`, `0.4 %`, `<0.01 %`."""
    if value is None:
        return "–"
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %" if percent >= 0.01 else "<0.01 %"


def machine(status: RunStatus) -> str:
    """`cpu: Xeon, 2 threads`."""
    threads = f", {counted(status.threads, 'thread')}" if status.threads else ""
    return f"{status.device}: {status.hardware}{threads}" if status.hardware else status.device


def versions(status: RunStatus) -> str:
    """`viscera 0.2, torch 2.11`."""
    return ", ".join(map(" ".join, status.versions.items()))
