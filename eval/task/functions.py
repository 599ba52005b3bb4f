"""The functions that a query may call, by name: an allow-list, since no deny-list is ever complete.

Two lists, and a call must be in both. sqlglot types the functions that it knows (`exp.Count`) and
leaves others `Anonymous`: `TYPED` says which typed ones only compute. `NAMED` says by dialect which
names may stand before a bracket in the SQL that is handed out, whatever tree it came from: they are
functions of the engine that have no side effect and reach no file, network, session, clock to wait
on, random source, or SQL within a string. What is not here for a dialect is not known there or was
not looked at. What one call may ask for is in `calls`.
"""

from collections.abc import Iterator

from sqlglot import exp

from eval.task.violation import Violation, span

# Keys of sqlglot's typed functions.
TYPED = frozenset(
    """
    abs acos acosh addmonths and any anyvalue approxdistinct approxquantile approxquantiles argmax
    argmin array arrayagg arraycontains arraysize arraytostring arrayuniqueagg ascii asin asinh atan
    atan2 atanh avg between bitlength bitwiseand bitwiseor bytelength case cast cbrt ceil chr
    coalesce collate concat concatws contains convert converttimezone corr cos cosh cot count
    countif covarpop covarsamp cumedist currentdate currentdatetime currenttime currenttimestamp
    date dateadd datebin datediff datefromparts datestrtodate datesub datetime datetimediff
    datetimetrunc datetrunc day dayname dayofmonth dayofweek dayofweekiso dayofyear decodecase
    degrees denserank distinct elt endswith equalnull exists exp extract first firstvalue floor
    format greatest groupconcat grouping groupingid hex hour if ilike in initcap instr interval
    isnan jsonarrayagg jsonbextract jsonbextractscalar jsonextract jsonextractscalar jsonkeys
    jsonobject jsonobjectagg jsontype justifyinterval lag last lastday lastvalue lead least left
    length levenshtein like ln localtime localtimestamp log logicaland logicalor lower lowerhex
    ltrim max md5 median min minute mod mode month monthname monthsbetween nanvl nextday normalize
    nthvalue ntile nullif numbertostr nvl2 or pad parsedatetime parsejson percentilecont
    percentiledisc percentrank pi pow quantile quarter radians rank regexpcount regexpextract
    regexpfullmatch regexpilike regexpinstr regexplike regexpreplace regexpsplit regexpsubstr repeat
    replace reverse right round rownumber rpad rtrim safedivide second sign sin sinh soundex space
    split splitpart sqrt startswith stddev stddevpop stddevsamp stringtoarray strposition strtodate
    strtotime strtounix stuff substring substringindex sum tan tanh time timeslice timestamp
    timestampadd timestampdiff timestampfromparts timestampsub timestamptrunc timestrtotime
    timetostr timetounix tochar todays tonumber translate trim trunc trycast tsordsadd tsordsdiff
    tsordstodate tsordstodatestr tsordstodatetime tsordstotimestamp typeof unicode unixdate
    unixmillis unixseconds unixtostr unixtotime unnest upper variance variancepop week weekofyear
    weekstart widthbucket xor year
    """.split()
)

# In every dialect but SQLite, and all there is in one that nobody looked at.
CORE = """
    abs avg cast coalesce count cume_dist dense_rank exp first_value floor lag last_value lead
    lower ltrim max min nullif percent_rank power rank replace round row_number rtrim sign sqrt sum
    trim upper
"""
TRIGONOMETRY = "acos asin atan cos degrees pi radians sin tan"
TEXT = "ascii concat concat_ws initcap left length lpad repeat reverse right rpad translate"
STATISTICS = "corr covar_pop covar_samp stddev stddev_pop stddev_samp var_pop var_samp variance"
PARTS = "day dayofmonth dayofweek dayofyear hour minute month quarter second week year"

POSTGRES = f"""
    {CORE} {TRIGONOMETRY} {TEXT} {STATISTICS} age any_value array_agg array_length array_to_string
    atan2 bit_length bool_and bool_or btrim cardinality cbrt ceil ceiling char_length chr date
    date_part date_trunc div every extract format greatest grouping isfinite json_agg
    json_build_array json_build_object json_extract_path json_extract_path_text json_object_agg
    jsonb_agg jsonb_build_array jsonb_build_object jsonb_object_agg justify_interval least ln log
    make_date md5 mod mode nth_value ntile octet_length percentile_cont percentile_disc position
    regexp_count regexp_instr regexp_like regexp_match regexp_replace regexp_split_to_array
    regexp_substr scale split_part starts_with string_agg string_to_array strpos substr substring
    to_char to_date to_number to_timestamp trunc unnest width_bucket
"""
MYSQL = f"""
    {CORE} {TRIGONOMETRY} {PARTS} adddate any_value ascii atan2 bin bit_length ceil ceiling char
    char_length concat concat_ws conv convert cot crc32 curdate current_date current_time
    current_timestamp curtime date date_add date_format date_sub datediff dayname elt extract field
    find_in_set format from_unixtime greatest group_concat grouping hex if ifnull instr isnull
    json_array json_arrayagg json_contains json_extract json_keys json_length json_object
    json_objectagg json_unquote json_valid json_value last_day least left length ln locate log log10
    log2 lpad makedate md5 mid mod monthname now nth_value ntile oct octet_length ord period_diff
    position pow regexp_instr regexp_like regexp_replace regexp_substr repeat reverse right rpad
    sec_to_time soundex space std stddev stddev_pop stddev_samp str_to_date strcmp substr substring
    substring_index time time_format time_to_sec timediff timestamp timestampadd timestampdiff
    to_days truncate unix_timestamp var_pop var_samp variance weekday weekofyear yearweek
"""
SPARK = f"""
    {CORE} {TRIGONOMETRY} {TEXT} {STATISTICS} {PARTS} add_months any_value approx_count_distinct
    array array_contains array_join atan2 bool_and bool_or bround cbrt ceil ceiling char char_length
    chr collect_list collect_set contains count_if current_date current_timestamp date_add
    date_format date_sub date_trunc datediff dayname element_at endswith every extract first
    from_unixtime get_json_object greatest grouping grouping_id hex if ifnull instr isnan isnotnull
    isnull last last_day least levenshtein listagg ln locate log log10 log2 make_date max_by md5
    median min_by mod months_between next_day nth_value ntile nvl nvl2 octet_length percentile
    percentile_approx pmod pow regexp_extract regexp_like regexp_replace rlike size some soundex
    space split split_part startswith string_agg substr substring substring_index timestamp_seconds
    to_char to_date to_number to_timestamp trunc try_cast typeof unix_date unix_timestamp weekday
    weekofyear
"""
PRESTO = f"""
    {CORE} {TRIGONOMETRY} {STATISTICS} approx_distinct approx_percentile arbitrary array_agg
    array_join at_timezone atan2 bool_and bool_or cardinality cbrt ceil ceiling chr codepoint concat
    concat_ws contains count_if date date_add date_diff date_format date_parse date_trunc day
    day_of_month day_of_week day_of_year element_at every extract format_datetime from_unixtime
    greatest grouping hour if json_extract json_extract_scalar json_query json_value
    last_day_of_month least length levenshtein_distance listagg ln log log10 log2 lpad max_by min_by
    minute mod month nth_value ntile pow quarter regexp_extract regexp_like regexp_replace reverse
    rpad second soundex split split_part starts_with strpos substr substring to_hex to_unixtime
    translate truncate try_cast typeof unnest week week_of_year year
"""

_WORDS = {
    # SQLite 3.40 with its mathematical functions. `concat` came with 3.44; `zeroblob`,
    # `randomblob`, `load_extension`, `fts3_tokenizer`, `sqlite_*` and `random` stay out.
    "sqlite": """
    abs acos acosh asin asinh atan atan2 atanh avg cast ceil ceiling char coalesce cos cosh count
    cume_dist date datetime degrees dense_rank exp first_value floor format glob group_concat hex
    ifnull iif instr json_array json_array_length json_extract json_group_array json_group_object
    json_object json_type json_valid julianday lag last_value lead length like likelihood likely ln
    log log10 log2 lower ltrim max min mod nth_value ntile nullif percent_rank pi pow power printf
    quote radians rank replace round row_number rtrim sign sin sinh sqrt strftime substr substring
    sum tan tanh time total trim trunc typeof unicode unixepoch unlikely upper
    """,
    "postgres": POSTGRES,
    "materialize": POSTGRES,
    "risingwave": POSTGRES,
    "redshift": f"""
    {POSTGRES} add_months approximate atan2 charindex convert convert_timezone dateadd datediff
    decode dlog10 getdate last_day len listagg median months_between next_day nvl nvl2
    ratio_to_report replicate split_to_array
    """,
    "mysql": MYSQL,
    "doris": MYSQL,
    "starrocks": MYSQL,
    "tsql": f"""
    {CORE} {TRIGONOMETRY} approx_count_distinct ascii atn2 ceiling char charindex choose concat
    concat_ws convert cot count_big dateadd datediff datediff_big datefromparts datename datepart
    datetrunc day difference eomonth format getdate getutcdate greatest grouping grouping_id iif
    isdate isjson isnull isnumeric json_query json_value least left len log log10 month nchar ntile
    patindex percentile_cont percentile_disc replicate reverse right soundex space square stdev
    stdevp str string_agg stuff substring sysdatetime translate try_cast try_convert unicode var
    varp year
    """,
    "duckdb": f"""
    {CORE} {TRIGONOMETRY} {TEXT} {STATISTICS} {PARTS} age any_value approx_count_distinct arg_max
    arg_min array_agg array_to_string atan2 bool_and bool_or cbrt ceil ceiling chr contains count_if
    current_date date_diff date_part date_sub date_trunc datepart dayname ends_with epoch epoch_ms
    extract first greatest grouping hex if ifnull instr isnan isodow json_extract
    json_extract_string last last_day least len levenshtein list list_value listagg ln log log10
    log2 make_date make_timestamp median mod mode monthname now nth_value ntile octet_length ord
    position pow printf quantile_cont quantile_disc regexp_extract regexp_full_match regexp_matches
    regexp_replace split_part starts_with str_split strftime string_agg string_split strlen strpos
    strptime substr substring time_bucket to_timestamp today trunc try_cast try_strptime typeof
    unicode unnest weekday weekofyear
    """,
    "bigquery": f"""
    {CORE} {TRIGONOMETRY} {TEXT} {STATISTICS} any_value approx_count_distinct approx_quantiles
    array_agg array_length array_to_string atan2 cbrt ceil ceiling char_length chr contains_substr
    countif current_date current_datetime current_time current_timestamp date date_add date_diff
    date_sub date_trunc datetime datetime_add datetime_diff datetime_sub datetime_trunc div
    ends_with extract format format_date format_datetime format_timestamp greatest grouping if
    ifnull instr is_nan json_extract json_extract_scalar json_query json_value last_day least ln log
    log10 logical_and logical_or max_by min_by mod nth_value ntile octet_length ordinal parse_date
    parse_datetime parse_timestamp percentile_cont percentile_disc pow regexp_contains
    regexp_extract regexp_replace safe_cast safe_divide safe_offset safe_ordinal soundex split
    starts_with string_agg strpos substr substring timestamp timestamp_add timestamp_diff
    timestamp_micros timestamp_millis timestamp_seconds timestamp_sub timestamp_trunc to_hex trunc
    unicode unix_date unix_millis unix_seconds unnest week
    """,
    "snowflake": f"""
    {CORE} {TRIGONOMETRY} {TEXT} {STATISTICS} {PARTS} add_months any_value approx_count_distinct
    array_agg array_size atan2 booland_agg boolor_agg cbrt ceil charindex chr contains
    convert_timezone count_if current_date current_timestamp date date_from_parts date_part
    date_trunc dateadd datediff dayname dayofweekiso decode div0 editdistance endswith equal_null
    extract get_path greatest grouping grouping_id hex_encode iff ifnull json_extract_path_text
    last_day least len listagg ln log max_by md5 median min_by mod mode monthname months_between
    next_day nth_value ntile nullifzero nvl nvl2 octet_length parse_json percentile_cont
    percentile_disc position pow ratio_to_report regexp_count regexp_like regexp_replace
    regexp_substr rlike soundex space split split_part square startswith substr substring time_slice
    timestampadd timestampdiff to_char to_date to_decimal to_number to_timestamp to_varchar trunc
    try_cast try_to_date try_to_number typeof unicode variance_pop weekofyear zeroifnull
    """,
    "oracle": f"""
    {CORE} {STATISTICS} acos add_months any_value approx_count_distinct ascii asin atan atan2 ceil
    chr concat cos decode extract greatest grouping grouping_id initcap instr json_value last_day
    least length listagg ln log lpad median mod months_between nanvl next_day nth_value ntile
    numtodsinterval numtoyminterval nvl nvl2 percentile_cont percentile_disc ratio_to_report
    regexp_count regexp_instr regexp_like regexp_replace regexp_substr rpad sin soundex stats_mode
    substr tan to_char to_date to_number to_timestamp translate trunc
    """,
    "clickhouse": f"""
    {CORE} {TRIGONOMETRY} {TEXT} adddays addmonths addyears any anylast argmax argmin array avgif
    cbrt ceil ceiling char_length countif covarpop covarsamp current_date date_add date_diff
    date_sub date_trunc dateadd datediff datename datesub datetrunc day dayname dayofmonth dayofweek
    dayofyear empty endswith extract formatdatetime greatest grouparray groupuniqarray hex hour if
    ifnull intdiv isnan isnotnull isnull json_value jsonextractfloat jsonextractint
    jsonextractstring least length lengthutf8 like ln log log10 log2 lowerutf8 match maxif median
    minif minute mod modulo month monthname multiif notempty now ntile nullif parsedatetime plus
    position positioncaseinsensitive pow quantile quantileexact quarter second splitbychar
    startswith stddevpop stddevsamp substring substringutf8 sumif timestamp todate todatetime today
    todayofmonth todayofweek todayofyear tofloat64 tohour toint32 toint64 tominute tomonth toquarter
    tosecond tostartofday tostartofhour tostartofmonth tostartofquarter tostartofweek tostartofyear
    tostring toweek toyear toyyyymm toyyyymmdd trunc uniq uniqexact upperutf8 varpop varsamp year
    yesterday
    """,
    "spark": SPARK,
    "spark2": SPARK,
    "hive": SPARK,
    "databricks": f"{SPARK} dateadd iff timestampadd timestampdiff try_divide",
    "presto": PRESTO,
    "trino": PRESTO,
    "athena": PRESTO,
}
NAMED = {dialect: frozenset(names.split()) for dialect, names in _WORDS.items()}
CORE_NAMES = frozenset(CORE.split())

# Typed functions whose argument some dialect repeats in its text, up to six times (DuckDB's
# SPLIT_PART): nested, the text grows by that factor each time.
REPEATED = frozenset(
    """
    arrayagg ceil concatws corr datediff floor greatest hex initcap jsonextract
    jsonextractscalar least left length monthsbetween right split splitpart strposition substring
    substringindex timestamptrunc unicode
    """.split()
)
MAX_REPEATED = 4


def named(dialect: str) -> frozenset[str]:
    """The names, in lower case, that may stand before a bracket in `dialect`."""
    return NAMED.get(dialect, CORE_NAMES)


def is_allowed_function(function: exp.Func, dialect: str) -> bool:
    """True if the tree of a query in `dialect` may hold `function` (any node of a call)."""
    if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc):
        return function.name.lower() in named(dialect)
    return function.key in TYPED


def denied_functions(tree: exp.Expr, dialect: str) -> Iterator[Violation]:
    """The functions of `tree` that are not allowed, and those that nest too deep for a text that
    may repeat their arguments."""
    for function in tree.find_all(exp.Func):
        if not is_allowed_function(function, dialect):
            name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
            message = f"function {name[:64]!r} is not in the allow-list of {dialect}"
            yield _at(function, "denied_function", message, name[:64])
        elif function.key in REPEATED and _depth(function) > MAX_REPEATED:
            message = f"{function.sql_name()} nests deeper than {MAX_REPEATED}"
            yield _at(function, "too_complex", message, function.sql_name())


def _at(function: exp.Expr, code: str, message: str, name: str) -> Violation:
    start, end = span(function)
    return Violation(code, message, name, start=start, end=end)


def _depth(function: exp.Expr) -> int:
    node, depth = function.parent, 1
    while node is not None:
        depth += node.key in REPEATED
        node = node.parent
    return depth
