"""What keeps a text from overflowing a stack, by its words."""

import pytest

from eval.task.limits import (
    MAX_DEPTH,
    MAX_DOTTED,
    MAX_IFS,
    MAX_NESTING,
    MAX_OPEN_JOINS,
    MAX_REPEATS,
    MAX_STEPS,
    MAX_TRIED_TWICE,
    TooComplexError,
    guard,
    guard_twice,
)

DEEP = f"brackets nest deeper than {MAX_DEPTH}"
OPEN = f"over {MAX_NESTING} prefix operators, CASEs or brackets are open"
JOINS = f"over {MAX_OPEN_JOINS} JOINs without ON or USING"


def problem(text: str, max_tokens: int = 2000) -> str:
    """Why the words of `text`, which spaces part, are too complex; "" if they are not."""
    try:
        guard(text.split(), max_tokens)
    except TooComplexError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("( " * MAX_DEPTH, ""),
        ("( " * (MAX_DEPTH + 1), DEEP),
        ("[ " * 20 + "{ " * 13, DEEP),
        ("( ) " * 100, ""),
        ("[ ] { } " * 100, ""),
        ("( " * 30 + ") " * 30 + "( " * 30, ""),
        # A closer of another kind closes all within it; one of none closes nothing.
        (("( [ [ [ [ ) " * 20), ""),
        (("( ] " * 33), DEEP),
        # A type's parameters: `>` closes only its own.
        ("ARRAY < " * 33, DEEP),
        ("ARRAY < INT > " * 40, ""),
        ("( > " * 33, DEEP),
        ("( < ) " * 40, ""),
        ("> " * 40 + "( " * 20, ""),
    ],
)
def test_brackets_nest_only_so_deep(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOT " * MAX_NESTING, ""),
        ("NOT " * (MAX_NESTING + 1), OPEN),
        ("NOT a AND " * 90, ""),
        ("NOT a OR " * 90, ""),
        ("NOT a , " * 90, ""),
        ("NOT a ; " * 90, ""),
        ("- " * (MAX_NESTING + 1), OPEN),
        ("- 1 " * 80, ""),
        ("- a ( " * 20 + "- " * 30, OPEN),
        ("- f ( 1 ) + " * 70, ""),
        ("- " * 40 + "1 + " + "- " * 40, ""),
        ("- " * 40 + "f ( " + "- " * 40, OPEN),
        ("- " * 40 + "f ( 1 ) , ( " + "- " * 40, ""),
        ("- " * 40 + "a AND ( " + "- " * 40, ""),
        ("NOT " * 40 + "f ( " + "NOT " * 40, OPEN),
        ("NOT " * 40 + "f ( 1 ) AND ( " + "NOT " * 40, ""),
        # Within CASE an AND closes no operator: it may belong to its WHEN.
        ("CASE WHEN NOT a AND " * 33, OPEN),
        ("CASE WHEN 1 THEN 2 END , " * 70, ""),
        ("CASE " * 33 + "NOT " * 33, OPEN),
        ("( " * 30 + "NOT " * 35, OPEN),
        ("( NOT " * 30 + ") " * 30 + "NOT " * 50, ""),
        ("f ( 1 , NOT NOT NOT " * 16, ""),
        ("f ( 1 , NOT NOT NOT " * 17, OPEN),
    ],
)
def test_operators_that_are_open_are_counted_with_the_brackets(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JOIN t " * MAX_OPEN_JOINS, ""),
        ("JOIN t " * (MAX_OPEN_JOINS + 1), JOINS),
        ("JOIN t ON a " * 30, ""),
        ("JOIN t USING a " * 30, ""),
        ("CROSS JOIN t " * 30, ""),
        ("ON " * 9 + "JOIN t " * 9, JOINS),
        ("JOIN ( JOIN " * 5 + "ON " * 1, JOINS),
        ("JOIN ( t JOIN t ON a ) ON b " * 20, ""),
        ("JOIN ( t ON a ) " * 9, JOINS),
        ("( JOIN t ) " * 20, ""),
        ("JOIN t " * 8 + "ON a " * 8 + "JOIN t " * 8, ""),
    ],
)
def test_joins_wait_for_their_condition(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" . ".join("abcdefghi"), ""),
        (" . ".join("abcdefghij"), f"a name of over {MAX_DOTTED} parts"),
        ("a . b , " * 20, ""),
        ("AT " * MAX_REPEATS, ""),
        ("AT " * (MAX_REPEATS + 1), f"AT stands there over {MAX_REPEATS} times"),
        ("AT , " * 300, ""),
        ("AT ; " * 300, ""),
        ("a = 1 AND ( b ) OR " * 101, "a stands there over 100 times"),
        ("1 + " * 101, "+ stands there over 100 times"),
        ("'x' `y` \"z\" 1e5 = " * 200, ""),
        ("IF " * MAX_IFS, ""),
        ("IF " * (MAX_IFS + 1), f"IF stands there over {MAX_IFS} times"),
        ("IF ( " * 17, "IF stands there over 16 times"),  # counts on within brackets
        ("IF ( a ) " * 17, "IF stands there over 16 times"),
        ("( IF a ) " * 40, ""),  # but not behind its own
        ("IF a , " * 40, ""),
        (") " * 40 + "IF " * 17, "IF stands there over 16 times"),
        ("x" * 40 + " ", ""),
        (("x" * 40 + " ") * 101, "x" * 32 + " stands there over 100 times"),
    ],
)
def test_words_are_repeated_only_so_often(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("'" + "[." * (MAX_STEPS // 2) + "'", ""),
        ("'" + "[." * (MAX_STEPS // 2) + ".'", f"a string of over {MAX_STEPS} dots and brackets"),
        ("'" + "x" * 9000 + "'", ""),
    ],
)
def test_a_path_has_only_so_many_steps(word: str, expected: str) -> None:
    assert problem(f"a {word} b") == expected


def test_there_are_only_so_many_tokens() -> None:
    assert problem("a , " * 5, max_tokens=10) == ""
    assert problem("a , " * 5 + "b", max_tokens=10) == "over 10 tokens"


@pytest.mark.parametrize(
    ("text", "is_fine"),
    [
        ("INT! ( " * MAX_TRIED_TWICE, True),
        ("INT! ( " * (MAX_TRIED_TWICE + 1), False),
        ("INT! [ " * (MAX_TRIED_TWICE + 1), False),
        ("INT! ( ) " * 20, True),
        ("INT! ( f ( 1 ) ) " * 20, True),
        ("f ( " * 3 + "INT! ( " * 3, True),
        ("INT! ( ( ( ( ( " * 3, True),
        ("INT! ( f ( ) " * 4, False),
        ("INT! ) " * 20, True),
        ("INT! a ( " * 20, True),
    ],
)
def test_what_is_read_in_two_ways_nests_less(text: str, is_fine: bool) -> None:
    words = text.split()
    marked = [word.endswith("!") for word in words]
    if is_fine:
        return guard_twice(words, marked)
    with pytest.raises(TooComplexError, match=f"nest deeper than {MAX_TRIED_TWICE}"):
        guard_twice(words, marked)
    return None
