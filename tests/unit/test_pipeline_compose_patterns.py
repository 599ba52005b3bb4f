"""The grammar as data; templates: what is taken from a pair, and what is made of it elsewhere."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlglot.errors import SqlglotError

from eval.task.samples import FOLDER, sample_names
from eval.task.schema import parse_ddl
from eval.task.sql import check_sql
from trainer.pipeline.compose.catalogue import Catalogue, build_catalogue
from trainer.pipeline.compose.draw import NoFit
from trainer.pipeline.compose.grammar import (
    SLOT,
    Pattern,
    derive,
    load_grammar,
    load_patterns,
)
from trainer.pipeline.compose.refill import fill
from trainer.pipeline.compose.skeleton import NotGeneralError
from trainer.pipeline.compose.slots import ENTITY_BINDERS, SOURCE_BINDERS
from trainer.pipeline.compose.templates import common_words, shape_of, template_of
from trainer.pipeline.row import Row, dump_schema

FIXTURES = Path(__file__).parents[1] / "fixtures" / "train"
HARBOUR = (FIXTURES / "compose_harbour.sql").read_text(encoding="utf-8")
COMMON = frozenset(
    "a above and any are does have how in is largest many named not of show that the up what whose"
    " with without largest lowest has".split()
)
NUM_TRIES = 400


def cases() -> list[dict[str, Any]]:
    lines = (FIXTURES / "compose_templates.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def built(ddl: str) -> Catalogue:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(ddl)
        return build_catalogue(parse_ddl(ddl), db)


@pytest.fixture(scope="module")
def harbour() -> Catalogue:
    return built(HARBOUR)


@pytest.fixture(scope="module")
def samples() -> list[Catalogue]:
    return [built((FOLDER / f"{name}.sql").read_text("utf-8")) for name in sample_names()]


def harbour_row(case: dict[str, Any]) -> Row:
    schema = dump_schema(parse_ddl(HARBOUR))
    return Row(case["case"], "harbour", case["question"], case["sql"], schema_json=schema)


@pytest.mark.parametrize("pattern", load_patterns(), ids=lambda p: f"{p.id}-{p.path}")
def test_every_text_names_every_slot_that_decides_the_query(pattern: Pattern) -> None:
    slots = dict(pattern.slots)
    assert {spec.split()[-2 if spec.endswith(" A") else -1] for spec in slots.values()} <= (
        ENTITY_BINDERS.keys() | SOURCE_BINDERS.keys()
    )
    needed = {name for name, _ in SLOT.findall(pattern.sql)}
    assert needed == {"A", *slots}
    needed -= {name for name, spec in pattern.slots if spec == "own A"}  # goes without saying
    for text in pattern.texts:
        named = {name for name, _ in SLOT.findall(text)} - load_grammar()["openers"].keys()
        assert named == needed, text


@pytest.mark.parametrize("pattern", load_patterns(), ids=lambda p: f"{p.id}-{p.path}")
def test_every_pattern_makes_queries_of_its_shape(
    pattern: Pattern, samples: list[Catalogue]
) -> None:
    made = []
    for seed in range(NUM_TRIES):
        rng = Random(seed)
        catalogue = rng.choice(samples)
        try:
            made.append((derive(rng, pattern, catalogue), catalogue))
        except NoFit:
            continue
        if len(made) == 3:
            break
    assert len(made) == 3
    for pair, catalogue in made:
        assert check_sql(pair.sql, catalogue.schema).valid, pair
        assert shape_of(pair.sql) == pattern.shape
        assert not re.search(r"[{}\[\]|]", pair.question), pair


def test_each_condition_uses_the_values_of_its_sql() -> None:
    for rule in load_grammar()["conditions"]:
        wanted = set(re.findall(r"\{(v2?|n2?|d)\}", rule["sql"]))
        for text in rule["text"]:
            assert wanted <= set(re.findall(r"\{(\w+)\}", text)), (rule["sql"], text)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_a_pair_becomes_a_template_or_does_not(case: dict[str, Any], harbour: Catalogue) -> None:
    try:
        found = " ".join(template_of(harbour_row(case), harbour, COMMON).question)
    except (NotGeneralError, SqlglotError):
        found = None
    assert found == case["gives"]


@pytest.mark.parametrize(
    "case", [case for case in cases() if case["gives"]], ids=lambda case: case["case"]
)
def test_a_template_fits_another_schema(case: dict[str, Any], harbour: Catalogue) -> None:
    ddl = (
        HARBOUR.replace("Ports", "Schools").replace("Ships", "Teachers").replace("Port_", "School_")
    )
    ddl = (
        ddl.replace("Ship_", "Teacher_").replace("Home_Port", "Employer").replace("Crew", "Taught")
    )
    ddl = ddl.replace("Sailors", "Pupils").replace("Sailor_", "Pupil_").replace("Tonnage", "Wage")
    other = built(ddl)
    template = template_of(harbour_row(case), harbour, COMMON)
    made = []
    for seed in range(60):
        try:
            made.append(fill(Random(seed), template, other))
        except NoFit:
            continue
    assert made
    for pair in made:
        assert check_sql(pair.sql, other.schema).valid, pair
        assert "zz" not in pair.sql + pair.question
        assert not re.search(r"\b(port|ship|sailor)s?\b", pair.question.lower())
        assert pair.origin == template.id


def test_links_are_filled_by_keys_and_columns_by_kind(harbour: Catalogue) -> None:
    case = next(case for case in cases() if case["case"] == "a join over a key")
    template = template_of(harbour_row(case), harbour, COMMON)
    for seed in range(40):
        try:
            pair = fill(Random(seed), template, harbour)
        except NoFit:
            continue
        assert re.search(r"(Ports JOIN Ships|Ships JOIN Crew|Sailors JOIN Crew)", pair.sql)
        compared = re.search(r"WHERE \w+\.(\w+) > [\d.]+$", pair.sql)
        assert compared and compared[1] in ("Tonnage", "Age", "Depth")


def test_words_of_few_databases_are_not_common() -> None:
    questions = {"a": "show the quay", "b": "show the dogs", "c": "show the cat", "d": "show city"}
    rows = [Row(name, name, question, "SELECT 1") for name, question in questions.items()]
    assert common_words(rows) == {"show", "the"}


def test_words_that_fit_some_things_only_are_never_common() -> None:
    rows = [Row(str(n), str(n), "who is the oldest", "SELECT 1") for n in range(5)]
    assert common_words(rows) == {"is", "the"}


@pytest.mark.parametrize(
    ("sql", "shape"),
    [
        ("SELECT a FROM t", "flat"),
        ("SELECT t.a FROM t JOIN u ON t.a = u.a", "join"),
        ("SELECT t.a FROM t JOIN u ON t.a = u.a JOIN v ON u.b = v.b", "joins"),
        ("SELECT a FROM t WHERE b > (SELECT AVG(b) FROM t)", "nested"),
        ("SELECT a FROM t UNION SELECT a FROM u", "nested"),
    ],
)
def test_shapes(sql: str, shape: str) -> None:
    assert shape_of(sql) == shape
