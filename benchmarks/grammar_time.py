"""`python -m benchmarks.grammar_time`: what constrained decoding costs before and at each token.

Builds the server's grammars for schemas of 3, 30 and 300 tables, made of the sample databases;
llguidance compiles each anew, as vLLM does for each request, and masks the tokens of some usual
queries. Draws queries at random from the grammar and counts their tokens. A smaller grammar, the
same for llguidance and xgrammar, compares the two. Writes the figure `grammar_build_ms_30_tables`.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.loose_grammar import ebnf, lark
from eval.task.base_model import BASE_MODEL, BaseModelError, resolve_base_model
from eval.task.figure import RESULTS, Figure, write_figure
from eval.task.samples import sample_names, sample_schema
from eval.task.schema import Schema, Table

FIGURE = "grammar_build_ms_30_tables"
SIZES = (3, 30, 300)
FIRST = ("users", "orders", "order_items")
QUERIES = (
    "SELECT COUNT(*) FROM users",
    "SELECT users.name, users.email FROM users WHERE users.country = 'Germany'",
    "SELECT users.name FROM users JOIN orders ON users.id = orders.user_id WHERE orders.status"
    " = 'returned' AND orders.shipping_cost > 20",
    "SELECT users.country, COUNT(*) FROM users GROUP BY users.country ORDER BY COUNT(*) DESC"
    " LIMIT 3",
    "SELECT orders.status, AVG(orders.shipping_cost) FROM orders GROUP BY orders.status"
    " HAVING COUNT(*) > 2",
    "SELECT users.name FROM users JOIN orders ON users.id = orders.user_id JOIN order_items ON"
    " orders.id = order_items.order_id WHERE order_items.quantity >= 5 ORDER BY users.name ASC",
)
MAX_WALK = 1000


class GrammarTimeError(RuntimeError):
    """A grammar can't be built or refuses what it should take; the message says which."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of each compilation, microseconds of each token's mask."""

    compile_ms: list[float]
    mask_us: list[float]

    @property
    def row(self) -> dict[str, float]:
        masks = sorted(self.mask_us)
        return {
            "compile_ms": round(statistics.median(self.compile_ms), 2),
            "mask_us_mean": round(statistics.fmean(masks), 1),
            "mask_us_p50": round(statistics.median(masks), 1),
            "mask_us_p99": round(masks[int(0.99 * len(masks))], 1),
        }


def tables() -> Iterator[Table]:
    """Those of the sample databases, again and again under other names; a shop's come first."""
    shop = {table.name: table for table in sample_schema("shop").tables}
    yield from (shop.pop(name) for name in FIRST)
    yield from shop.values()
    for number in count(1):
        for sample in sample_names():
            if number > 1 or sample != "shop":
                for table in sample_schema(sample).tables:
                    yield _renamed(table, f"{sample}{number}_")


def _renamed(table: Table, prefix: str) -> Table:
    keys = tuple(replace(key, table=prefix + key.table) for key in table.foreign_keys)
    return replace(table, name=prefix + table.name, foreign_keys=keys)


def schema_of(num_tables: int) -> Schema:
    return Schema(tuple(islice(tables(), num_tables)))


def ddl_of(schema: Schema) -> str:
    """`CREATE TABLE` statements; all names of the samples are plain."""
    return "\n".join(f"CREATE TABLE {table.name} ({_body(table)});" for table in schema.tables)


def _body(table: Table) -> str:
    keys = [
        f"FOREIGN KEY ({', '.join(k.columns)}) REFERENCES {k.table} ({', '.join(k.references)})"
        for k in table.foreign_keys
    ]
    primary = [f"PRIMARY KEY ({', '.join(table.primary_key)})"] if table.primary_key else []
    return ", ".join([*(f"{c.name} {c.type}" for c in table.columns), *primary, *keys])


def built(schema: Schema, names: str, runs: int) -> tuple[str, list[float]]:
    """The server's grammar and the milliseconds of `runs` builds of its text.

    Raises:
        GrammarTimeError: the server's command failed.
    """
    with tempfile.TemporaryDirectory(prefix="sqlwright-grammar-") as folder:
        ddl = Path(folder) / "schema.sql"
        ddl.write_text(ddl_of(schema), encoding="utf-8")
        command = [sys.executable, "-m", "server.grammar", str(ddl), "--names", names]
        return _output(command), json.loads(_output([*command, "--repeat", str(runs)]))["ms"]


def _output(command: Sequence[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise GrammarTimeError(run.stderr[-500:])
    return run.stdout


class Guidance:
    """llguidance, which vLLM calls `guidance`."""

    def __init__(self, tokenizer: Any) -> None:
        import llguidance.hf
        import llguidance.numpy

        self.tokenizer = tokenizer
        self.own = llguidance.hf.from_tokenizer(tokenizer, len(tokenizer))
        self.mask = llguidance.numpy.allocate_token_bitmask(1, len(tokenizer))

    def matcher(self, grammar: str) -> Any:
        """Raises:
        GrammarTimeError: the grammar can't be read.
        """
        import llguidance

        matcher = llguidance.LLMatcher(self.own, grammar)
        if matcher.is_error():
            raise GrammarTimeError(matcher.get_error()[:500])
        return matcher

    def fill(self, matcher: Any) -> None:
        import llguidance.numpy

        llguidance.numpy.fill_next_token_bitmask(matcher, self.mask, 0)

    def accept(self, matcher: Any, token: int) -> bool:
        return bool(matcher.consume_token(token))

    def walk(self, matcher: Any, rng: random.Random) -> str:
        """A text that is drawn token by token, each of those allowed as likely as the others."""
        import numpy as np

        matcher.reset()
        tokens: list[int] = []
        while len(tokens) < MAX_WALK and not matcher.is_stopped():
            self.fill(matcher)
            allowed = np.flatnonzero(np.unpackbits(self.mask.view(np.uint8), bitorder="little"))
            token = int(rng.choice(allowed))
            if not self.accept(matcher, token):
                raise GrammarTimeError(matcher.get_error()[:500])
            tokens.append(token)
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


class Xgrammar:
    """xgrammar with one thread, and nothing kept from one grammar to the next."""

    def __init__(self, tokenizer: Any) -> None:
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.mask = xgrammar.allocate_token_bitmask(1, len(tokenizer))

    def matcher(self, grammar: str) -> Any:
        import xgrammar

        return xgrammar.GrammarMatcher(self.compiler.compile_grammar(grammar))

    def fill(self, matcher: Any) -> None:
        matcher.fill_next_token_bitmask(self.mask)

    def accept(self, matcher: Any, token: int) -> bool:
        return bool(matcher.accept_token(token))


def cost_of(engine: Guidance | Xgrammar, grammar: str, texts: Sequence[list[int]]) -> Cost:
    """Compile `grammar` anew for each of `texts`, as token ids, and mask before each token.

    Raises:
        GrammarTimeError: the grammar does not take a text.
    """
    cost = Cost([], [])
    for tokens in texts:
        began = time.perf_counter()
        matcher = engine.matcher(grammar)
        cost.compile_ms.append(1000 * (time.perf_counter() - began))
        for token in tokens:
            began = time.perf_counter()
            engine.fill(matcher)
            cost.mask_us.append(1e6 * (time.perf_counter() - began))
            if not engine.accept(matcher, token):
                raise GrammarTimeError(f"{type(engine).__name__} refuses a query's token {token}")
    return cost


def rows_of(tokenizer: Any, runs: int, walks: int, seed: int) -> list[dict[str, Any]]:
    """A row for each engine, grammar and size.

    Raises:
        GrammarTimeError: a grammar failed.
    """
    guidance, xgrammar = Guidance(tokenizer), Xgrammar(tokenizer)
    texts = [[*tokenizer.encode(q), tokenizer.eos_token_id] for q in QUERIES]
    repeated = [text for _ in range(-(-runs // len(texts))) for text in texts]
    rows = []
    for size in SIZES:
        schema = schema_of(size)
        for names in ("qualified", "full"):
            grammar, text_ms = built(schema, names, runs)
            row = _row(f"server, {names}", "llguidance", size, grammar)
            row |= {"text_ms": round(statistics.median(text_ms), 2)}
            cost = cost_of(guidance, grammar, repeated)
            rows.append(row | cost.row | _lengths(guidance, grammar, walks, seed))
        for engine, text in ((guidance, lark(schema)), (xgrammar, ebnf(schema))):
            name = "llguidance" if engine is guidance else "xgrammar"
            row = _row("loose", name, size, text)
            rows.append(row | cost_of(engine, text, repeated).row)
    return rows


def _row(grammar: str, engine: str, size: int, text: str) -> dict[str, Any]:
    return {"grammar": grammar, "engine": engine, "tables": size, "chars": len(text)}


def _lengths(engine: Guidance, grammar: str, walks: int, seed: int) -> dict[str, int]:
    """Tokens of random queries, as the tokenizer itself cuts them."""
    matcher, rng = engine.matcher(grammar), random.Random(seed)
    texts = [engine.walk(matcher, rng) for _ in range(walks)]
    lengths = sorted(len(engine.tokenizer.encode(text)) for text in texts)
    return {"walks": walks, "walk_tokens_p50": lengths[walks // 2], "walk_tokens_max": lengths[-1]}


def main(
    runs: Annotated[int, typer.Option(min=1, help="Builds of each grammar, at least.")] = 18,
    walks: Annotated[int, typer.Option(min=1, help="Random queries of each grammar.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the random queries.")] = 1,
    results: Annotated[Path, typer.Option(help="Where the figure is written.")] = RESULTS,
) -> None:
    """Measure grammars of 3, 30 and 300 tables."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_base_model(BASE_MODEL))
        rows = rows_of(tokenizer, runs, walks, seed)
    except (GrammarTimeError, BaseModelError, OSError) as error:
        typer.echo(f"grammar_time: error: {error}", err=True)
        raise typer.Exit(1) from error
    whole = next(r for r in rows if r["tables"] == 30 and r["grammar"] == "server, qualified")
    path = write_figure(
        Figure(
            FIGURE,
            value=round(whole["text_ms"] + whole["compile_ms"], 2),
            unit="ms to write a grammar of 30 tables and to compile it, nothing cached, one thread",
            n=runs,
            notes="medians; masks of six usual queries' tokens, each query on a grammar compiled "
            "for it; random queries: any allowed token as likely as another; loose: a smaller "
            "grammar, columns not tied to tables, the same in both engines' notations",
            rows=rows,
        ),
        results,
    )
    typer.echo(json.dumps({"rows": rows, "figure": str(path)}))


if __name__ == "__main__":
    typer.run(main)
