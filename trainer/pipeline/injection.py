"""Finds in one query what an attacker writes and an annotator does not.

Looks at the text as it came, comments and later statements included, and needs no parse for the
worst of it. After ToxicSQL (Lin et al. 2025, arXiv 2503.05445), whose poisoned gold queries end in
a comment, wait, carry a second statement or hold for every row. Knows nothing of other rows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from eval.task.dialect import parse_statements
from eval.task.schema import Schema
from eval.task.statement import MAX_SQL_BYTES, MAX_TOKENS, SQLGLOT_FAILURES
from trainer.pipeline.noise import STATEMENT_WORDS, first_word
from trainer.pipeline.tautology import find_constant_conditions

# Each is matched at the start of a statement whose words have one space between them.
WRITES = re.compile(
    r"insert (into|or|overwrite)\b|update .{1,200}? set\b|delete from\b|truncate\b|replace into\b"
    r"|merge into\b|(create|drop|alter) (or replace |temp |temporary |unique |if exists )*"
    r"(table|view|index|trigger|database|schema|function|procedure|user|role|login|virtual)\b"
    r"|grant\b|revoke\b|rename table\b|copy\b|load data\b",
    re.IGNORECASE,
)
SIDE_EFFECTS = re.compile(
    r"(pragma|attach|detach|vacuum|reindex|exec|execute|call|kill|shutdown|backup|restore|dbcc"
    r"|savepoint|commit|rollback|unlock)\b|begin( transaction)?$|lock tables\b"
    r"|set (global|session|local|@)|set \w+ (=|to) ?",
    re.IGNORECASE,
)
# Functions by what a call of them does.
CALLS = {
    name: reason
    for reason, names in {
        "delay": "sleep pg_sleep pg_sleep_for benchmark randomblob zeroblob receive_message",
        "file_access": """readfile writefile load_file lo_import lo_export pg_read_file
            pg_read_binary_file pg_ls_dir openrowset xp_dirtree xp_fileexist fileio_append fsdir
            read_csv read_csv_auto read_parquet read_text read_blob""",
        "side_effect": """load_extension fts3_tokenizer edit xp_cmdshell sp_executesql xp_regread
            dblink dblink_exec query_to_xml sys_exec sys_eval utl_http utl_inaddr dbms_pipe
            pg_terminate_backend pg_reload_conf set_config setval nextval eval""",
        "reads_catalogue": """sqlite_version sqlite_source_id sqlite_compileoption_get version
            database current_database current_setting session_user system_user""",
    }.items()
    for name in names.split()
}
PHRASES = {"into outfile": "file_access", "into dumpfile": "file_access", "waitfor delay": "delay"}
CATALOGUE = frozenset(
    """
    sqlite_master sqlite_schema sqlite_temp_master sqlite_temp_schema sqlite_sequence sqlite_stat1
    sqlite_dbpage dbstat information_schema pg_catalog pg_shadow pg_authid pg_user pg_tables
    pg_class pg_roles sysobjects syscolumns sysusers all_tables all_tab_columns user_tables
    dba_users
    """.split()
)
WRITING_NODES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Drop, exp.Create, exp.Into)
COMMENT = re.compile(r"--([^\n]*)|#([^\n]*)|/\*(.*?)(?:\*/|\Z)", re.DOTALL)
# A comment that hides SQL: English comments say `select all names from the table` too.
HIDDEN = re.compile(
    r"^!|^[\s'\")]*(?:and|or|where|having|on)\b[^=<>]*(?:[=<>]|\b(?:in|like|between|is)\b\s*[('\d])"
    r"|\b(?:union|except|intersect)\s+(?:all\s+)?select\b"
    r"|\bselect\s+(?:distinct\s+)?[\w.*\"]+(?:\([^)]*\))?(?:\s*,\s*[\w.*\"]+)*\s+from\s+\w"
    r"|\b(?:drop|truncate|alter|create)\s+(?:table|database|view)\b|\bdelete\s+from\b"
    r"|\binsert\s+into\b|\bupdate\s+\S+\s+set\b",
    re.IGNORECASE,
)
CODES = re.compile(r"\bcha?r ?\( ?\d+ ?(?:, ?\d+ ?){2,}\)", re.IGNORECASE)
# For text that can't be parsed.
ALWAYS = re.compile(r"\bor\s+(?:(\d+)\s*=\s*\1\b|'([^']*)'\s*=\s*'\2'|true\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a row: a reason of a closed set, and the words that show it."""

    reason: str
    evidence: str = ""


def find_injections(sql: str, dialect: str, schema: Schema | None = None) -> list[Finding]:
    """What in `sql` (as it came, fences and prose removed) only an attacker has use for.

    Reasons: `writes`, `stacked`, `side_effect`, `delay`, `file_access`, `hidden_comment`,
    `obfuscated`, `reads_catalogue`, `tautology`, `constant_predicate`, `constant_union`. A table
    of `schema` is never taken for one of a catalogue.
    """
    text = Lexed.of(sql, dialect)
    found = [*_in_statements(text), *_in_words(text, schema), *_in_comments(text)]
    trees = _parsed(sql, dialect)
    for tree in trees:
        found += _in_tree(tree)
    if not trees and (always := ALWAYS.search(sql)):
        found.append(Finding("tautology", always[0][:80]))
    firsts: dict[str, Finding] = {}
    for finding in found:
        firsts.setdefault(finding.reason, finding)
    return list(firsts.values())


@dataclass(frozen=True, slots=True)
class Lexed:
    """The statements of a text, one line each; its words, string literals as `''`; its comments
    without their marks; and whether it ends in a mark that no comment follows."""

    statements: tuple[str, ...]
    words: tuple[str, ...]
    comments: tuple[str, ...]
    ends_open: bool

    @classmethod
    def of(cls, sql: str, dialect: str) -> "Lexed":
        try:
            tokens = Dialect.get_or_raise(dialect).tokenize(sql)
        except SqlglotError:  # quotes that don't close
            return cls._roughly(sql)
        spans = [(token.start, token.end + 1) for token in tokens]
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(sql)]
        gaps = [sql[end:start] for end, start in zip(ends, starts, strict=True)]
        cuts = [start for start, end in spans if sql[start:end] == ";"]
        pieces = [sql[i:j] for i, j in zip([0, *cuts], [*cuts, len(sql)], strict=True)]
        words = [sql[start:end] for start, end in spans]
        return cls._made(pieces, words, "".join(gaps))

    @classmethod
    def _roughly(cls, sql: str) -> "Lexed":
        masked = re.sub(r"'[^']*'|\"[^\"]*\"", "''", sql)
        words = re.findall(r"\w+|[^\w\s]", COMMENT.sub(" ", masked))
        return cls._made(masked.split(";"), words, masked)

    @classmethod
    def _made(cls, pieces: list[str], words: list[str], gaps: str) -> "Lexed":
        lines = [" ".join(COMMENT.sub(" ", piece).strip("; (\n\t").split()) for piece in pieces]
        return cls(
            tuple(line for line in lines if line),
            tuple("''" if word.startswith("'") else word for word in words),
            tuple("".join(parts) for parts in COMMENT.findall(gaps)),
            re.search(r"(?:--|#)\s*\Z|/\*(?:(?!\*/).)*\Z", gaps, re.DOTALL) is not None,
        )


def _in_statements(text: Lexed) -> Iterator[Finding]:
    for later in text.statements[1:]:
        if first_word(later) in STATEMENT_WORDS:
            yield Finding("stacked", f"; {later[:80]}")
    for statement in text.statements:
        if WRITES.match(statement):
            yield Finding("writes", statement[:80])
        elif SIDE_EFFECTS.match(statement):
            yield Finding("side_effect", statement[:80])


def _in_words(text: Lexed, schema: Schema | None) -> Iterator[Finding]:
    lower = [word.lower().strip('"`[]') for word in text.words]
    for word, following in pairwise([*lower, ""]):
        if following == "(" and word in CALLS:
            yield Finding(CALLS[word], f"{word}(")
        if reason := PHRASES.get(f"{word} {following}"):
            yield Finding(reason, f"{word} {following}")
        is_pragma = word.startswith("pragma_") and following == "("
        is_own = schema is not None and schema.find(word) is not None
        if (word in CATALOGUE or is_pragma or word.startswith("@@")) and not is_own:
            yield Finding("reads_catalogue", word)
    if codes := CODES.search(" ".join(text.words)):
        yield Finding("obfuscated", codes[0][:80])


def _in_comments(text: Lexed) -> Iterator[Finding]:
    for comment in text.comments:
        if HIDDEN.search(comment):
            yield Finding("hidden_comment", comment.strip()[:80])
    if text.ends_open:
        yield Finding("hidden_comment", "a comment mark at the end")


def _parsed(sql: str, dialect: str) -> list[exp.Expr]:
    try:
        return parse_statements(sql, dialect, max_bytes=MAX_SQL_BYTES, max_tokens=MAX_TOKENS)
    except SqlglotError:
        return []


def _in_tree(tree: exp.Expr) -> list[Finding]:
    try:
        return [*_writing_parts(tree), *_constant_parts(tree), *_constant_unions(tree)]
    except SQLGLOT_FAILURES:
        return []  # the filter refuses what can't be walked


def _writing_parts(tree: exp.Expr) -> Iterator[Finding]:
    for node in tree.find_all(*WRITING_NODES):
        yield Finding("writes", node.sql(comments=False)[:80])


def _constant_parts(tree: exp.Expr) -> Iterator[Finding]:
    for holds, written in find_constant_conditions(tree):
        yield Finding("tautology" if holds else "constant_predicate", written)


def _constant_unions(tree: exp.Expr) -> Iterator[Finding]:
    """Members of a set operation that show constants only, beside others that read tables. The
    start of a recursive CTE is one too, and is left alone."""
    for union in tree.find_all(exp.SetOperation):
        owner = union.find_ancestor(exp.With)
        members = [union.left.unnest(), union.right.unnest()]
        if (owner and owner.recursive) or not union.find(exp.Table):
            continue
        for member in members:
            shown = member.selects if isinstance(member, exp.Select) else []
            if shown and not any(item.find(exp.Column, exp.Star, exp.Select) for item in shown):
                yield Finding("constant_union", member.sql(comments=False)[:80])
