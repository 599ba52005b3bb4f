"""The text of a grammar: strings, conditions, fields of the parameter, rules."""

import json

import pytest

from server.grammar.lark import Field, Rules, choice, every, jump, put, ref, row, some, when
from tests.unit.grammars import matcher_of, taken, takes


@pytest.mark.parametrize(
    "text", ['"', "\\", "\n", '" | "x', "/", "#", "é", "😀", "\u2028", "\x7f", "a" * 300]
)
def test_a_text_is_itself_whatever_is_in_it(text):
    rules = Rules()
    rules.terminal("start", choice([text, "other"]))
    assert takes(rules.text(), text) and takes(rules.text(), "other")
    assert not takes(rules.text(), "x")


@pytest.mark.parametrize("count", [1, 2, 3, 200])
def test_conditions_nest_evenly(count):
    """llguidance walks them by recursion."""
    names = [f"c{i}" for i in range(count)]
    for join, operator in ((every, "and"), (some, "or")):
        text = join(*names)
        depth = max(text[:i].count("(") - text[:i].count(")") for i in range(len(text) + 1))
        assert depth <= count.bit_length()
        assert text.count(operator + "(") == count - 1


def test_an_empty_condition_says_nothing():
    assert every("", "a", "") == "a" and every() == "" and when("x", "") == "x"
    assert row("a", "", "b") == "a b"


COUNTER = Field(3, 6)


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        (COUNTER.equals(3), {3}),
        (COUNTER.differs(3), {0, 1, 2, 4, 5, 6, 7}),
        (COUNTER.at_least(5), {5, 6, 7}),
        (COUNTER.at_most(1), {0, 1}),
        (every(COUNTER.at_least(2), COUNTER.at_most(3)), {2, 3}),
        (some(COUNTER.equals(0), COUNTER.equals(7)), {0, 7}),
    ],
)
def test_a_condition_reads_its_bits_alone(condition, numbers):
    """What stands around them in the parameter does not matter."""
    for number in range(8):
        rules = Rules()
        rules.start("rule", COUNTER.value(number) | Field(0, 3).mask | Field(6, 9).mask)
        rules.add("rule", when('"yes"', condition), '"no"')
        assert takes(rules.text(), "yes") is (number in numbers)


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (COUNTER.up, 6, 7),
        (COUNTER.up, 7, 7),
        (COUNTER.down(), 7, 6),
        (COUNTER.down(2), 7, 5),
        (COUNTER.down(4), 5, 1),
        (put(COUNTER.value(5)), 2, 7),
    ],
)
def test_a_step_changes_its_bits_alone(step, before, after):
    rules = Rules()
    rules.start("rule", COUNTER.value(before) | 1)
    rules.add("rule", f'"a" {ref("then", step)}')
    rules.add("then", when('"b"', every(COUNTER.equals(after), Field(0, 3).equals(1))), '"c"')
    assert takes(rules.text(), "ab")


def test_a_rule_may_jump_to_itself():
    """llguidance 1.7 fails on an alternative that is but such a reference."""
    rules = Rules()
    rules.start("rule", COUNTER.value(3))
    rules.add("rule", when(f'"a" {ref("next")}', COUNTER.at_least(1)), '"end"')
    rules.add("next", jump("rule", COUNTER.down()))
    assert taken(matcher_of(rules.text()), "aaaend") == "aaaend"
    assert taken(matcher_of(rules.text()), "aaaa") == "aaa"


def test_guards_in_a_row_must_all_hold():
    rules = Rules()
    rules.start("rule", 3)
    rules.guard("one", "bit_set(0)")
    rules.guard("two", "bit_set(1)")
    rules.guard("three", "bit_set(2)")
    rules.add("rule", row(ref("one"), ref("two"), '"b"'), row(ref("two"), ref("three"), '"c"'))
    assert takes(rules.text(), "b") and not takes(rules.text(), "c")


def test_literals_are_of_ascii_alone():
    assert choice(["é\n"]).isascii() and json.loads(choice(["é\n"])) == "é\n"
