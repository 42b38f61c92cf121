"""What `bench_accuracy` found: collected into results, `RATIO` lines, and the page `docs/results/accuracy.md`."""

import datetime as dt
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from scipy import stats
from tabulate import tabulate

from benchmarks.accuracy_cost import Cost
from benchmarks.accuracy_data import DataSet, piece_folder
from benchmarks.over_seeds import OverSeeds
from benchmarks.record import RESULTS
from viscera.core.errors import BadInputError
from viscera.drawing.canvas import house_style, to_bytes
from viscera.io.files import write_bytes, write_text
from viscera.io.records import read_json, read_yaml, write_json, write_yaml

DOCS = Path(__file__).parents[1] / "docs"
PAGE, IMAGES = DOCS / "results" / "accuracy.md", DOCS / "images"
GOAL = 0.75  # foreground Dice
GROUPS = {  # of RATIO lines: contenders of which the best counts
    "nnunet": ("nnunet", "nnunet-no-mirroring"),
    "nnunet_cut": ("nnunet-cut", "nnunet-cut-no-mirroring"),
    "monai": ("monai", "monai-tutorial-rate"),
}
_QUIET = 1.5  # load of a machine on which nothing else runs
_WORDS = {"nnunet": "nnU-Net, its plan", "nnunet_cut": "nnU-Net, plan cut to our size", "monai": "MONAI"}
_INTRODUCTION = """# Accuracy for CPU time beside nnU-Net and MONAI

From raw data to label maps of unseen cases, on one thread: preparing, training and prediction count. All contenders
have the same training cases and are scored on the same unseen ones, on the scans' own grids; foreground Dice is the
mean over the organs of the mean over cases. Each point is a training of its own whose schedule ends at its budget. The
axis is steps × CPU seconds of a step + what comes before and after, measured in turn in one run, so that trainings
could run beside other work. Ours is the preset `strong` with what `viscera plan --budget` makes of the data and the
machine, a plan for each budget; what planning takes is part of preparing. Intervals are 95 % t intervals of the mean
over seeds; of one seed there is none.

What was set, in the peers' favour: nnU-Net trains on all training cases, without its patches of validation, in short
epochs, so that its own schedule ends at the budget, and has bfloat16 autocast where that is faster, which it does not
have by itself on processors; of predictions with and without averaging over mirrored scans the better counts, whatever
it costs. Its plan is that of its default planner. MONAI's script has the rate 1e-3 instead of the tutorials' 1e-4,
which is meant for days on a GPU, and patches as large as ours. Settings of each are listed below. Where a contender
has less than one step within a budget, it has no point there.

Made by `python -m benchmarks.bench_accuracy` in `.venv-bench` (`make install-bench`); its first lines say how. What is
here comes from `benchmarks/results/accuracy_*.json` alone.
"""


class Point(NamedTuple):
    """One contender within one budget."""

    minutes: float
    seconds: float  # of CPU, as measured
    dice: tuple[float, ...]  # foreground, one a seed
    how: str  # plain or mirrored

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.dice)


class Crossing(NamedTuple):
    """When a curve reaches the goal."""

    seconds: float
    bound: str  # empty: interpolated; `before`: at the first point already; `not_within`: at no point


def curve(results: Mapping[str, Any], key: str) -> list[Point]:
    """Points of a contender by budget: of plain and mirrored predictions those whose mean is higher."""
    points = []
    pieces = [piece for piece in results["pieces"] if piece["contender"] == key and piece["dice"]]
    for minutes in sorted({piece["minutes"] for piece in pieces}):
        here = [piece for piece in pieces if piece["minutes"] == minutes]
        cost = Cost.of(results["cost"]["contenders"][here[0]["costs_like"]])
        steps = round(statistics.fmean(piece["steps"] for piece in here))
        ways = [
            Point(
                minutes,
                cost.seconds(steps, mirrored=how == "mirrored"),
                tuple(piece["dice"][how]["foreground"] for piece in here),
                how,
            )
            for how in here[0]["dice"]
            if all(how in piece["dice"] for piece in here)
        ]
        points.append(max(ways, key=lambda point: point.mean))
    return points


def crossing(points: Sequence[Point], goal: float = GOAL) -> Crossing | None:
    """Interpolated between points, Dice linearly over the logarithm of time; None without points."""
    if not points:
        return None
    ordered = sorted(points, key=lambda point: point.seconds)
    if ordered[0].mean >= goal:
        return Crossing(ordered[0].seconds, "before")
    for low, high in pairwise(ordered):
        if high.mean >= goal:
            share = (goal - low.mean) / (high.mean - low.mean)
            return Crossing(low.seconds * (high.seconds / low.seconds) ** share, "")
    return Crossing(ordered[-1].seconds, "not_within")


def of_group(results: Mapping[str, Any], group: str) -> Crossing | None:
    """Of the contender that reaches the goal first; where none does, what all of them were given."""
    keys = [results["names"][name] for name in GROUPS[group] if name in results["names"]]
    found = [each for key in keys if (each := crossing(curve(results, key)))]
    reached = [each for each in found if each.bound != "not_within"]
    return min(reached or found, key=lambda each: each.seconds, default=None)


def ratio_line(results: Mapping[str, Any], group: str) -> str:
    """`RATIO name=… ours=… peer=… ratio=…` in CPU seconds, or why there is none; `bound=` where a time is a bound."""
    suffix = "" if results["data"]["name"] == "phantom" else f"_{results['data']['name']}"
    name = f"accuracy_time_vs_{group}{suffix}"
    ours, peer = crossing(curve(results, results["names"]["ours"])), of_group(results, group)
    if ours is None or peer is None:
        return f"{name}: there is no point of {'ours' if ours is None else 'the peer'} yet, so there is no ratio."
    both = {"ours": ours, "peer": peer}
    bounds = [f"{who}_{each.bound}_{each.seconds:.4g}_s" for who, each in both.items() if each.bound]
    if {each.bound for each in both.values()} in ({"not_within"}, {"before"}):
        word = "reached" if ours.bound == "before" else "did not reach"
        times = f"ours within {ours.seconds:.4g} CPU s, the peer within {peer.seconds:.4g} CPU s"
        return f"{name}: both {word} a foreground Dice of {GOAL} ({times}), so there is no ratio."
    line = f"RATIO name={name} ours={ours.seconds:.4g} peer={peer.seconds:.4g} ratio={peer.seconds / ours.seconds:.3g}"
    return " ".join([line, *(f"bound={bound}" for bound in bounds)])


# ------------------------------------------------------------------------------------------------------------- collect


def collect(data: DataSet, folder: Path = RESULTS, names: Mapping[str, str] | None = None) -> Path:
    """Write the results of a work folder; `names` are keys of contenders by their names on the command line."""
    pieces = [read_json(path) for path in sorted((data.work / "pieces").glob("*/*/*/piece.json"))]
    cost = read_json(data.work / "cost.json")
    plan, named = data.work / "planned.json", dict(names or {})
    planned = read_json(plan) if plan.exists() else {"minutes": [], "seeds": [], "contenders": []}
    done = {(piece["contender"], piece["seed"], piece["minutes"]) for piece in pieces}
    missing = [
        [name, seed, minutes]
        for name in planned["contenders"]
        for minutes in planned["minutes"]
        for seed in planned["seeds"]
        if (named.get(name, name), seed, minutes) not in done
    ]
    plain = [
        f"{piece['title']}, {piece['minutes']:g} min seed {piece['seed']}"
        for piece in pieces
        if piece["mirrors"] and piece["steps"] and "mirrored" not in piece["dice"]
    ]
    told: dict[str, Any] = {"name": data.name, "description": data.description}
    told |= {"training": len(data.training), "unseen": len(data.unseen), "classes": list(data.classes)}
    content = {
        "data": told,
        "names": named,
        "cost": cost,
        "plans": {path.name: read_yaml(path) for path in sorted((data.work / "plans").glob("*.yaml"))},
        "pieces": pieces,
        "missing": missing,
        "without_mirrored": plain,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
    }
    path = folder / f"accuracy_{data.name}.json"
    write_json(path, content)
    return path


def take_up(data: DataSet, folder: Path = RESULTS) -> int:
    """Let a work folder go on from the costs and points that were collected elsewhere; the number of points taken.

    Their models are not there: what is still to be predicted with one of them is trained again. Raises BadInputError
    where they are of other data, or where other costs were measured in the work folder.
    """
    content = read_json(folder / f"accuracy_{data.name}.json")
    here = {"description": data.description, "training": len(data.training), "unseen": len(data.unseen)}
    if {key: content["data"][key] for key in here} != here:
        raise BadInputError(f"{data.work}: its data are not those of {folder / f'accuracy_{data.name}.json'}.")
    cost = data.work / "cost.json"
    if cost.exists() and read_json(cost) != content["cost"]:
        raise BadInputError(f"{cost}: other costs than those that were collected. Begin with an empty folder.")
    write_json(cost, content["cost"])
    for name, plan in content.get("plans", {}).items():
        (data.work / "plans").mkdir(exist_ok=True)
        write_yaml(data.work / "plans" / name, plan)
    taken = 0
    for piece in content["pieces"]:
        path = piece_folder(data.work, piece["contender"], piece["seed"], piece["minutes"]) / "piece.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, piece)
            taken += 1
    return taken


# ---------------------------------------------------------------------------------------------------------------- page


def write_page(results: Path = RESULTS, page_path: Path = PAGE, images: Path = IMAGES) -> None:
    """Print the `RATIO` lines, draw the curves, and write the page."""
    found = [read_json(path) for path in sorted(results.glob("accuracy_*.json"))]
    for each in found:
        for group in GROUPS:
            print(ratio_line(each, group))
        write_bytes(images / f"accuracy_{each['data']['name']}.svg", to_bytes(drawn(each), "svg"))
    write_text(page_path, page(found))
    print(page_path)


def page(found: Iterable[Mapping[str, Any]]) -> str:
    """The whole page, from the results of each data set."""
    sections = [_section(results) for results in found]
    return "\n".join([_INTRODUCTION, *(sections or ["Nothing is measured yet.\n"])])


def _section(results: Mapping[str, Any]) -> str:
    data, titles = results["data"], _titles(results)
    minutes = sorted({*(piece["minutes"] for piece in results["pieces"]), *(m for _, _, m in results["missing"])})
    heads = [f"{m:g} min" for m in minutes]
    curves = {key: {point.minutes: point for point in curve(results, key)} for key in titles}
    rows = [[title, *(_cell(curves[key].get(m)) for m in minutes)] for key, title in titles.items()]
    ratios = [f"    {ratio_line(results, group)}" for group in GROUPS]
    numbers = f"{data['training']} training cases, {data['unseen']} unseen ones, {len(data['classes']) - 1} organs"
    told = f"{data['description']}: {numbers}."
    parts = [
        f"## {data['name']}",
        "",
        told,
        "",
        f"![Foreground Dice against CPU seconds](../images/accuracy_{data['name']}.svg)",
        "",
        "Foreground Dice by budget of CPU time: mean, interval, number of seeds; m: averaged over mirrored scans.",
        "",
        _table(["contender", *heads], rows),
        "",
        f"CPU seconds until a foreground Dice of {GOAL}; of a peer's variants the first to reach it counts:",
        "",
        *ratios,
        "",
        "Dice of ours minus that of the best variant of a peer, and a 95 % interval (Welch) where both have two seeds:",
        "",
        _table(["beside", *heads], [[_WORDS[group], *_gaps(results, group, minutes)] for group in GROUPS]),
        "",
        *_costs(results, minutes),
        *_missing(results),
    ]
    return "\n".join(parts)


def _titles(results: Mapping[str, Any]) -> dict[str, str]:
    of_names = set(results["names"].values())
    found = {key: values["title"] for key, values in results["cost"]["contenders"].items() if key in of_names}
    found |= {piece["contender"]: piece["title"] for piece in results["pieces"]}
    return dict(sorted(found.items(), key=lambda pair: (not pair[0].startswith("ours"), pair[0])))


def _cell(point: Point | None) -> str:
    if point is None:
        return "–"
    mark = " m" if point.how == "mirrored" else ""
    number = len(point.dice)
    if number == 1:
        return f"{point.mean:.3f} (1){mark}"
    return f"{point.mean:.3f} ± {OverSeeds.of(point.dice).half:.3f} ({number}){mark}"


def _gaps(results: Mapping[str, Any], group: str, minutes: Sequence[float]) -> list[str]:
    ours = {point.minutes: point for point in curve(results, results["names"]["ours"])}
    keys = [results["names"][name] for name in GROUPS[group] if name in results["names"]]
    peers = [{point.minutes: point for point in curve(results, key)} for key in keys]
    cells = []
    for m in minutes:
        best = max((peer[m] for peer in peers if m in peer), key=lambda point: point.mean, default=None)
        if best is None or m not in ours:
            cells.append("–")
            continue
        gap = ours[m].mean - best.mean
        if min(len(ours[m].dice), len(best.dice)) == 1:
            cells.append(f"{gap:+.3f}")
        else:
            interval = stats.ttest_ind(ours[m].dice, best.dice, equal_var=False).confidence_interval(0.95)
            cells.append(f"{gap:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})")
    return cells


def _costs(results: Mapping[str, Any], minutes: Sequence[float]) -> list[str]:
    rows, lines = [], []
    for key, values in results["cost"]["contenders"].items():
        cost = Cost.of(values)
        mirrored = "–" if cost.mirrored_s is None else f"{cost.mirrored_s:.3g}"
        times = [f"{x:.3g}" for x in (cost.prepare_s, cost.overhead_s, cost.step_s, cost.predict_s)]
        steps = [str(cost.steps_within(m)) for m in minutes]
        rows.append([values["title"], *times, mirrored, str(cost.fast), *steps])
        told = "; ".join(
            f"{_TITLES.get(name, name.replace('_', ' '))}: {_words(value)}"
            for name, value in values["settings"].items()
        )
        tried = "; ".join(f"{name} {value:.3g} s" for name, value in values["step_s_by_setting"].items())
        lines.append(
            f"- {values['title']} (`{key}`): {told}."
            + f" A step, when tried: {tried}." * (len(values["step_s_by_setting"]) > 1)
        )
    heads = ["contender", "prepare", "beside steps", "step", "predict", "mirrored", "number format"]
    record = results["cost"]
    load = "/".join(map(str, record["load_of_the_machine"]))
    whens = sorted({values["measured"] for values in record["contenders"].values()})
    packages = ", ".join(f"{package} {number}" for package, number in record["versions"].items())
    return [
        "CPU seconds (medians of the repeats; prediction is of all unseen cases), and steps within each budget:",
        "",
        _table([*heads, *(f"{m:g} min" for m in minutes)], rows),
        "",
        f"{record['hardware']}, {record['threads']} thread, load of the machine {load}; {packages}.",
        "Measured " + ("in one run" if len(whens) == 1 else "in several runs") + f", {', '.join(whens)} (UTC).",
        *_again(record["load_of_the_machine"], whens),
        "",
        *lines,
        "",
    ]


def _again(load: Sequence[float], whens: Sequence[str]) -> list[str]:
    """Why costs are not to be relied on, if they are not."""
    if max(load) <= _QUIET and len(whens) == 1:
        return []
    return [
        "**To be measured again, in one run with nothing beside it** (`bench_accuracy cost`): other work ran on the",
        "machine, which makes steps dearer, and not all of them alike.",
    ]


def _missing(results: Mapping[str, Any]) -> list[str]:
    missing, plain, lines = results["missing"], results["without_mirrored"], []
    seeds: dict[str, dict[float, list[str]]] = {}
    for name, seed, minutes in missing:
        seeds.setdefault(name, {}).setdefault(minutes, []).append(str(seed))
    told = "; ".join(
        f"{name}: " + ", ".join(f"{m:g} min (seeds {', '.join(each)})" for m, each in by_minutes.items())
        for name, by_minutes in seeds.items()
    )
    if missing:
        lines += [f"**Not measured yet** ({len(missing)} points): {told}.", ""]
    if plain:
        lines += [f"**Not averaged over mirrored scans yet**: {'; '.join(plain)}.", ""]
    if lines:
        lines += ["`python -m benchmarks.bench_accuracy all --work FOLDER` does what is missing.", ""]
    return lines


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return str(tabulate(rows, heads, tablefmt="pipe", disable_numparse=True))


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and isinstance(value[0], str) else str(value)


_TITLES = {"window": "patch", "windows_a_step": "patches per step"}  # as of settings in the results


def drawn(results: Mapping[str, Any]) -> Figure:
    """The curves: Dice against CPU seconds, a point each seed, a line through the means."""
    with house_style():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for key, title in _titles(results).items():
            points = curve(results, key)
            if not points:
                continue
            ours = key.startswith("ours")
            width = 2.2 if ours else 1.2
            (line,) = axes.plot(
                [p.seconds for p in points],
                [p.mean for p in points],
                "o-",
                label=title,
                lw=width,
                ms=3,
                zorder=2 + ours,
            )
            for p in points:
                axes.plot([p.seconds] * len(p.dice), p.dice, ".", color=line.get_color(), ms=4, alpha=0.6)
        axes.axhline(GOAL, color="#9aa3af", lw=0.8, ls="--")
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.set_xlabel("CPU seconds from raw data to label maps of unseen cases, one thread")
        axes.set_ylabel("foreground Dice of unseen cases")
        if axes.lines[1:]:
            axes.legend(fontsize=7, loc="upper left")
    return figure
