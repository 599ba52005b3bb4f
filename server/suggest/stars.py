"""SELECT *: which columns it means."""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.schema import Table
from eval.task.trees import Edit, edited
from server.suggest.reading import Reading, identifier, readings
from server.suggest.suggestion import Draft, Kind, Known

MESSAGE = (
    "SELECT * reads every column, and its answer changes with the schema: "
    "name the columns that are needed."
)


def select_star(tree: exp.Query, known: Known) -> Iterator[Draft]:
    for reading in readings(tree, known.schema):
        select = reading.select
        if select.is_star and not select.find_ancestor(exp.Exists):
            columns = _expanded(reading, known.dialect)
            rewrite = None
            if columns is not None:
                rewrite = edited(tree, select, _showing(columns))
            star = next(item for item in select.expressions if item.is_star)
            yield Draft(Kind.SELECT_STAR, MESSAGE, star, rewrite)


def _showing(columns: list[exp.Expr]) -> Edit:
    return lambda select: select.set("expressions", columns)


def _expanded(reading: Reading, dialect: str) -> list[exp.Expr] | None:
    """The select list with each star replaced; None where its columns aren't known."""
    if not reading.is_clear:
        return None
    found: list[exp.Expr] = []
    for item in reading.select.expressions:
        if not item.is_star:
            found.append(item.copy())
        elif item.args.get("except_") or item.args.get("replace") or item.args.get("rename"):
            return None
        else:
            wanted = item.table.lower() if isinstance(item, exp.Column) else ""
            for alias in reading.sources if not wanted else [wanted]:
                columns = _columns(reading, alias, dialect)
                if columns is None:
                    return None
                found += columns
    return found


def _columns(reading: Reading, alias: str, dialect: str) -> list[exp.Expr] | None:
    source = reading.sources.get(alias)
    if isinstance(source, Table):
        listed = source.column_names
    elif source is None or source.is_star or not all(source.named_selects):
        return None
    else:
        listed = tuple(source.named_selects)
    if len(reading.sources) == 1:
        return [exp.column(identifier(name, dialect)) for name in listed]
    return [reading.column((alias, name.lower()), dialect) for name in listed]
