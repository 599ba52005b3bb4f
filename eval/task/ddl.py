"""Tables from the statements of DDL, by sqlglot: CREATE TABLE, and COMMENT in its several forms.

Knows nothing of limits on a schema (see `tables.py`) nor of SQLite's own parser (see `schema.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements
from eval.task.tables import MAX_COMMENT, Column, DdlError, ForeignKey, Table, one_line

MAX_DDL_BYTES = 512 * 1024
MAX_DDL_TOKENS = 200_000
COMMENT_MARKS = (exp.CommentColumnConstraint, exp.SchemaCommentProperty)
TypeName = Callable[[exp.Expr], str]


def tables_of_ddl(ddl: str, dialect: str) -> list[Table]:
    """The tables that `ddl` creates, with the comments that it puts on them.

    Raises:
        DdlError: it can't be parsed, or holds another statement than those that are read.
    """
    statements = _statements(ddl, dialect)
    name_of_type = type_names()
    tables = [t for s in statements if (t := _table_of(s, name_of_type))]
    comments = [s for s in statements if isinstance(s, exp.Comment)]
    return _with_comments(tables, comments) if comments else tables


def type_names() -> TypeName:
    """A function that writes a type as prompts show it: lower case, in sqlglot's own spelling."""
    generator = Dialect().generator(comments=False)

    def name_of_type(kind: exp.Expr) -> str:
        return one_line(generator.generate(kind, copy=False)).lower()

    return name_of_type


def _statements(ddl: str, dialect: str) -> list[exp.Expr]:
    limits = {"max_bytes": MAX_DDL_BYTES, "max_tokens": MAX_DDL_TOKENS}
    try:
        return parse_statements(ddl, dialect, **limits)
    except SqlglotError as error:
        raise DdlError(f"the DDL can't be parsed as {dialect}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _table_of(statement: exp.Expr, name_of_type: TypeName) -> Table | None:
    """The table that a statement creates; None for INSERT, CREATE INDEX and COMMENT."""
    is_create = isinstance(statement, exp.Create)
    if is_create and statement.args["kind"] == "INDEX":
        return None
    if isinstance(statement, exp.Insert | exp.Comment):
        return None
    if isinstance(statement, exp.Command):  # what sqlglot does not parse, it keeps as text
        start = one_line(f"{statement.name} {statement.text('expression')}", 60)
        raise DdlError(f"only CREATE TABLE of the dialect given is read; found {start}")
    body = statement.this if is_create and statement.args["kind"] == "TABLE" else None
    if not isinstance(body, exp.Schema):
        raise DdlError(f"only CREATE TABLE with columns is read; found {statement.key.upper()}")
    kinds = (exp.ColumnDef, exp.Identifier)  # a column without a type is but a name
    columns = tuple(
        _column_of(c, name_of_type)
        for c in body.expressions
        if isinstance(c, kinds) and not _is_index(c)
    )
    if not columns:
        raise DdlError(f"table {body.this.name[:80]!r} has no columns")
    properties = statement.args.get("properties")
    return Table(
        body.this.name,
        columns,
        _primary_key(body),
        tuple(_foreign_keys(body)),
        _comment(properties.expressions if properties else ()),
    )


def _is_index(definition: exp.Expr) -> bool:
    """True for MySQL's `KEY name (column)`, which other dialects take for a column `KEY`."""
    kind = definition.args.get("kind")
    if (
        not kind
        or definition.name.upper() not in ("KEY", "INDEX")
        or definition.this.args.get("quoted")
    ):
        return False
    of = [part.this for part in kind.expressions]
    return kind.this == exp.DType.USERDEFINED and not all(isinstance(p, exp.Literal) for p in of)


def _column_of(definition: exp.Expr, name_of_type: TypeName) -> Column:
    kind = definition.args.get("kind")
    constraints = definition.args.get("constraints") or ()
    marks = [mark for c in constraints if (mark := c.args.get("kind"))]
    # A comment first: what names a type may change the tree.
    comment = _comment(marks)
    return Column(definition.name, name_of_type(kind) if kind else "", comment)


def _comment(marks: Iterable[exp.Expr]) -> str:
    """The comment among a column's constraints or a table's properties; "" where there is none."""
    for mark in marks:
        if isinstance(mark, COMMENT_MARKS):
            return one_line(mark.name, MAX_COMMENT)
        if isinstance(mark, exp.Properties):  # BigQuery: OPTIONS (description = 'x')
            return _comment(mark.expressions)
        if isinstance(mark, exp.Property) and mark.name.lower() == "description":
            return one_line(mark.text("value"), MAX_COMMENT)
    return ""


def _with_comments(tables: list[Table], comments: list[exp.Comment]) -> list[Table]:
    """The tables with what COMMENT ON says of them; of anything else it may say what it likes."""
    found: dict[tuple[str, str], str] = {}
    for comment in comments:
        text = one_line(comment.expression.name, MAX_COMMENT)
        target = comment.this
        if comment.args["kind"] == "TABLE":
            found[target.name.lower(), ""] = text
        elif comment.args["kind"] == "COLUMN" and isinstance(target, exp.Column):
            found[target.table.lower(), target.name.lower()] = text

    def commented(table: Table) -> Table:
        own = table.name.lower()
        columns = tuple(
            replace(c, comment=found.get((own, c.name.lower()), c.comment)) for c in table.columns
        )
        return replace(table, columns=columns, comment=found.get((own, ""), table.comment))

    return [commented(table) for table in tables]


def _primary_key(body: exp.Schema) -> tuple[str, ...]:
    for key in body.find_all(exp.PrimaryKey):
        return tuple(_identifier(part) for part in key.expressions)
    names: list[str] = []
    for mark in body.find_all(exp.PrimaryKeyColumnConstraint):
        if column := mark.find_ancestor(exp.ColumnDef):
            names.append(column.name)
        elif mark.parent:  # T-SQL: CONSTRAINT pk PRIMARY KEY CLUSTERED (a, b)
            names += [part.name for part in mark.parent.find_all(exp.Column)]
    return tuple(names)


def _identifier(part: exp.Expr) -> str:
    found = part.find(exp.Identifier)
    return found.name if found else part.name


def _foreign_keys(body: exp.Schema) -> Iterator[ForeignKey]:
    for key in body.find_all(exp.ForeignKey, bfs=False):
        if reference := key.args.get("reference"):
            yield _reference(tuple(_identifier(c) for c in key.expressions), reference)
    for definition in body.find_all(exp.ColumnDef):
        if inline := definition.find(exp.Reference):
            yield _reference((definition.name,), inline)


def _reference(columns: tuple[str, ...], reference: exp.Expr) -> ForeignKey:
    target = reference.this
    if isinstance(target, exp.Schema):
        return ForeignKey(columns, target.this.name, tuple(map(_identifier, target.expressions)))
    return ForeignKey(columns, target.name, ())
