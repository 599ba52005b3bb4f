"""Generated rows: keys, links and kinds of values are those of the original."""

from pathlib import Path

import pytest

from eval.suite.generate import generate
from tests.unit.suites import AIRLINE, GOLDS, airline, make_database, rows_of, source_of

SEEDS = [str(seed) for seed in range(8)]

ODD = """
CREATE TABLE "odd ""table" ("a b" INTEGER, "select" TEXT, PRIMARY KEY ("a b", "select"));
CREATE TABLE keyless (x INT, y);
CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER,
    FOREIGN KEY (parent) REFERENCES node(id));
CREATE TABLE egg (id INTEGER PRIMARY KEY, hen INTEGER, FOREIGN KEY (hen) REFERENCES hen(id));
CREATE TABLE hen (id INTEGER PRIMARY KEY, egg INTEGER, FOREIGN KEY (egg) REFERENCES egg(id));
CREATE TABLE empty_one (id INTEGER PRIMARY KEY, price REAL, note TEXT);
"""
ODD_ROWS = """
INSERT INTO "odd ""table" VALUES (1, 'p'), (1, 'q'), (2, 'p');
INSERT INTO keyless VALUES (1, 'n/a'), ('many', 2.5), (3, x'00ff');
INSERT INTO node VALUES (1, NULL), (2, 1), (3, 1), (4, 2);
INSERT INTO egg VALUES (1, 1), (2, 2);
INSERT INTO hen VALUES (1, 2), (2, 1);
"""
ODD_GOLDS = (
    'SELECT "select" FROM "odd ""table" WHERE "a b" = 1',
    "SELECT count(*) FROM keyless WHERE x = 'many'",
    "SELECT n.id FROM node AS n JOIN node AS m ON n.parent = m.id WHERE m.id > 1",
    "SELECT egg.id FROM egg JOIN hen ON egg.hen = hen.id WHERE hen.egg = 5",
    "SELECT note FROM empty_one WHERE price BETWEEN 1.5 AND 2 OR note LIKE '%so'",
)


def generated(folder: Path, seed: str, *golds: str) -> Path:
    source = source_of(airline(folder), AIRLINE, *(golds or GOLDS))
    path = folder / "generated.sqlite"
    generate(source, path, focus=source.golds, seed=seed)
    return path


@pytest.mark.parametrize("seed", SEEDS)
def test_children_have_parents_and_columns_without_nulls_or_repeats_stay_so(tmp_path, seed):
    path = generated(tmp_path, seed)
    orphans = "SELECT * FROM flight WHERE pilot_id NOT IN (SELECT id FROM pilot)"
    assert rows_of(path, orphans) == []
    assert rows_of(path, "SELECT * FROM pilot WHERE name IS NULL OR age IS NULL") == []
    assert rows_of(path, "SELECT name FROM pilot GROUP BY name HAVING count(*) > 1") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_values_keep_the_kind_and_format_of_the_original(tmp_path, seed):
    path = generated(tmp_path, seed)
    kinds = "SELECT DISTINCT typeof(id), typeof(name), typeof(age) FROM pilot"
    assert rows_of(path, kinds) == [("integer", "text", "integer")]
    day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    assert rows_of(path, f"SELECT born FROM pilot WHERE NOT born GLOB '{day}'") == []


def test_the_same_seed_makes_the_same_rows_and_another_one_others(tmp_path):
    seen = []
    for number, seed in enumerate(["1", "1", "2"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen.append(rows_of(generated(folder, seed), "SELECT * FROM pilot"))
    assert seen[0] == seen[1] != seen[2]


def test_rows_are_planted_at_and_beside_the_edge_of_a_condition(tmp_path):
    gold = "SELECT name FROM pilot WHERE age > 77"
    ages: set[object] = set()
    for seed in SEEDS:
        (tmp_path / seed).mkdir()
        path = generated(tmp_path / seed, seed, gold)
        ages |= {age for (age,) in rows_of(path, "SELECT age FROM pilot")}
    assert {77, 78} <= ages


def test_groups_get_the_sizes_that_having_asks_for(tmp_path):
    gold = "SELECT base FROM pilot GROUP BY base HAVING count(*) >= 20"
    largest = []
    for seed in SEEDS:
        (tmp_path / seed).mkdir()
        path = generated(tmp_path / seed, seed, gold)
        largest += rows_of(path, "SELECT count(*) FROM pilot GROUP BY base ORDER BY 1 DESC LIMIT 1")
    assert any(20 <= size <= 25 for (size,) in largest if isinstance(size, int))


@pytest.mark.parametrize("seed", SEEDS)
def test_odd_schemas_are_filled(tmp_path, seed):
    original = make_database(tmp_path / "odd.sqlite", ODD, ODD_ROWS)
    path = tmp_path / "generated.sqlite"
    source = source_of(original, ODD, *ODD_GOLDS)
    generate(source, path, focus=ODD_GOLDS, seed=seed)
    for table in ('"odd ""table"', "keyless", "node", "egg", "hen", "empty_one"):
        assert rows_of(path, f"SELECT count(*) FROM {table}") > [(0,)]
    lonely = "SELECT * FROM node WHERE parent NOT IN (SELECT id FROM node)"
    assert rows_of(path, lonely) == []


def test_a_column_that_follows_from_another_goes_on_following(tmp_path):
    ddl = "CREATE TABLE visit (id INTEGER PRIMARY KEY, city TEXT, country TEXT, days INTEGER);"
    cities = [("Oslo", "Norway"), ("Bergen", "Norway"), ("Rome", "Italy"), ("Lima", "Peru")]
    rows = ", ".join(
        f"({n}, '{cities[n % 4][0]}', '{cities[n % 4][1]}', {n % 5})" for n in range(16)
    )
    original = make_database(tmp_path / "o.sqlite", ddl, f"INSERT INTO visit VALUES {rows};")
    gold = "SELECT city FROM visit WHERE country = 'Norway'"
    for seed in SEEDS:
        path = tmp_path / f"{seed}.sqlite"
        generate(source_of(original, ddl, gold), path, focus=[gold], seed=seed)
        doubtful = "SELECT city FROM visit GROUP BY city HAVING count(DISTINCT country) > 1"
        assert rows_of(path, doubtful) == []


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1e400", "9223372036854775807"])
def test_numbers_beyond_all_bounds_are_not_planted(tmp_path, number):
    gold = f"SELECT name FROM pilot WHERE id > {number} OR age = {number}"
    path = generated(tmp_path, "1", gold)
    assert rows_of(path, "SELECT count(*) FROM pilot") > [(0,)]


def test_a_gold_that_can_not_be_read_plants_nothing_and_hurts_nothing(tmp_path):
    path = generated(tmp_path, "1", "SELECT 'x", "", "SELECT * FROM nowhere WHERE a = 1")
    assert rows_of(path, "SELECT count(*) FROM pilot") > [(0,)]
