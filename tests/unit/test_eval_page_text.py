"""How the HTML report writes numbers and names, and that it explains every name it may show."""

from importlib import import_module
from inspect import getmembers, isfunction, signature
from pkgutil import iter_modules

import pytest

from eval import measures
from eval.golds import FLAGS
from eval.page import text
from eval.page.wording import explain_class, explain_flag, explain_measure
from eval.queries.diagnose import CLASSES


def test_every_measure_flag_and_error_class_is_explained() -> None:
    modules = [import_module(f"eval.measures.{m.name}") for m in iter_modules(measures.__path__)]
    names = {
        name
        for module in modules
        for name, function in getmembers(module, isfunction)
        if list(signature(function).parameters) == ["predicted", "gold", "context"]
    }
    assert len(names) > 8
    assert [name for name in sorted(names) if not explain_measure(name)] == []
    assert [flag for flag in (*FLAGS, "lucky_match") if not explain_flag(flag)] == []
    assert [name for name in CLASSES if not explain_class(name)] == []


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.percent(0.7123), "71.2\u00a0%"),
        (text.percent(None), "–"),
        (text.percent(0.0, 0), "0\u00a0%"),
        (text.percent(0.0049, 0), "<\u00a01\u00a0%"),
        (text.percent(0.0051, 0), "1\u00a0%"),
        (text.percent(0.0004), "<\u00a00.1\u00a0%"),
        (text.percent(0.996, 0), ">\u00a099\u00a0%"),
        (text.percent(0.9999), ">\u00a099.9\u00a0%"),
        (text.percent(1.0, 0), "100\u00a0%"),
        (text.percent(-0.031), "−3.1\u00a0%"),  # noqa: RUF001
        (text.sentence("one a. two"), "One a. two."),
        (text.sentence("What?"), "What?"),
        (text.percent(float("nan")), "–"),
        (text.points(-0.0321), "−3.2"),  # noqa: RUF001
        (text.points(0.0), "+0.0"),
        (text.span([0.684, 0.739]), "68.4–73.9"),
        (text.span([-0.01, 0.04], signed=True), "−1.0 to +4.0"),  # noqa: RUF001
        (text.span(None), "–"),
        (text.p_value(0.0004), "< 0.001"),
        (text.p_value(0.0317), "0.032"),
        (text.count(1, "question"), "1\u00a0question"),
        (text.count(1026, "question"), "1,026\u00a0questions"),
        (text.label("valid_sql"), "Valid SQL"),
        (text.label(""), ""),
        (text.day("2026-11-02T01:02:03Z"), "2 November 2026"),
        (text.day("yesterday"), "yesterday"),
        (text.plain({"a": [1, None], "b": False}), "a 1, , b no"),
        (text.shown("a\r\nb\tc\u200d"), "a\nb\tc\u200d"),
    ],
)
def test_numbers_and_names_are_written_for_people(shown: str, expected: str) -> None:
    assert shown == expected
