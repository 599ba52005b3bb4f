"""New names for tables and columns, in schema and query at once.

The changed query is bound again under the new schema: each identifier must stand for the same thing
as before, so that a name which an alias or another table has caught shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from eval.task.schema import Column, ForeignKey, Schema, Table
from trainer.pipeline.augment.bind import Key, UnboundError, bind, parse
from trainer.pipeline.augment.naming import is_plain
from trainer.pipeline.row import Row, dump_schema


@dataclass(frozen=True, slots=True)
class Renames:
    """New names by `Key`; what is not there stays."""

    names: Mapping[Key, str]

    def table(self, name: str) -> str:
        return self.names.get((name, ""), name)

    def column(self, table: str, name: str) -> str:
        return self.names.get((table, name), name)

    def of(self, key: Key) -> str:
        return self.column(*key) if key[1] else self.table(key[0])

    def moved(self, key: Key) -> Key:
        return self.table(key[0]), self.column(*key) if key[1] else ""


def rename_row(row: Row, names: Mapping[Key, str]) -> Row | None:
    """`row` under new names in schema and SQL; the question stays.

    None where nothing changes, where a name would be taken twice, needs quotes that it did not need
    before, or is caught by an alias, or where the query can't be followed. The copy has no database
    any more.
    """
    changed = {key: new for key, new in names.items() if new != (key[1] or key[0])}
    schema = row.schema
    is_writable = all(is_plain(n) or not is_plain(k[1] or k[0]) for k, n in changed.items())
    if schema is None or not changed or not is_writable:
        return None
    renames = Renames(changed)
    renamed = rename_schema(schema, renames)
    if renamed is None:
        return None
    try:
        sql = _rename_sql(row, schema, renamed, renames)
    except UnboundError:
        return None
    return row.with_(sql=sql, schema_json=dump_schema(renamed), database="")


def rename_schema(schema: Schema, renames: Renames) -> Schema | None:
    """`schema` under new names; None where two would be the same."""
    tables = tuple(_rename_table(table, schema, renames) for table in schema.tables)
    scopes = [[t.name for t in tables], *([*t.column_names] for t in tables)]
    if any(len({name.lower() for name in names}) < len(names) for names in scopes):
        return None
    return Schema(tables)


def _rename_table(table: Table, schema: Schema, renames: Renames) -> Table:
    def own(name: str) -> str:
        return renames.column(table.name, name)

    return Table(
        renames.table(table.name),
        tuple(Column(own(c.name), c.type) for c in table.columns),
        tuple(map(own, table.primary_key)),
        tuple(_rename_key(key, table, schema, renames) for key in table.foreign_keys),
    )


def _rename_key(key: ForeignKey, table: Table, schema: Schema, renames: Renames) -> ForeignKey:
    target = schema.find(key.table)
    name = target.name if target else key.table
    return ForeignKey(
        tuple(renames.column(table.name, column) for column in key.columns),
        renames.table(name),
        tuple(renames.column(name, column) for column in key.references),
    )


def _rename_sql(row: Row, schema: Schema, renamed: Schema, renames: Renames) -> str:
    """The query under new names.

    Raises:
        UnboundError: a name is caught, or can't be followed.
    """
    tree = parse(row.sql, row.dialect)
    binding = bind(tree, schema)
    if {name.lower() for name in renames.names.values()} & _own_names(tree):
        raise UnboundError("a new name is an alias of the query")
    wanted = []
    for identifier, origin in binding.names:
        new = {renames.of(key) for key in origin}
        if len(new) > 1:
            raise UnboundError("merged columns part")
        if new and any(renames.of(key) != (key[1] or key[0]) for key in origin):
            name = new.pop()
            identifier.set("this", name)
            identifier.set("quoted", not is_plain(name))
        wanted.append(tuple(renames.moved(key) for key in origin))
    sql = tree.sql(row.dialect, comments=False)
    again = bind(parse(sql, row.dialect), renamed)
    if [origin for _, origin in again.names] != wanted:
        raise UnboundError("a new name is caught")
    return sql


def _own_names(tree: exp.Query) -> set[str]:
    """Aliases and CTE names, in lower case."""
    names = {alias.alias.lower() for alias in tree.find_all(exp.Alias)}
    for alias in tree.find_all(exp.TableAlias):
        names.add(alias.name.lower())
        names.update(column.name.lower() for column in alias.columns)
    return names
