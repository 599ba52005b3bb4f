"""The functions that a query may call, by name: an allow-list, since no deny-list is ever complete.

sqlglot types the functions that it knows (`exp.Count`) and leaves others `Anonymous`; both kinds
are looked up here, by the typed class's key or by the written name.
"""

from sqlglot import exp

# Keys of sqlglot's typed functions that have no side effects and reach no file, network, session.
TYPED = frozenset(
    """
    abs acos and any approxdistinct array arrayagg asin atan atan2 avg between bitwiseand
    bitwiseor cast cbrt ceil chr coalesce collate concat concatws contains corr cos count
    countif covarpop covarsamp cumedist currentdate currenttime currenttimestamp date dateadd
    datediff datestrtodate datesub datetrunc day dayofmonth dayofweek dayofweekiso dayofyear
    degrees denserank distinct endswith exists exp extract firstvalue floor format greatest
    groupconcat hex hour if in initcap instr interval isnan jsonextract jsonextractscalar lag
    lastday lastvalue lead least left length like ilike ln log lower lpad ltrim makeinterval max
    median min minute mod month normalize nthvalue ntile nullif nvl2 or pad percentilecont
    percentiledisc percentrank pi pow quarter radians rank regexplike repeat replace reverse
    right round rownumber rpad rtrim second sign sin soundex split splitpart sqrt startswith
    stddev stddevpop stddevsamp stringtoarray strposition strtodate strtotime substring
    substringindex sum tan timestampadd timestampdiff timestampsub timestamptrunc timetostr
    tochar tonumber translate trim trunc trycast tsordstodate tsordstodatestr tsordstotimestamp
    tsordsadd tsordsdiff typeof unicode unixdate unixtotime upper variance variancepop week
    weekofyear year case xor
    """.split()
)

# Those of them that SQLite lacks in whatever spelling sqlglot gives them there.
NOT_IN_SQLITE = frozenset(
    """
    approxdistinct array arrayagg cbrt contains corr covarpop covarsamp datesub datetrunc day
    dayofmonth dayofweek dayofweekiso dayofyear endswith extract hour initcap isnan lastday left
    makeinterval median minute month normalize pad percentilecont percentiledisc quarter regexplike
    repeat reverse right second split splitpart startswith stddev stddevpop stddevsamp
    stringtoarray strtodate strtotime substringindex timestampadd timestampdiff timestampsub
    timestamptrunc translate tsordsadd tsordsdiff tsordstodatestr unixtotime variance variancepop
    week weekofyear xor year
    """.split()
)

# Names that sqlglot leaves untyped, by dialect.
NAMED = {
    "sqlite": frozenset(
        """
    date datetime time julianday strftime unixepoch timediff printf format total char hex nullif
    instr ltrim rtrim round sign soundex unicode quote iif ifnull like glob acos acosh asin
    asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow
    power radians sin sinh sqrt tan tanh trunc octet_length concat concat_ws json_extract
    json_array_length
    """.split()
    ),
    "postgres": frozenset(
        """
    age date_part date_trunc to_char to_date btrim char_length
    """.split()
    ),
    "mysql": frozenset(
        """
    curdate curtime now date_format str_to_date dayname monthname field elt truncate
    """.split()
    ),
}


def is_allowed_function(function: exp.Func, dialect: str) -> bool:
    """True if `function` (any node of a call) may be called in `dialect`."""
    if isinstance(function, exp.Anonymous):
        return function.name.lower() in NAMED.get(dialect, frozenset())
    return function.key in TYPED and not (dialect == "sqlite" and function.key in NOT_IN_SQLITE)
