"""A small world for tests of the evaluation: questions on two databases, a server that knows the
answers, and the command."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from typer.testing import CliRunner, Result

from eval.__main__ import app

T = TypeVar("T")
R = TypeVar("R")

BAND = (
    "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER);\n"
    "CREATE TABLE song (id INTEGER PRIMARY KEY, singer_id INTEGER REFERENCES singer (id), "
    "title TEXT, plays INTEGER);\n"
)
BAND_ROWS = """
INSERT INTO singer (name, age) VALUES ('Ann', 40), ('Bo', 20), ('Cy', 50);
INSERT INTO song (singer_id, title, plays) VALUES (1, 'Dawn', 7), (1, 'Dusk', 3), (2, 'Noon', 9);
"""
ZOO = "CREATE TABLE animal (id INTEGER PRIMARY KEY, kind TEXT, legs INTEGER);\n"
ZOO_ROWS = "INSERT INTO animal (kind, legs) VALUES ('crane', 2), ('newt', 4), ('ant', 6);"
# Hardest first, so that a report in order of hardness is not one in order of appearance.
EXTRA = (
    "SELECT singer.name, COUNT(*) FROM singer JOIN song ON song.singer_id = singer.id "
    "WHERE singer.age > 10 AND song.plays > 1 GROUP BY singer.name "
    "HAVING COUNT(*) > 0 ORDER BY COUNT(*) DESC LIMIT 5"
)
GOLDS = {
    "b-extra": ("band", "How many well-known songs has each singer?", EXTRA),
    "b-hard": ("band", "Who has no song?",
               "SELECT name FROM singer WHERE id NOT IN (SELECT singer_id FROM song)"),
    "b-medium": ("band", "How many singers are there by age?",
                 "SELECT age, COUNT(*) FROM singer GROUP BY age"),
    "b-easy": ("band", "What are the singers called?", "SELECT name FROM singer"),
    "z-easy": ("zoo", "Which animals have many legs?", "SELECT kind FROM animal WHERE legs > 3"),
    "z-empty": ("zoo", "Which animals have ten legs?", "SELECT kind FROM animal WHERE legs = 10"),
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"id": name, "db_id": db_id, "question": question, "sql": sql, "source": "ours"}
    for name, (db_id, question, sql) in GOLDS.items()
]
BY_QUESTION = {question: sql for _, question, sql in GOLDS.values()}


def make_world(folder: Path, *rows: dict[str, Any]) -> Path:
    """`folder/dev.jsonl` of `rows` (`ROWS` unless told) with its databases beside it."""
    (folder / "databases").mkdir(parents=True, exist_ok=True)
    for name, script in (("band", BAND + BAND_ROWS), ("zoo", ZOO + ZOO_ROWS)):
        path = folder / f"databases/{name}.sqlite"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.executescript(script)
    return write_lines(folder / "dev.jsonl", *(rows or ROWS))


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_predictions(path: Path, **changes: str) -> Path:
    """JSONL in which every prediction is the gold query, but for `changes` by id (`_` for `-`)."""
    changes = {name.replace("_", "-"): sql for name, sql in changes.items()}
    rows = [{"id": row["id"], "predicted": changes.get(row["id"], row["sql"])} for row in ROWS]
    return write_lines(path, *rows)


def at_once(
    function: Callable[[list[T]], list[R]],
    chunks: Sequence[list[T]],
    on_lost: Callable[[T, str], R],
    *,
    seconds_per_item: float,
    tick: Callable[[int], None],
) -> list[list[R]]:
    """`eval.workers.run_chunks` in this process: for tests of what comes before and after."""
    found = [function(chunk) for chunk in chunks]
    tick(sum(map(len, found)))
    return found


def sqlwright_eval(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def fails(*args: object) -> str:
    """The one line on stderr with which the command ends, for input that is at fault."""
    done = sqlwright_eval(*args)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("sqlwright-eval: error: ")
    return line.removeprefix("sqlwright-eval: error: ")


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def strict_json(path: Path) -> Any:
    """What the file holds; NaN and Infinity, which Python reads and others don't, are errors."""
    return json.loads(path.read_text(encoding="ascii"), parse_constant=no_constant)


class Engine:
    """A server that knows the gold queries.

    A 500 to the request numbers in `broken`; from number `hang_at` on it does not answer, and
    `hanging` says so; `before` is called ahead of every answer.
    """

    def __init__(
        self,
        golds: dict[str, str] | None = None,
        *,
        broken: Set[int] = frozenset(),
        hang_at: int | None = None,
        status: int = 200,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.golds = golds or BY_QUESTION
        self.broken = broken
        self.hang_at = hang_at
        self.status = status
        self.before = before
        self.asked: list[dict[str, Any]] = []
        self.hanging = threading.Event()
        self.released = threading.Event()

    @property
    def questions(self) -> list[str]:
        return [body["natural_language_query"] for body in self.asked]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(body)
        number = len(self.asked) - 1
        if self.hang_at is not None and number >= self.hang_at:
            self.hanging.set()
            self.released.wait(60)
        self.before()
        if self.status != 200 or number in self.broken:
            status = self.status if self.status != 200 else 500
            return status, {"error": {"message": "model 'nope' is not known"}}
        if path == "/v1/completions":
            asked = (sql for text, sql in self.golds.items() if f"-- {text}\n" in body["prompt"])
            choice = {"text": f" {next(asked)};", "finish_reason": "stop"}
            return 200, {"model": "base", "choices": [choice], "usage": {"completion_tokens": 5}}
        gold = self.golds[body["natural_language_query"]]
        return 200, {"sql_query": gold, "confidence": 0.5, "valid": True, "model": VERSION}


VERSION = "spider@0123456789ab"
MODELS = {"data": [{"id": "spider", "root": VERSION}]}


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was interrupted is no news."""


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, MODELS)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._reply(*engine.answer(self.path, body))

        def _reply(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            engine.released.set()
            server.shutdown()
            thread.join()
