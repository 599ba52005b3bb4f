"""Rows from files: what each known set gives in each kind of file, and what is said of bad ones."""

import csv
import gzip
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.task.bundle import sha256_file
from eval.task.samples import FOLDER, sample_examples, sample_schema
from eval.task.schema import DdlError, Schema, parse_ddl
from trainer.pipeline.columns import KNOWN, MAPS
from trainer.pipeline.load import DataError, Loaded, load_source
from trainer.pipeline.row import Row, dump_schema
from trainer.pipeline.schemas import without_inserts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "train" / "load"
SCHEMAS = FIXTURES / "schemas"
HARBOUR = (SCHEMAS / "harbour.sql").read_text(encoding="utf-8")
DDL = "CREATE TABLE t (a INT)"

Json = dict[str, Any]


def cases(name: str) -> list[Json]:
    text = (FIXTURES / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


EXPECTED: Json = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
SETS = [name for name in EXPECTED if name != "own"]


def write_lines(path: Path, rows: Sequence[Json]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_gzip(path: Path, rows: Sequence[Json]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_table(path: Path, rows: Sequence[Json], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, Sequence[Json]], object]] = {
    ".jsonl": write_lines,
    ".jsonl.gz": write_gzip,
    ".JSON": lambda path, rows: path.write_text(json.dumps(rows, indent=1), encoding="utf-8"),
    ".json": write_lines,
    ".csv": write_table,
    ".tsv": lambda path, rows: write_table(path, rows, "\t"),
    ".parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(list(rows)), path),
}


def written(schema: Schema | None) -> str:
    assert schema is not None
    return " ".join(f"{t.name}({','.join(t.column_names)})" for t in schema.tables)


def check_expected(loaded: Loaded, name: str) -> None:
    rows = [[row.id, row.question, row.sql, written(row.schema)] for row in loaded.rows]
    assert rows == EXPECTED[name]["rows"]
    dropped = [[drop.id, drop.reason, drop.detail] for drop in loaded.dropped]
    assert dropped == EXPECTED[name]["dropped"]
    assert loaded.facts["form"] == EXPECTED[name]["form"]
    assert loaded.facts["rows read"] == len(rows) + len(dropped)


def save(folder: Path, *rows: Mapping[str, object], name: str = "rows.jsonl") -> str:
    write_lines(folder / name, [dict(row) for row in rows])
    return str(folder / name)


def row(**changes: object) -> Json:
    return {"question": "Q?", "sql": "SELECT a FROM t", "ddl": DDL} | changes


def only(loaded: Loaded) -> Row:
    assert loaded.dropped == []
    (found,) = loaded.rows
    return found


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", SETS)
def test_each_known_set_is_read_the_same_in_each_kind_of_file(name, suffix, tmp_path):
    path = tmp_path / f"{name}{suffix}"
    WRITERS[suffix](path, cases(f"{name}.jsonl"))
    loaded = load_source(str(path), schemas=SCHEMAS)
    check_expected(loaded, name)
    assert loaded.name == name
    assert {row.source for row in loaded.rows} == {name}
    assert loaded.sha256 == sha256_file(path)


def test_every_known_set_has_a_fixture_with_its_columns():
    fitting = [m.name for name in SETS for m in MAPS if m.fits(cases(f"{name}.jsonl")[0])]
    assert sorted(fitting) == sorted(known.name for known in KNOWN.values())


def test_spiders_own_files_are_read_though_their_sql_is_a_tree(tmp_path):
    path = tmp_path / "spider.json"
    rows = [case | {"sql": {"select": [False, []]}} for case in cases("spider.jsonl")]
    path.write_text(json.dumps(rows), encoding="utf-8")
    check_expected(load_source(str(path), schemas=SCHEMAS), "spider")


def test_the_projects_own_form_keeps_ids_and_sources():
    loaded = load_source(str(FIXTURES / "own.jsonl"))
    check_expected(loaded, "own")
    assert loaded.name == "harbour book"
    assert [row.source for row in loaded.rows] == ["harbour book", "own"]
    assert [row.dialect for row in loaded.rows] == ["sqlite", "sqlite"]


def test_an_id_that_is_given_stays_as_it_is(tmp_path):
    assert only(load_source(save(tmp_path, own()), schemas=SCHEMAS)).id == "1"
    assert only(load_source(save(tmp_path, row(id=7)))).id == "7"
    assert load_source(save(tmp_path, row(id=""), row(id=None))).rows[1].id == "rows-00002"


def test_the_own_form_is_read_from_a_table_too(tmp_path):
    path = tmp_path / "own.csv"
    write_table(path, [{**case, "alternatives": ""} for case in cases("own.jsonl")[:1]])
    assert only(load_source(str(path), schemas=SCHEMAS)).id == "quay-1"


def test_the_samples_are_the_projects_own_questions():
    loaded = load_source("samples")
    examples = sample_examples("train")
    assert [(r.id, r.sql) for r in loaded.rows] == [(e.id, e.sql) for e in examples]
    assert loaded.rows[0].schema == sample_schema(loaded.rows[0].db_id)
    assert (loaded.name, loaded.dropped) == ("sqlwright", [])
    assert loaded.sha256 == sha256_file(FOLDER / "train.jsonl")
    assert len(load_source("samples", split="test").rows) == len(sample_examples("test"))
    with pytest.raises(
        DataError, match=r"samples: no split '\.\./train'; there are train and test"
    ):
        load_source("samples", split="../train")


@pytest.mark.parametrize("case", cases("bad_files.jsonl"), ids=lambda case: case["error"][:60])
def test_what_is_wrong_with_a_file_is_said_with_its_line(case, tmp_path):
    path = tmp_path / case["file"]
    text = "[" * 100_000 if case["text"] == "[*100000" else case["text"]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as raised:
        load_source(str(path), schemas=SCHEMAS)
    assert str(raised.value) == f"{path}{case['error']}"


@pytest.mark.parametrize("case", cases("bad_columns.jsonl"), ids=lambda case: case["error"][:60])
def test_what_is_wrong_with_a_column_map_is_said(case, tmp_path):
    path = save(tmp_path, {"q": "Q?", "s": "SELECT a FROM t", "d": DDL})
    with pytest.raises(DataError) as raised:
        load_source(path, columns=case["columns"])
    assert str(raised.value) == f"{path}{case['error']}"


@pytest.mark.parametrize("case", cases("dropped.jsonl"), ids=lambda case: case["reason"])
def test_a_row_that_can_not_be_one_is_dropped_with_its_reason(case, tmp_path):
    roles = {name: name for name in case["row"]}
    loaded = load_source(save(tmp_path, case["row"], row(id="kept") | case["row"] | row(
        db_id="t", dialect="sqlite")), columns=roles)  # fmt: skip
    assert [r.question for r in loaded.rows] == ["Q?"]
    (drop,) = loaded.dropped
    assert (drop.id, drop.reason, drop.detail) == ("rows-00001", case["reason"], case["detail"])


def test_a_given_map_names_any_column(tmp_path):
    record = {"n": 5, "nl": "Q?", "hint": " H ", "out": "SELECT a FROM t", "tables": DDL,
              "lang": "MSSQL", "set": "mine", "junk": [1]}  # fmt: skip
    columns = {"number": "n", "question": "nl", "evidence": "hint", "sql": "out", "ddl": "tables",
               "dialect": "lang", "source": "set"}  # fmt: skip
    found = only(load_source(save(tmp_path, record), columns=columns))
    assert (found.id, found.question, found.dialect, found.source) == (
        "rows-5",
        "Q?\nH",
        "tsql",
        "mine",
    )


def test_a_given_map_overrules_the_strict_check(tmp_path):
    record = {"id": "1", "db_id": "harbour", "question": "Q?", "sql": "SELECT 1", "note": 1}
    columns = {"question": "question", "sql": "sql", "db_id": "db_id"}
    assert only(load_source(save(tmp_path, record), columns=columns, schemas=SCHEMAS))


def test_ddl_is_read_in_the_dialect_of_its_row(tmp_path):
    path = save(tmp_path, row(ddl="CREATE TABLE `a.b.t` (x INT64)"))
    assert written(only(load_source(path)).schema) == "a.b.t(x)"
    found = only(load_source(path, dialect="BQ"))
    assert (found.dialect, written(found.schema)) == ("bigquery", "t(x)")
    with pytest.raises(DataError, match="dialect: unknown dialect 'klingon'"):
        load_source(path, dialect="klingon")


def test_a_db_id_that_is_a_path_leads_to_no_file_outside(tmp_path):
    build(tmp_path / "secret.sqlite")
    path = save(tmp_path, row(db_id="../secret"))
    found = only(load_source(path, databases=SCHEMAS))
    assert (found.db_id, found.database) == ("../secret", "")


def test_the_same_tables_are_one_database_in_every_set_and_run(tmp_path):
    noisy = "create table t(a int); INSERT INTO t VALUES ('; DROP TABLE t');\n"
    rows = load_source(save(tmp_path, row(), row(ddl=noisy), row(ddl="CREATE TABLE u (a)"))).rows
    assert rows[0].db_id == rows[1].db_id == "ddl_53f08a605d90"
    assert rows[1].db_id != rows[2].db_id
    again = load_source(save(tmp_path, row(), row())).rows
    assert again[0].schema_json is again[1].schema_json


def test_a_limit_counts_kept_rows_and_ends_the_reading(tmp_path):
    path = save(tmp_path, row(ddl="x"), row(), row(), row(question=1))
    loaded = load_source(path, limit=2)
    assert (len(loaded.rows), len(loaded.dropped), loaded.facts["rows read"]) == (2, 1, 3)
    with pytest.raises(DataError, match="limit: must not be negative, is -1"):
        load_source(path, limit=-1)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"question,sql,ddl\nQ?,SELECT 1,{DDL}\n", encoding="utf-8-sig")
    assert only(load_source(str(path))).question == "Q?"


def test_a_field_may_be_as_long_as_a_ddl(tmp_path):
    write_table(tmp_path / "rows.csv", [row(ddl=f"{DDL} -- {'x' * 300_000}")])
    assert only(load_source(str(tmp_path / "rows.csv"))).sql == "SELECT a FROM t"


def test_text_in_parquet_that_is_not_utf8_is_said_with_its_row(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    good = pa.array(["x", "y"])
    pq.write_table(pa.table({"question": good, "sql": bad, "ddl": good}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet: row 2: column 'sql' is not UTF-8"):
        load_source(str(tmp_path / "rows.parquet"))


def test_what_is_no_source_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("nothing", "a/b/c", "data/none.jsonl", "", "hub:x"):
        with pytest.raises(DataError, match="no such file; a source is a path, a hub id ORG/NAME"):
            load_source(source)
    with pytest.raises(DataError, match="split 'dev' is asked for, but a file has no splits"):
        load_source(save(tmp_path, row()), split="dev")
    (tmp_path / "locked.jsonl").symlink_to(tmp_path / "locked.jsonl")
    with pytest.raises(DataError, match="no such file"):
        load_source("locked.jsonl")


def own(**changes: str) -> Json:
    return {"id": "1", "db_id": "harbour", "question": "Q?", "sql": "SELECT 1"} | changes


def build(path: Path, ddl: str = HARBOUR) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(ddl)
    return str(path)


@pytest.mark.parametrize(
    "place",
    [
        "databases/harbour.sqlite",
        "database/harbour/harbour.sqlite",
        "train_databases/harbour/harbour.sqlite",
    ],
)
def test_a_database_beside_the_file_gives_schema_and_judge(place, tmp_path):
    database = build(tmp_path / place)
    path = save(tmp_path, own(), own(id="2", dialect="postgres"))
    first, second = load_source(path).rows
    assert first.schema == parse_ddl(HARBOUR)
    assert (first.database, second.database) == (database, "")
    assert load_source(path).facts["rows with a database file"] == 1


def test_a_schema_file_goes_before_a_database(tmp_path):
    build(tmp_path / "databases" / "harbour.sqlite")
    path = save(tmp_path, own())
    for place in (tmp_path / "harbour.sql", tmp_path / "schemas" / "harbour.sql"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"CREATE TABLE {place.parent.name[:7]} (a INT)")
        tables = only(load_source(path)).schema
        assert tables and tables.tables[0].name == place.parent.name[:7]


def test_named_folders_go_before_those_beside_the_file(tmp_path):
    build(tmp_path / "databases" / "harbour.sqlite", "CREATE TABLE beside (a)")
    database = build(tmp_path / "other" / "harbour.sqlite")
    path = save(tmp_path, own())
    found = only(load_source(path, databases=tmp_path / "other"))
    assert (found.database, found.schema) == (database, parse_ddl(HARBOUR))
    with pytest.raises(
        DataError, match=r"no schema of 'harbour'; looked for \S+/other/harbour\.sq"
    ):
        load_source(path, schemas=tmp_path / "other", databases=SCHEMAS)
    with pytest.raises(DataError, match="databases: nowhere is no folder"):
        load_source(path, databases=Path("nowhere"))


def test_a_schema_that_is_nowhere_is_said_with_the_places(tmp_path):
    path = save(tmp_path, own())
    with pytest.raises(DataError) as raised:
        load_source(path)
    assert str(raised.value).startswith(
        f"{path}:1: no schema of 'harbour'; looked for {tmp_path}/schemas/harbour.sql, "
        f"{tmp_path}/harbour.sql, {tmp_path}/databases/harbour.sqlite, "
    )


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("harbour.sql", b"DROP TABLE x", "found DROP"),
        ("harbour.sql", b"\xff", "can't decode byte"),
        ("databases/harbour.sqlite", b"no database at all", "file is not a database"),
    ],
)
def test_a_schema_file_that_is_broken_is_said(place, text, said, tmp_path):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(text)
    with pytest.raises(DataError, match=f"{place}: .*{said}"):
        load_source(save(tmp_path, own()))


INSERTS = [
    ("CREATE TABLE t (a); INSERT INTO t VALUES (1);", "CREATE TABLE t (a);"),
    ("insert into t values ('it''s; -- x'); CREATE TABLE t (a)", " CREATE TABLE t (a)"),
    ("CREATE TABLE t (a DEFAULT '; INSERT x'); ", "CREATE TABLE t (a DEFAULT '; INSERT x'); "),
    ("CREATE TABLE t (a /* ; INSERT */); -- ; INSERT", None),
    ('CREATE TABLE "in;sert" (`a;"b`); INSERT INTO x SELECT 1', 'CREATE TABLE "in;sert" (`a;"b`);'),
    ("CREATE TABLE inserts (a); INSERTS", None),
    ("CREATE TABLE t (a); INSERT INTO t VALUES ('open)", None),
    ("CREATE TABLE t (a); INSERT INTO t VALUES ('it\\'s');", None),
    ("CREATE TABLE [a'b] (a); INSERT INTO t VALUES ('x');", None),
    ("", None),
]


@pytest.mark.parametrize(("ddl", "kept"), INSERTS)
def test_inserts_are_left_out_where_they_are_told_apart_for_sure(ddl, kept):
    assert without_inserts(ddl) == (ddl if kept is None else kept)


PIECES = [
    *"CREATE TABLE t ( a INT ) ; INSERT INTO VALUES 1 , - / * '' ''' \"x;\"".split(),
    *("INSERT INTO t VALUES ('a;b');", "CREATE TABLE u (a TEXT);", "-- x;\n", "/* ; */", "\\"),
]


def schema_of(ddl: str) -> str | None:
    try:
        return dump_schema(parse_ddl(ddl))
    except DdlError:
        return None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_a_ddl_that_parses_gives_the_same_schema_without_its_inserts(ddl):
    if (whole := schema_of(ddl)) is not None:
        assert schema_of(without_inserts(ddl)) == whole
