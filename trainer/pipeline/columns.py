"""What the columns of a data set mean: the maps of the usual sets, and of one that a recipe gives.

Knows nothing of files or schemas: a record in, its texts under the names of their roles out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainer.pipeline.row import Drop
from trainer.pipeline.source import DataError

# `number` is an id that other sets may have as well.
ROLES = tuple("question sql ddl db_id id number dialect source evidence instruction".split())
NUMBERS = frozenset({"id", "number", "db_id"})
# The parts of an Alpaca-style prompt.
INSTRUCTION, INPUT, RESPONSE = "### Instruction:", "### Input:", "### Response:"
REMEDY = "columns: {question: COLUMN, sql: COLUMN, ddl: COLUMN}"


@dataclass(frozen=True)
class Texts:
    """What a record says, "" where it says nothing."""

    question: str
    sql: str
    ddl: str = ""
    db_id: str = ""
    id: str = ""
    number: str = ""
    dialect: str = ""
    source: str = ""


@dataclass(frozen=True)
class ColumnMap:
    """Which column plays which role. `needed` must be there, `optional` is read where it is, and
    `unused` are the other columns that such a set has."""

    name: str
    needed: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()

    def fits(self, columns: Iterable[str]) -> bool:
        """True if `columns` are those of such a set, but for some that aren't needed."""
        known = {*self.needed.values(), *self.optional.values(), *self.unused}
        return self.is_readable(columns) and known.issuperset(columns)

    def is_readable(self, columns: Iterable[str]) -> bool:
        return set(self.needed.values()) <= set(columns)

    def roles(self, columns: Iterable[str]) -> dict[str, str]:
        """The column of each role, for a set of these columns."""
        there = set(columns)
        optional = {role: column for role, column in self.optional.items() if column in there}
        return {**self.needed, **optional}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _same(*roles: str) -> dict[str, str]:
    return {role: role for role in roles}


OWN = ColumnMap(
    "example",
    _same("question", "sql", "db_id"),
    _same("id", "dialect", "source", "ddl"),
    _words("alternatives"),
)
OWN_WITH_DDL = ColumnMap(
    "example with DDL", _same("question", "sql", "ddl"), _same("id", "dialect", "source")
)
# The dictionary keys are hub ids. Columns as the cards and viewers of the sets list them.
KNOWN = {
    "b-mc2/sql-create-context": ColumnMap(
        "sql-create-context", {"question": "question", "sql": "answer", "ddl": "context"}
    ),
    "ChrisHayduk/Llama-2-SQL-Dataset": ColumnMap(
        "Llama-2-SQL-Dataset", {"instruction": "input", "sql": "output"}
    ),
    "gretelai/synthetic_text_to_sql": ColumnMap(
        "synthetic_text_to_sql",
        {"question": "sql_prompt", "sql": "sql", "ddl": "sql_context"},
        {"number": "id"},
        _words(
            """
            domain domain_description sql_complexity sql_complexity_description sql_task_type
            sql_task_type_description sql_explanation
            """
        ),
    ),
    # The original files hold in `sql` the tree of `query`, the hub does not.
    "xlangai/spider": ColumnMap(
        "spider",
        {"question": "question", "sql": "query", "db_id": "db_id"},
        unused=_words("query_toks query_toks_no_value question_toks sql"),
    ),
    "birdsql/bird23-train-filtered": ColumnMap(
        "bird",
        {"question": "question", "sql": "SQL", "db_id": "db_id", "evidence": "evidence"},
        {"number": "question_id"},
        _words("difficulty"),
    ),
}
MAPS = (
    OWN,
    ColumnMap(
        "example with ddl", _same("question", "sql", "ddl"), _same("id", "dialect", "source")
    ),
    *KNOWN.values(),
)


def choose_map(
    columns: Iterable[str],
    *,
    given: Mapping[str, str] | None = None,
    hub_id: str = "",
    where: str = "",
) -> ColumnMap:
    """The map that reads a set of these columns: the recipe's, the hub id's or that of a known set
    with the same columns.

    Raises:
        DataError: none fits, or several do; lists the columns and shows how to name them.
    """
    found = tuple(columns)
    if given is not None:
        return _check(_given(given, where), found, where)
    if hub_id in KNOWN:
        return _check(KNOWN[hub_id], found, where)
    fitting = [known for known in MAPS if known.fits(found)]
    if len(fitting) == 1:
        return fitting[0]
    raise DataError(f"{where}: {_unfitting(found, len(fitting) > 1)}")


def _given(given: Mapping[str, str], where: str) -> ColumnMap:
    for role, column in given.items():
        if role not in ROLES:
            raise DataError(f"{where}: columns: unknown key {role!r}; known: {', '.join(ROLES)}")
        if not isinstance(column, str) or not column:
            raise DataError(f"{where}: columns: {role}: must be a column's name, is {column!r}")
    if "sql" not in given or ("question" in given) == ("instruction" in given):
        raise DataError(
            f"{where}: columns: name `sql`, and either `question` or `instruction` (a prompt that "
            f"holds question and DDL): {REMEDY}"
        )
    if not given.keys() & {"ddl", "db_id", "instruction"}:
        raise DataError(f"{where}: columns: name `ddl` or `db_id`, which says what the tables are")
    return ColumnMap("given", dict(given))


def _check(chosen: ColumnMap, found: tuple[str, ...], where: str) -> ColumnMap:
    if missing := [column for column in chosen.needed.values() if column not in found]:
        raise DataError(
            f"{where}: no column {missing[0]!r} (of the map {chosen.name!r}); found: "
            f"{', '.join(found)}; say which to read: {REMEDY}"
        )
    return chosen


def _unfitting(found: tuple[str, ...], is_ambiguous: bool) -> str:
    near = [known for known in MAPS if known.is_readable(found)]
    written = [_written(known.roles(found)) for known in near] or [REMEDY]
    kind = "fit several known sets" if is_ambiguous else "are of no known set"
    return f"its columns {kind}: {', '.join(found)}; say what they hold: {' or '.join(written)}"


def _written(roles: Mapping[str, str]) -> str:
    return "columns: {" + ", ".join(f"{role}: {column}" for role, column in roles.items()) + "}"


def read_texts(
    record: Mapping[str, object], roles: Mapping[str, str], *, where: str
) -> Texts | Drop:
    """The texts of a record, or why it has none that can be used: a missing value, a NUL, half of
    a surrogate pair, a prompt without its parts.

    Raises:
        DataError: the record lacks a column, or a value is no text.
    """
    found = {role: _text(record, role, column, where) for role, column in roles.items()}
    for role in ("question", "sql", "instruction"):
        if role in roles and found[role] is None:
            return Drop("missing_value", f"no value in column {roles[role]!r}")
    texts = {role: text or "" for role, text in found.items()}
    for role, text in texts.items():
        if reason := unwritable(text):
            return Drop(reason, f"in column {roles[role]!r}")
    if "instruction" in texts and (drop := _split_instruction(texts)):
        return drop
    if evidence := texts.pop("evidence", "").strip():
        texts["question"] = f"{texts['question']}\n{evidence}"
    return Texts(**texts)


def _text(record: Mapping[str, object], role: str, column: str, where: str) -> str | None:
    value = record.get(column)
    if value is None:
        if column not in record:
            raise DataError(f"{where}: no column {column!r}; found: {', '.join(record)}")
        return None
    if isinstance(value, str):
        return value
    if role in NUMBERS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: column {column!r} must be text, is {type(value).__name__}")


def unwritable(text: str) -> str:
    """Why `text` can't stand in a file or a query: "nul", "lone_surrogate", or "" where it can."""
    if "\0" in text:
        return "nul"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "lone_surrogate"
    return ""


def _split_instruction(texts: dict[str, str]) -> Drop | None:
    """Put the parts of the prompt under `question` and `ddl`.

    The prompts of ChrisHayduk/Llama-2-SQL-Dataset are of this form, with empty lines between:
    "Below is an instruction that describes a SQL generation task, … ### Instruction: QUESTION
    ### Input: CREATE TABLE … ### Response:".
    """
    _, start, rest = texts.pop("instruction").partition(INSTRUCTION)
    question, middle, rest = rest.partition(INPUT)
    ddl, end, after = rest.partition(RESPONSE)
    if not (start and middle and end) or after.strip():
        parts = f"{INSTRUCTION} … {INPUT} … {RESPONSE}"
        return Drop("unreadable_instruction", f"the prompt must be of the form {parts}")
    texts |= {"question": question.strip(), "ddl": ddl.strip()}
    return None
