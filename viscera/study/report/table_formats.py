"""Table 1 as CSV, Markdown and LaTeX."""

import pandas as pd

from viscera.study.report.tables import DAGGER, NOT_APART, Cell, Table1

_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    DAGGER: r"\textsuperscript{\dag}",
    "–": "--",
    "±": r"$\pm$",
    NOT_APART: r"$\approx$",
}
_MARKDOWN = "\\`*_{}[]<>#|&"


def to_csv(table: Table1) -> str:
    """`class` and one column an arm, per cent with four decimals, empty where undefined."""
    return table.percent.to_csv(float_format="%.4f", lineterminator="\n")


def to_markdown(table: Table1) -> str:
    """A pipe table and its footnotes; names are escaped."""
    frame = pd.DataFrame(
        [[_markdown(row.title), *map(_markdown_cell, row.cells)] for row in table.rows()],
        columns=["Dice, per cent", *map(_markdown, table.titles)],
    )
    grid = frame.to_markdown(index=False, disable_numparse=True, colalign=["left"] + ["right"] * len(table.titles))
    notes = "".join(f"- {_markdown(note)}\n" for note in table.footnotes)
    return f"{grid}\n\n{notes}" if notes else f"{grid}\n"


def to_latex(table: Table1) -> str:
    r"""A `tabular` with `\hline` (no package needed) and its footnotes below; names are escaped."""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(table.titles)}}}",
        r"\hline",
        " & ".join(["Dice (\\%)", *map(_latex, table.titles)]) + r" \\",
        r"\hline",
    ]
    for row in table.rows():
        lines += [r"\hline"] if row.name == "AVG" else []
        lines.append(" & ".join([_latex(row.title), *map(_latex_cell, row.cells)]) + r" \\")
    lines += [r"\hline", r"\end{tabular}", *(rf"\par\noindent {_latex(note)}" for note in table.footnotes)]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    return " ".join(filter(None, (f"**{cell.text}**" if cell.bold else cell.text, cell.spread, cell.mark)))


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{_latex(cell.text)}}}" if cell.bold else _latex(cell.text)
    small = rf"{{\scriptsize {_latex(cell.spread + cell.mark)}}}" if cell.spread or cell.mark else ""
    return " ".join(filter(None, (text, small)))


def _markdown(text: str) -> str:
    return "".join("\\" + c if c in _MARKDOWN else c for c in " ".join(text.split()))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))
