"""The page of all pairs, from the files of results: `docs/results/speed.md`.

    python -m benchmarks.speed_page

`make bench` measures and then writes it. A goal that was not reached is said, with how far we got and what bounds it,
as far as it is known; what has no peer, or was not measured, stands below the pairs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.record import RESULTS
from viscera.core.wording import counted
from viscera.io.files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "results" / "speed.md"
_HEADER = ["pair", "ours", "peer", "ratio", "goal", "reached", "the peer's settings"]
_BOUNDS_HEADER = ["what", "measured", "at most", "reached"]
_REASONS = {  # that no figure says, by a part of the goal's name
    "256_lost_pieces": "Elements far from the other surface: each looks around until a search tree costs less "
    "([decision 0016](../decisions/0016-surface-distances.md))",
    "256_specks": "Likewise: every speck has a surface of its own",
    "slices over that of": "Large patches share as many voxels whatever their number, so more of them compute more "
    "([decision 0023](../decisions/0023-large-patches.md))",
}
_NO_GPU = "Nothing was measured on one: no goal for them is reached or missed. `make gpu` measures."
_INTRODUCTION = """# Speed and memory beside the peers

Ours and the peer's do the same work on the same input in one run, in turn, some repeats each; the ratio is that of the
medians (beside an earlier commit the median of those of each pair), the peer's over ours: **above 1 ours is better**.
The peer runs at the fastest of the settings that were tried.
PyTorch gets large pages for both (`THP_MEM_ALLOC_ENABLE=1`), as the command `viscera` asks for.
Figures of one kind of processor say little of another, and those of shared machines scatter by a tenth or more.
Everything here is made by `make bench` (`make install-bench` first), the page itself by
`python -m benchmarks.speed_page`; repeats, slower settings and load stand in `benchmarks/results/`. With `--quick` each
`python -m benchmarks.bench_NAME` does less, in under a minute, and leaves these figures as they are. Images are
phantoms or random numbers, which a speed does not depend on, unless a line says otherwise.
"""


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The results of pairs, and of goals without a peer, in the folder of one kind of processor."""
    found = ({"pairs": {}} | json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return [each for each in found if each["pairs"] or _bounds(each) or _of_dice(each)]


def page(results: Path) -> str:
    """The whole page, from the folder of results."""
    kinds = {folder.name: results_of(folder) for folder in sorted(results.iterdir()) if folder.is_dir()}
    elsewhere = {
        name: f"On {kind}: {pair['what_bounds_it']}"
        for kind, found in kinds.items()
        for content in found
        for name, pair in content["pairs"].items()
        if "what_bounds_it" in pair
    }
    parts = [_INTRODUCTION, *(_kind(kind, found, elsewhere) for kind, found in kinds.items() if found)]
    if not any(found for kind, found in kinds.items() if kind.startswith("nvidia")):
        parts += [f"## GPUs\n\n{_NO_GPU}\n"]
    return "\n".join(parts)


def _kind(kind: str, found: list[dict[str, Any]], elsewhere: Mapping[str, str]) -> str:
    rows = [_row(name, pair) for content in found for name, pair in content["pairs"].items()]
    lines = [f"## {kind}", "", tabulate(rows, _HEADER, tablefmt="pipe", disable_numparse=True), ""]
    if bounds := [row for content in found for row in _bounds(content)]:
        table = tabulate(bounds, _BOUNDS_HEADER, tablefmt="pipe", disable_numparse=True)
        lines += ["### Goals without a peer", "", table, ""]
    if of_dice := [line for content in found for line in _of_dice(content)]:
        lines += ["### Dice after training in bfloat16", "", *of_dice, ""]
    if published := [line for content in found for line in _published(content)]:
        lines += ["### Published by others, not measured here", "", *published, ""]
    if missed := [line for content in found for line in _missed(content, elsewhere)]:
        lines += ["### Goals that were not reached", "", *missed, ""]
    lines += ["### How it was measured", ""]
    for content in found:
        packages = ", ".join(f"{package} {number}" for package, number in content["versions"].items())
        threads = counted(content["threads"], "thread")
        lines += [f"`{content['command']}`, {content['date']}: {content['hardware']}, {threads}; {packages}."]
        if content.get("complete") is False:
            lines += ["- **Cut off**: what comes after these pairs was not measured."]
        lines += [f"- {text}" for text in _sentences(content)] + [""]
    return "\n".join(lines)


def _bounds(content: dict[str, Any]) -> list[list[str]]:
    """Rows of `_BOUNDS_HEADER`: figures of which a benchmark says how large they may be."""
    found = list[tuple[str, float, float, str]]()
    for name, note in content.items():
        if name == "share_of_step":
            found.append(("waiting for data, share of a training step", note["share"], note["bar"], ""))
        elif name.startswith("allreduce_"):
            what = f"all-reduce of two processes, {name.removeprefix('allreduce_')} batches, share of a step"
            found.append((what, note["share"], note["goal"], ""))
        elif name == "twice_the_slices":
            few, many = note["slices"]
            what = f"processor time of {many} slices over that of {few}: {note['of']}"
            found.append((what, note["times_the_cpu_time"], note["goal"], ""))
        elif name == "suite":
            what = f"processor time of `make test`, {note['passed']:,} tests"
            found.append((what, note["processor_min"], note["goal_min"], " min"))
        elif isinstance(note, dict) and "goal_gib" in note:
            ways = {way: each for way, each in note.items() if isinstance(each, dict) and "peak_gib" in each}
            for way, each in ways.items():
                found.append((f"peak memory, {name}, {way}", each["peak_gib"], note["goal_gib"], " GiB"))
    return [
        [what, f"{value:.3g}{unit}", f"{most:g}{unit}", "yes" if value <= most else "**no**"]
        for what, value, most, unit in found
    ]


def _of_dice(content: dict[str, Any]) -> list[str]:
    """What the number format changes of Dice, beside what the seed does (`bench_precision`)."""
    compared = {name: each for name, each in content.items() if isinstance(each, dict) and "within_seed_noise" in each}
    return [
        f"- {name} weights, {counted(len(content['seeds']), 'seed')}: {each['mean']['bfloat16']:.3f}, in float32 "
        f"{each['mean']['float32']:.3f}; difference {each['difference']:+.3f}, standard error "
        f"{each['standard_error']:.3f}, {'within' if each['within_seed_noise'] else '**beyond**'} the noise of seeds. "
        f"{_sentence(content['data'])}."
        for name, each in compared.items()
    ]


def _published(content: dict[str, Any]) -> list[str]:
    lines = []
    for name, each in content.get("published_not_measured_here", {}).items():
        memory = each["memory_gb"]
        told = [f"{' to '.join(map(str, memory)) if isinstance(memory, list) else memory} GB"]
        told += [f"{way} {seconds} s of the processor" for way, seconds in each.get("cpu_s", {}).items()]
        told += [each["of"]] if "of" in each else []
        lines.append(f"- {name}: {'; '.join(told)} ({each['source']}).")
    return lines


def _missed(content: dict[str, Any], elsewhere: Mapping[str, str]) -> list[str]:
    """A line for each goal that was not reached: how far we got, and what bounds it."""
    lines = [
        f"- `{name}`: {pair['ratio']:.3g} of {pair['goal']:g}. {_what_bounds(name, content, elsewhere)}."
        for name, pair in content["pairs"].items()
        if pair["ratio"] < pair["goal"]
    ]
    for what, value, most, reached in _bounds(content):
        if reached != "yes":
            lines.append(f"- {what}: {value}, and at most {most} was the goal. {_reason(what)}.")
    return lines


def _what_bounds(name: str, content: dict[str, Any], elsewhere: Mapping[str, str]) -> str:
    """What a benchmark says of this pair, or what follows from its figures, or what it said on another machine."""
    pair = content["pairs"][name]
    clock = content["pairs"].get(name.replace("_processor", "_clock"), pair)
    if "what_bounds_it" in pair or "what_bounds_it" in clock:
        return _sentence(pair.get("what_bounds_it") or clock["what_bounds_it"])
    if pair["unit"] == "GiB" and "what_bounds_memory" in content:
        return _sentence(content["what_bounds_memory"])
    if isinstance(content.get("bound"), dict):
        what, least = content["bound"]["what"], content["bound"]["seconds"]
        return _sentence(f"{what} takes {least:.3g} s, so that {pair['peer'] / least:.2g} is the most")
    if "windows" in pair:
        windows, of_one = pair["windows"], -(-pair["windows"] // 2)
        most = windows / 2 / of_one
        return f"Of {windows} patches one of two processes has {of_one}, so that {most:.2g} is the most"
    return elsewhere.get(name) or _reason(name)


def _reason(name: str) -> str:
    return next((why for of, why in _REASONS.items() if of in name), "What bounds it was not measured")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _row(name: str, pair: dict[str, Any]) -> list[str]:
    reached = "yes" if pair["ratio"] >= pair["goal"] else "**no**"
    figures = [f"{pair[side]:.3g} {pair['unit']}" for side in ("ours", "peer")]
    return [name, *figures, f"{pair['ratio']:.2f}", f"{pair['goal']:g}", reached, pair["peer_settings"]]


def _sentences(content: dict[str, Any]) -> list[str]:
    """What a benchmark says in words: notes that are text, under their names; and those of its pairs."""
    own = {name: value for name, value in content.items() if name not in {"hardware", "command", "date"}}
    of_pairs = {f"{pair}, {name}": value for pair, notes in content["pairs"].items() for name, value in notes.items()}
    told = {name: value for name, value in of_pairs.items() if not name.endswith((", unit", ", peer_settings"))}
    return [f"{name.replace('_', ' ')}: {value}" for name, value in {**own, **told}.items() if isinstance(value, str)]


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(RESULTS))
    print(PAGE)


if __name__ == "__main__":
    main()
