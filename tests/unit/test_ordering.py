"""Top-level ORDER BY and LIMIT, asked of the tree; sort keys as further columns."""

import pytest

from eval.task.ordering import Keyed, is_ordered, with_sort_keys, without_limit


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t", False),
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t ORDER BY a LIMIT 1;", True),
        ("SELECT a FROM t UNION SELECT 1 ORDER BY 1", True),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x ORDER BY a", True),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT a FROM x", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT a FROM t WHERE a IN (SELECT a FROM t ORDER BY a)", False),
        ("SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'ORDER BY' -- ORDER BY a", False),
        ("SELECT a FROM t ORDER BY", False),
        ("(SELECT a FROM t ORDER BY a)", True),
        ("((SELECT a FROM t)) ORDER BY a", True),
        ("(SELECT a FROM t ORDER BY a LIMIT 1) UNION (SELECT 1)", False),
        ("SELECT 1; SELECT a FROM t ORDER BY a", False),
        ("DELETE FROM t", False),
        ("not SQL (", False),
        ("", False),
        ("(" * 5000, False),
        ("SELECT * FROM t " + "JOIN t " * 40 + "ORDER BY a", False),
    ],
)
def test_only_the_outermost_order_counts(sql: str, ordered: bool) -> None:
    assert is_ordered(sql) is ordered


def test_order_is_read_in_the_database_s_dialect() -> None:
    assert is_ordered('SELECT "a"::text FROM t ORDER BY 1', "postgres")
    assert is_ordered("SELECT `a` FROM t ORDER BY `a`", "mysql")


@pytest.mark.parametrize(
    ("sql", "keyed", "places"),
    [
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a", (0,)),
        ("SELECT a, b FROM t ORDER BY 2, a", "SELECT a, b FROM t ORDER BY 2, a", (1, 0)),
        ("SELECT a AS x FROM t ORDER BY X", "SELECT a AS x FROM t ORDER BY X", (0,)),
        # The alias hides the column of that name.
        (
            "SELECT a AS b, b AS a FROM t ORDER BY b",
            "SELECT a AS b, b AS a FROM t ORDER BY b",
            (0,),
        ),
        ("SELECT t.a FROM t ORDER BY t.a DESC", "SELECT t.a FROM t ORDER BY t.a DESC", (0,)),
        (
            "SELECT a FROM t ORDER BY b, a, c",
            "SELECT a, b AS sort_key_0, c AS sort_key_1 FROM t ORDER BY b, a, c",
            (-2, 0, -1),
        ),
        (
            "SELECT * FROM t ORDER BY b LIMIT 2",
            "SELECT *, b AS sort_key_0 FROM t ORDER BY b LIMIT 2",
            (-1,),
        ),
        (
            "SELECT a FROM t GROUP BY a ORDER BY COUNT(*)",
            "SELECT a, COUNT(*) AS sort_key_0 FROM t GROUP BY a ORDER BY COUNT(*)",
            (-1,),
        ),
        # The column, by its table's name, and the alias before a column of that name.
        (
            "SELECT a AS b FROM t ORDER BY t.b",
            "SELECT a AS b, t.b AS sort_key_0 FROM t ORDER BY t.b",
            (-1,),
        ),
        (
            "SELECT a, b AS a FROM t ORDER BY a",
            "SELECT a, b AS a FROM t ORDER BY a",
            (1,),
        ),
        (
            "SELECT a FROM t UNION SELECT b FROM t ORDER BY a",
            "SELECT a FROM t UNION SELECT b FROM t ORDER BY a",
            (0,),
        ),
    ],
)
def test_sort_keys_become_columns(sql: str, keyed: str, places: tuple[int, ...]) -> None:
    num_added = sum(place < 0 for place in places)
    assert with_sort_keys(sql) == Keyed(keyed, num_added, places)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t",
        "SELECT DISTINCT a FROM t ORDER BY b",
        "SELECT a FROM t UNION SELECT b FROM t ORDER BY a + 1",
        # `b + 0` may mean the alias or the column.
        "SELECT a AS b FROM t ORDER BY b + 0",
        "not SQL (",
        "",
    ],
)
def test_no_sort_keys_where_they_would_change_the_query(sql: str) -> None:
    assert with_sort_keys(sql) is None


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT a FROM t LIMIT 3", ("SELECT a FROM t", range(3))),
        (
            "SELECT a FROM t ORDER BY a LIMIT 2 OFFSET 1",
            ("SELECT a FROM t ORDER BY a", range(1, 3)),
        ),
        ("SELECT a FROM t LIMIT 1, 2", ("SELECT a FROM t", range(1, 3))),
        ("SELECT a FROM (SELECT a FROM t LIMIT 3)", None),
        ("SELECT a FROM t LIMIT (SELECT 1)", None),
        ("SELECT a FROM t LIMIT -1", None),
        ("SELECT a FROM t", None),
        ("", None),
    ],
)
def test_a_query_without_its_limit(sql: str, found: tuple[str, range] | None) -> None:
    assert without_limit(sql) == found
