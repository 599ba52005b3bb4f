"""The report of a pipeline, as text and as a page."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from trainer.pipeline.corpus import Corpus, DroppedRow, StageReport, dataset_of
from trainer.pipeline.report import Report, render, report_text, shown, write_report
from trainer.pipeline.row import Row

HOSTILE = "<script>alert('1')</script>&\"\u202e\u200b"
FINDINGS = [{"id": f"p{n}", "reason": "tautology", "evidence": HOSTILE} for n in range(60)]


def stage(name: str, rows_in: int, rows_out: int, **fields: Any) -> StageReport:
    return StageReport(name, rows_in, rows_out, **fields)


def corpus(*stages: StageReport, name: str = "shop") -> Corpus:
    rows = [Row(str(n), "shop", "Q?", "SELECT 1") for n in range(3)]
    return Corpus(dataset_of(rows), ({"name": name, "sha256": "ab" * 32, "examples": 3},), stages)


USUAL = corpus(
    stage("load shop", 1240, 1230, dropped=Counter(nul=10), seconds=1.26),
    stage(
        "poison",
        1230,
        1229,
        dropped=Counter(tautology=1),
        examples=(DroppedRow(HOSTILE, "tautology", HOSTILE, HOSTILE, f"SELECT '{HOSTILE}'"),),
        facts={"findings": FINDINGS, "note": HOSTILE, "triggers": []},
        cached=True,
    ),
    stage("clean", 1229, 1229, changed=Counter(sql_spelling=1100, fences=7)),
    stage(
        "balance",
        1229,
        3,
        dropped=Counter(thinned=1226),
        examples=tuple(DroppedRow(f"t{n}", "thinned", "no join", "Q?", "S") for n in range(5)),
        facts={"shapes_before": {"no join": 1229}, "shapes_after": {"no join": 2, "1 join": 1}},
    ),
    stage("tokenise", 3, 3, facts={"histogram": [1, 0, 2], "bin_width": 100, "max_length": 150}),
)


class Page(HTMLParser):
    """The elements of a page and its text; raises where a tag is closed that is not open."""

    VOID = frozenset({"meta", "rect", "line", "link", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID or (tag == "rect" and not self.is_closed()):
            self.open.append(tag)

    def is_closed(self) -> bool:
        return (self.get_starttag_text() or "").endswith("/>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def count(self, tag: str, **attrs: str) -> int:
        return sum(t == tag and attrs.items() <= found.items() for t, found in self.tags)


def test_the_text_has_a_row_for_each_stage_reason_and_change() -> None:
    assert report_text(USUAL).splitlines() == [
        "stage             rows in   left  dropped  seconds",
        "load shop           1,240  1,230       10      1.3",
        "  nul                                  10",
        "poison              1,230  1,229        1   cached",
        "  tautology                             1",
        "clean               1,229  1,229        0      0.0",
        "  + sql_spelling           1,100",
        "  + fences                     7",
        "balance             1,229      3    1,226      0.0",
        "  thinned                           1,226",
        "tokenise                3      3        0      0.0",
        "",
        "3 examples (shop 3), 1,237 dropped (thinned 1,226, nul 10, tautology 1)",
    ]


def test_no_text_of_the_data_is_read_as_markup() -> None:
    page = Page(render(USUAL))
    assert page.count("script") == 0
    assert page.text.count("<script>alert('1')</script>&\"") >= 5
    assert "&lt;script&gt;" not in page.text


def test_what_can_not_be_seen_is_written_out() -> None:
    source = render(USUAL)
    assert "\\u202e\\u200b" in source
    assert "\u202e" not in source and "\u200b" not in source
    assert shown("a\tb\nMüller 日本\U000e0041\ud800") == "a\\u0009b\nMüller 日本\\ue0041\\ud800"
    text = report_text(corpus(name="x\u202e\x1b[31m"))
    assert "\x1b" not in text and "\\u001b" in text


def test_the_page_reaches_for_no_network() -> None:
    page = Page(render(USUAL))
    assert {name for _, attrs in page.tags for name in attrs} & {"src", "action", "style"} == set()
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert len(links) == 5 and all(link.startswith("#stage-") for link in links)
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy and policy.startswith("default-src 'none'")


def test_dropped_rows_are_shown_under_their_reasons() -> None:
    text = " ".join(Page(render(USUAL)).text.split())
    assert "Thinned: 1,226 dropped, the first 5 shown t0 no join Q? S t1 no join" in text
    assert "Tautology: 1 dropped <script>" in text
    assert "Nul: 10" not in text


def test_shapes_stand_side_by_side() -> None:
    text = " ".join(Page(render(USUAL)).text.split())
    assert "Shapes Before After no join 1,229 2 1 join 0 1" in text


def test_long_findings_are_cut_and_counted() -> None:
    page = Page(render(USUAL))
    text = " ".join(page.text.split())
    assert "Findings Id Reason Evidence p0 tautology" in text
    assert "p49" in text and "p50" not in text and "and 10 more" in text


def test_the_histogram_is_a_picture_with_words() -> None:
    page = Page(render(USUAL))
    assert page.count("rect", **{"class": "bar"}) == 2
    assert page.count("rect", **{"class": "over"}) == 1
    assert page.count("line", x1="320.0") == 1
    assert page.count("svg", role="img") == 1
    assert "200 to 299 tokens: 2 rows" in page.text


def test_a_limit_beyond_the_longest_row_is_not_drawn() -> None:
    facts = {"histogram": [3], "bin_width": 10, "max_length": 2048}
    page = Page(render(corpus(stage("tokenise", 3, 3, facts=facts))))
    assert page.count("line") == 0 and "The line is" not in page.text


def test_facts_of_any_form_are_shown() -> None:
    facts = {
        "yes": True,
        "none": None,
        "empty": {},
        "share": 0.12345,
        "words": {"a": "b", "c": {"d": 1}},
        "many": list(range(1000, 1015)),
        "shapes_before": {"x": 1},
        "mixed": [{"a": 1}, {"b": HOSTILE}, {}],
        "counts": {"x": 1, "y": 2.5},
        "odd": [1, [2, {"z": None}]],
    }
    text = " ".join(Page(render(corpus(stage("any", 3, 3, facts=facts)))).text.split())
    for part in (
        "Yes yes None – Share 0.1235 Words a b, c d 1 Many 1,000, 1,001",
        "1,009, 5 more",
        "Odd 1, 2, z –",
        "Shapes before Number x 1",
        "Mixed A B 1 – –",
        "Counts Number x 1 y 2.5",
    ):
        assert part in text


def test_a_corpus_without_stages_has_a_report() -> None:
    assert "3 examples, 0 dropped" in Page(render(corpus())).text
    assert report_text(corpus()).endswith("3 examples (shop 3), 0 dropped")


def test_a_page_is_written_in_one_step(tmp_path: Path) -> None:
    report = Report(USUAL)
    path = report.save(str(tmp_path / "report.html"))
    assert path.read_text(encoding="utf-8") == render(USUAL)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "none"))):
        write_report(USUAL, tmp_path / "none" / "report.html")


def test_a_notebook_shows_the_text() -> None:
    report = Report(corpus(stage("<b>", 3, 3)))
    assert str(report) == report_text(report.corpus)
    assert "&lt;b&gt;" in report._repr_html_() and "<b>" not in report._repr_html_()
