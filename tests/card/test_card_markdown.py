"""Names and licences are text, whatever they hold: held against markdown-it, which makes HTML of Markdown."""

import html
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from viscera.card.card_markdown import as_markdown, escaped, hub_licence
from viscera.card.model_card import ModelCard

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "*x* _y_ **z** `code` ~~gone~~",
    "[link](http://example.org) ![image](x.png)",
    "# no heading\n\n- no list\n---",
    "&lt;b&gt; & <b>",
    "portal_vein 3 > 2, $5",
    "\\* \\",
]


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_comes_out_as_it_went_in(text: str) -> None:
    one_line = " ".join(text.split())
    assert rendered(f"- **Name:** {escaped(text)}") == (
        f"<ul>\n<li><strong>Name:</strong> {html.escape(one_line)}</li>\n</ul>\n"
    )
    table = rendered(f"| a | b |\n|---|---|\n| {escaped(text)} | 1 |\n")
    assert re.findall("<td>(.*?)</td>", table) == [html.escape(one_line), "1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_of_such_names_has_the_same_sections(text: str, tiny_run: Path) -> None:
    card = ModelCard.model_validate_json((tiny_run / "card.json").read_text())
    named = card.model_copy(
        update={
            "model_details": card.model_details.model_copy(update={"name": text, "licence": text}),
            "training_data": card.training_data.model_copy(update={"dataset": text}),
        }
    )
    pages = [rendered(as_markdown(each).split("---\n", maxsplit=2)[2]) for each in (card, named)]
    tags = [re.findall(r"</?([a-z0-9]+)", page) for page in pages]
    assert tags[0] == tags[1]


def test_licences_by_the_hubs_names() -> None:
    assert hub_licence("") == {"license": "unknown"}
    assert hub_licence("Apache-2.0") == {"license": "apache-2.0"}
    assert hub_licence("CC BY-SA 4.0") == {"license": "cc-by-sa-4.0"}
    assert hub_licence("Our hospital's terms") == {"license": "other", "license_name": "our-hospital-s-terms"}
