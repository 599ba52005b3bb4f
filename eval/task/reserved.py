"""Words that an engine takes for its own where a name stands without quotes.

sqlglot reads `SELECT user FROM t` as a column; PostgreSQL gives the name of the role. So such a
name is quoted, in the case that the engine would have folded it to. Lists for SQLite 3.40,
PostgreSQL 15 and MariaDB 10.11 by trial of each keyword as a column, alias and table.
"""

from functools import cache

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from eval.task.scope import fold_of

WORDS = {
    "sqlite": """
    add all alter and as autoincrement between case cast check collate commit constraint create
    current_date current_time current_timestamp default deferrable delete distinct drop else
    escape except exists false foreign from group having in index insert intersect into is
    isnull join limit not nothing notnull null on or order primary raise recursive references
    returning select set table then to transaction true union unique update using values when
    where
    """,
    "postgres": """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast
    check collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user default
    deferrable desc distinct do else end except false fetch for foreign freeze from full grant
    group having ilike in initially inner intersect into is isnull join lateral leading left
    like limit localtime localtimestamp natural not notnull null offset on only or order outer
    overlaps placing primary references returning right select session_user similar some
    symmetric table tablesample then to trailing true union unique user using variadic verbose
    when where window with
    """,
    "mysql": """
    accessible add all alter analyze and as asc asensitive before between bigint binary blob
    both by call cascade case change char character check collate column condition constraint
    continue convert create cross cube cume_dist current_date current_role current_time
    current_timestamp current_user cursor databases day_hour day_microsecond day_minute
    day_second dec decimal declare default delayed delete delete_domain_id dense_rank desc
    describe deterministic distinct distinctrow div do_domain_ids double drop each else
    elseif empty enclosed escaped except exists exit explain false fetch first_value float
    float4 float8 for force foreign from fulltext function grant group grouping groups having
    high_priority hour_microsecond hour_minute hour_second if ignore ignore_domain_ids in index
    infile inner inout insensitive insert int int1 int2 int3 int4 int8 integer intersect
    interval into is iterate join json_table key keys kill lag last_value lateral lead leading
    leave left like limit linear lines load localtime localtimestamp lock long longblob longtext
    loop low_priority master_demote_to_replica master_demote_to_slave
    master_ssl_verify_server_cert match maxvalue mediumblob mediumint mediumtext middleint
    minute_microsecond minute_second mod modifies natural no_write_to_binlog not nth_value ntile
    null numeric of offset on optimize optionally or order out outer outfile over page_checksum
    parse_vcol_expr partition percent_rank portion precision primary procedure purge range rank
    read read_write reads real recursive ref_system_id references regexp release rename repeat
    replace require resignal restrict return returning revoke right rlike rollup row row_number
    rows schemas second_microsecond select sensitive separator set show signal smallint spatial
    specific sql sql_big_result sql_buffer_result sql_cache sql_calc_found_rows sql_no_cache
    sql_small_result sqlexception sqlstate sqlwarning ssl starting stats_auto_recalc
    stats_persistent stats_sample_pages straight_join system table terminated then tinyblob
    tinyint tinytext to trailing trigger true undo union unique unlock unsigned update usage use
    using utc_date utc_time utc_timestamp values varbinary varchar varcharacter varying when
    where while window with write xor year_month zerofill
    """,
    "tsql": """
    add all alter and any as asc authorization backup begin between break browse bulk by cascade
    case check checkpoint close clustered coalesce collate column commit compute constraint
    contains containstable continue convert create cross current current_date current_time
    current_timestamp current_user cursor database dbcc deallocate declare default delete deny
    desc disk distinct distributed double drop dump else end errlvl escape except exec execute
    exists exit external fetch file fillfactor for foreign freetext freetexttable from full
    function goto grant group having holdlock identity identity_insert identitycol if in index
    inner insert intersect into is join key kill left like lineno load merge national nocheck
    nonclustered not null nullif of off offsets on open opendatasource openquery openrowset
    openxml option or order outer over percent pivot plan precision primary print proc procedure
    public raiserror read readtext reconfigure references replication restore restrict return
    revert revoke right rollback rowcount rowguidcol rule save schema securityaudit select
    session_user set setuser shutdown some statistics system_user table tablesample textsize
    then to top tran transaction trigger truncate try_convert tsequal union unique unpivot
    update updatetext use user values varying view waitfor when where while with within
    writetext
    """,
    "oracle": """
    access add all alter and any as asc audit between by char check cluster column comment
    compress connect create current date decimal default delete desc distinct drop else
    exclusive exists file float for from grant group having identified immediate in increment
    index initial insert integer intersect into is level like lock long maxextents minus
    mlslabel mode modify noaudit nocompress not nowait null number of offline on online option
    or order pctfree prior public raw rename resource revoke row rowid rows select session set
    share size smallint start successful synonym sysdate systimestamp table then to trigger uid
    union unique update user validate values varchar varchar2 view whenever where with
    """,
}
# They begin a statement or a clause somewhere: no text that passed holds them without quotes.
STATEMENTS = frozenset(
    """
    alter attach call copy create delete detach drop dumpfile exec execute format grant handler
    insert into merge outfile pragma revoke settings transform truncate unload update vacuum
    """.split()
)
FAMILIES = {"materialize": "postgres", "risingwave": "postgres", "doris": "mysql"}


def quote_reserved(tree: exp.Expr, dialect: str) -> None:
    """Quote the names of `tree` that are reserved words in `dialect`."""
    words, fold = _reserved(dialect), fold_of(dialect) or str
    for name in tree.find_all(exp.Identifier):
        if not name.args.get("quoted") and name.name.lower() in words:
            name.set("this", fold(name.name))
            name.set("quoted", True)


@cache
def _reserved(dialect: str) -> frozenset[str]:
    """The dialect's own words; where nobody listed them, sqlglot's and PostgreSQL's, which are
    mostly the standard's."""
    own = WORDS.get(FAMILIES.get(dialect, dialect))
    known = getattr(Dialect.get_or_raise(dialect).generator_class, "RESERVED_KEYWORDS", ())
    words = {word.lower() for word in known}
    return STATEMENTS | words | set((own or WORDS["postgres"]).split())
