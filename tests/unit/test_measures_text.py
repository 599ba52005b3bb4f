"""Canonical equivalence never calls two queries equal that answer differently; EM and valid SQL."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlglot import exp

from eval.canonical.equivalence import canonical_text, is_equivalent
from eval.canonical.predicates import normal_form, written
from eval.dataset import open_dataset
from eval.execution import open_database
from eval.measures import text
from eval.measures.context import Context
from eval.queries.clauses import parse_query
from eval.task.ordering import is_ordered
from eval.task.rows import same_rows
from eval.task.samples import build_databases, sample_examples, sample_names, sample_schema
from eval.task.sqlite_judge import open_readonly, run_query

FIXTURES = Path(__file__).parents[1] / "fixtures"
LINES = (FIXTURES / "canonical_match.jsonl").read_text(encoding="utf-8").splitlines()
PAIRS = [json.loads(line) for line in LINES]
HOSTILE = ["", " ", "\x00", "SELECT '\ud800", "SELECT " + "(" * 500, "DROP TABLE users", "'" * 99]
SHOP = sample_schema("shop")
USERS = "SELECT name FROM users"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["one"][:60])
def test_what_is_provably_equal_is_found_and_nothing_else(pair):
    assert is_equivalent(pair["one"], pair["two"], SHOP) is pair["equal"]


@pytest.mark.parametrize(
    "pair", [p for p in PAIRS if p["equal"] is not None], ids=lambda pair: pair["one"][:60]
)
def test_equivalence_has_no_direction(pair):
    assert is_equivalent(pair["two"], pair["one"], SHOP) in (pair["equal"], None)


@pytest.mark.parametrize("predicted", HOSTILE, ids=ascii)
def test_a_hostile_prediction_is_not_equivalent_and_raises_nothing(predicted):
    assert is_equivalent(predicted, USERS, SHOP) is False


def test_many_alternatives_do_not_blow_up():
    either = " AND ".join(f"(id = {n} OR id = {n + 1})" for n in range(40))
    neither = " OR ".join(f"(id = {n} AND city = '{n}')" for n in range(40))
    for condition in (either, neither):
        tree = parse_query(f"{USERS} WHERE {condition}", "sqlite")
        assert tree is not None
        assert len(canonical_text(tree, SHOP) or "") < 20_000


def test_many_tables_of_one_name_do_not_blow_up():
    tables = ", ".join(f"users AS u{n}" for n in range(7))
    nested = f"SELECT u0.id FROM {tables} WHERE u0.id IN (SELECT u1.id FROM {tables})"
    assert is_equivalent(nested, nested.replace("u3", "x3"), SHOP) is True


def test_a_query_of_very_many_nodes_is_not_rewritten():
    wide = f"{USERS} WHERE id IN ({', '.join(map(str, range(900)))})"
    tree = parse_query(wide, "sqlite")
    assert tree is not None
    assert canonical_text(tree, SHOP) is None
    assert is_equivalent(wide.lower(), wide, SHOP) is True


def _values(a: bool | None, b: bool | None) -> Callable[[str], bool | None]:
    return {"a": a, "b": b}.__getitem__


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("NOT (a AND b)", "NOT a OR NOT b"),
        ("a AND (a OR b)", "a"),
        ("a OR (a AND b)", "a"),
        ("NOT NOT a", "a"),
        ("(a OR b) AND (a OR NOT b)", "(a OR NOT b) AND (b OR a)"),
    ],
)
def test_laws_that_hold_for_null_too_give_one_normal_form(one, two):
    assert _normal(one) == _normal(two)


@pytest.mark.parametrize(("one", "two"), [("a OR NOT a", "TRUE"), ("a AND NOT a", "FALSE")])
def test_laws_that_fail_for_null_are_not_applied(one, two):
    assert _normal(one) != _normal(two)


def _normal(condition: str) -> str:
    tree = parse_query(f"SELECT 1 WHERE {condition}", "sqlite")
    assert tree is not None
    return written(normal_form(tree.args["where"].this, lambda node: node.sql()))


@pytest.fixture(scope="module")
def about() -> Iterator[Context]:
    with open_dataset("samples", limit=1) as data:
        question = data.questions[0]
        database = open_database(question.database)
        yield Context(question, database)
        database.close()


@pytest.mark.parametrize(
    ("predicted", "exact", "canonical", "valid"),
    [
        ("select NAME from USERS", 1.0, 1.0, 1.0),
        ("SELECT u.name FROM users AS u", 0.0, 1.0, 1.0),
        ("SELECT city FROM users", 0.0, 0.0, 1.0),
        ("SELECT nme FROM users", 0.0, 0.0, 0.0),
        ("DROP TABLE users", 0.0, 0.0, 0.0),
        *[(sql, 0.0, 0.0, 0.0) for sql in HOSTILE],
    ],
    ids=ascii,
)
def test_measures_of_text(predicted, exact, canonical, valid, about):
    assert text.exact_match(predicted, USERS, about) == exact
    assert text.canonical_match(predicted, USERS, about) == canonical
    assert text.valid_sql(predicted, USERS, about) == valid


def test_what_reads_the_same_but_does_not_run_is_no_canonical_match(about):
    gold = "SELECT UPPER(name) FROM users"
    assert text.canonical_match("SELECT UCASE(name) FROM users", gold, about) == 0.0
    assert text.canonical_match("SELECT upper(u.name) FROM users u", gold, about) == 1.0


def test_without_a_readable_gold_canonical_match_is_undefined(about):
    assert text.canonical_match(USERS, "SELECT (", about) is None


# The property test: changes that keep the answer and changes that do not, at random.
# True where it changed the node.
Change = Callable[[exp.Expr, random.Random], bool]
MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.LT: exp.GT,
    exp.GT: exp.LT,
    exp.LTE: exp.GTE,
    exp.GTE: exp.LTE,
    exp.EQ: exp.EQ,
}


def _swap(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.And | exp.Or | exp.Add | exp.Sub | exp.SetOperation):
        left, right = node.this.copy(), node.expression.copy()
        node.set("this", right)
        node.set("expression", left)
        return True
    return False


def _mirror(node: exp.Expr, chance: random.Random) -> bool:
    if type(node) in MIRRORED:
        kind = MIRRORED[type(node)] if chance.random() < 0.8 else type(node)
        node.replace(kind(this=node.expression.copy(), expression=node.this.copy()))
        return True
    return False


def _swap_tables(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Select) and node.args.get("joins"):
        join = node.args["joins"][0]
        first, second = node.args["from_"].this.copy(), join.this.copy()
        node.args["from_"].set("this", second)
        join.set("this", first)
        return True
    return False


def _move_on(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Select) and node.args.get("joins"):
        on = node.args["joins"][-1].args.get("on")
        if on is not None:
            node.args["joins"][-1].set("on", None)
            where = node.args.get("where")
            both = exp.and_(where.this, on) if where else on
            node.set("where", exp.Where(this=both))
            return True
    return False


def _drop(node: exp.Expr, chance: random.Random) -> bool:
    if isinstance(node, exp.Select):
        node.set(chance.choice(["distinct", "order", "limit", "where", "having", "group"]), None)
        return True
    return False


def _split_between(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Between):
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
        high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
        node.replace(exp.Paren(this=exp.And(this=low, expression=high)))
        return True
    return False


def _deny_twice(node: exp.Expr, chance: random.Random) -> bool:
    if isinstance(node, exp.Predicate | exp.And) and not isinstance(node, exp.SubqueryPredicate):
        inner = exp.Paren(this=node.copy())
        denied = exp.Not(this=inner)
        times = 2 if chance.random() < 0.8 else 1
        node.replace(exp.Not(this=exp.Paren(this=denied)) if times == 2 else denied)
        return True
    return False


def _list_of_one(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.EQ) and isinstance(node.expression, exp.Literal):
        node.replace(exp.In(this=node.this.copy(), expressions=[node.expression.copy()]))
        return True
    return False


def _other_kind(node: exp.Expr, _: random.Random) -> bool:
    kinds: dict[type[exp.Expr], type[exp.Expr]] = {
        exp.GT: exp.GTE,
        exp.And: exp.Or,
        exp.Max: exp.Min,
        exp.Union: exp.Except,
    }
    if type(node) in kinds:
        node.replace(kinds[type(node)](**{k: _copied(v) for k, v in node.args.items()}))
        return True
    return False


def _copied(value: object) -> object:
    return value.copy() if isinstance(value, exp.Expr) else value


def _turn_lists(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Select | exp.Group | exp.Order):
        node.set("expressions", [e.copy() for e in reversed(node.expressions)])
        return True
    return False


def _count_one(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
        node.set("this", exp.Literal.number(1))
        return True
    return False


def _group_as_distinct(node: exp.Expr, _: random.Random) -> bool:
    if isinstance(node, exp.Select) and node.args.get("distinct"):
        node.set("distinct", None)
        node.set("group", exp.Group(expressions=[e.unalias().copy() for e in node.expressions]))
        return True
    return False


CHANGES: tuple[Change, ...] = (
    _swap, _mirror, _swap_tables, _move_on, _drop, _split_between, _deny_twice, _list_of_one,
    _other_kind, _turn_lists, _count_one, _group_as_distinct,
)  # fmt: skip


def _changed(sql: str, chance: random.Random) -> str:
    tree = parse_query(sql, "sqlite")
    assert tree is not None
    for _ in range(chance.randint(1, 3)):
        change = chance.choice(CHANGES)
        nodes = list(tree.walk())
        chance.shuffle(nodes)
        any(change(node, chance) for node in nodes)
    return tree.sql("sqlite")


def test_queries_called_equal_have_equal_answers_on_the_samples(tmp_path):
    build_databases(tmp_path)
    chance = random.Random(0)
    examples = sample_examples("train") + sample_examples("test")
    num_equal = num_different = 0
    for name in sample_names():
        with closing(open_readonly(tmp_path / f"{name}.sqlite")) as db:
            for example in (e for e in examples if e.db_id == name):
                expected = run_query(db, example.sql)
                for _ in range(5):
                    sql = _changed(example.sql, chance)
                    if not is_equivalent(sql, example.sql, sample_schema(name)):
                        num_different += 1
                        continue
                    found = run_query(db, sql)
                    assert found.error is None, sql
                    ordered = is_ordered(example.sql)
                    assert same_rows(expected.rows, found.rows, ordered=ordered), sql
                    num_equal += sql != example.sql
    assert num_equal > 500
    assert num_different > 200
