"""The vote: by text and by what queries answer on databases that are made up."""

import pytest
from structlog.testing import capture_logs

from eval.task.samples import sample_schema
from eval.task.sql import check_sql
from server.decode.agree import vote
from server.decode.candidate import Candidate
from tests.conftest import completion_of

SHOP = sample_schema("shop")
NAMES = "SELECT name FROM users"


def candidate(sql: str, logprob: float = -1.0, dialect: str = "sqlite") -> Candidate:
    check = check_sql(sql, SHOP, "sqlite", dialect)
    return Candidate(completion_of(sql, (logprob,)), check, "sampled")


def winner(*candidates: Candidate, by: str = "execution", dialect: str = "sqlite"):
    found = vote(candidates, SHOP, dialect, by)  # type: ignore[arg-type]
    return (found.winner.completion.text if found.winner else None), found.num_votes


@pytest.mark.parametrize("by", ["text", "execution"])
def test_most_votes_win_over_a_likelier_answer(by):
    found = winner(
        candidate("SELECT email FROM users", -0.1),
        candidate(NAMES, -2),
        candidate("select NAME from USERS", -3),
        by=by,
    )
    assert found == (NAMES, 2)


def test_among_equal_groups_the_likeliest_member_decides():
    likeliest = candidate("SELECT email FROM users", -0.5)
    assert winner(candidate(NAMES, -0.6), likeliest) == ("SELECT email FROM users", 1)


def test_what_is_not_valid_has_no_vote():
    wrong = [candidate("SELECT nme FROM users", -0.1) for _ in range(3)]
    assert winner(*wrong, candidate(NAMES)) == (NAMES, 1)
    assert winner(*wrong) == (None, 0)
    assert winner() == (None, 0)


SAME = [
    ("SELECT u.name FROM users AS u", NAMES),
    ("SELECT name FROM users WHERE id > 3", "SELECT name FROM users WHERE NOT id <= 3"),
    ("SELECT MAX(price) FROM products", "SELECT price FROM products ORDER BY price DESC LIMIT 1"),
]
DIFFERENT = [
    ("SELECT name FROM users WHERE id > 3", "SELECT name FROM users WHERE id >= 3"),
    ("SELECT name FROM users ORDER BY name", "SELECT name FROM users ORDER BY name DESC"),
    ("SELECT name, email FROM users", "SELECT email, name FROM users"),
    ("SELECT name FROM users", "SELECT DISTINCT name FROM users"),
    # Two answers without a row say nothing of each other.
    ("SELECT name FROM users WHERE 1 = 0", "SELECT email FROM users WHERE 1 = 0"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_queries_with_the_same_rows_agree_by_execution_but_not_by_text(one, other):
    candidates = [candidate("SELECT country FROM users", -0.1), candidate(one), candidate(other)]
    assert winner(*candidates) == (one, 2)
    assert winner(*candidates, by="text")[1] == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_queries_with_other_rows_do_not_agree(one, other):
    assert winner(candidate(one, -1), candidate(other, -2)) == (one, 1)


def test_answers_in_another_dialect_are_compared_too():
    one = candidate("SELECT IFNULL(name, 'x') FROM users", -1, "postgres")
    other = candidate("SELECT COALESCE(u.name, 'x') FROM users AS u", -2, "postgres")
    assert one.check.sql.startswith("SELECT COALESCE(")
    assert winner(one, other, dialect="postgres")[1] == 2


def test_a_schema_that_no_rows_can_be_made_up_for_leaves_the_vote_to_the_text(monkeypatch):
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("server.decode.agree.recipe", fail)
    with capture_logs() as logs:
        found = winner(candidate(NAMES, -2), candidate(NAMES, -2), candidate("SELECT 1", -1))
    assert found == (NAMES, 2)
    assert [entry["event"] for entry in logs] == ["vote_failed"]
