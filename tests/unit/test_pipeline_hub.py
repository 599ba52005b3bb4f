"""Rows from the hub: a hub of our own on this machine, one that can't be reached, and folders.

`datasets` reads where the hub is when it is imported, so each hub has a process of its own.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.pipeline.hub import HubId, parse_hub_id

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "train" / "load"
COMMIT = "c0ffee" + "0" * 34
SPIDER = "xlangai/spider"
ROW = {"question": "Q?", "answer": "SELECT a FROM t", "context": "CREATE TABLE t (a INT)"}
# Reads (source, options) pairs, writes what came of each. The pauses between retries are left out.
CHILD = """
import json, sys, time
from pathlib import Path
from trainer.pipeline.load import DataError, load_source

time.sleep = lambda seconds: None
results = [sorted({"datasets", "pyarrow"} & sys.modules.keys())]
for source, options in json.load(sys.stdin):
    if options.pop("offline", False):
        import datasets
        datasets.config.HF_HUB_OFFLINE = True
    if "schemas" in options:
        options["schemas"] = Path(options["schemas"])
    try:
        loaded = load_source(source, **options)
    except DataError as error:
        results.append(str(error))
    else:
        rows = [[r.id, r.db_id, r.question] for r in loaded.rows]
        results.append({"name": loaded.name, "rows": rows, "sha256": loaded.sha256,
                        "facts": loaded.facts})
print(json.dumps(results))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that `datasets` needs for one public data set."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api")
        _, _, *repo, rest = path.split("/", 4) if path.count("/") > 3 else ("", "", "", "", "")
        if "/".join(repo) == "org/gated":
            self.answer(403, error="GatedRepo")
        elif "/".join(repo) != SPIDER:
            self.answer(401, error="RepoNotFound")
        elif rest.startswith("resolve/"):
            body = self.files.get(rest.split("/", 2)[2])
            self.answer(404, error="EntryNotFound") if body is None else self.answer(200, body)
        elif rest.startswith("tree/"):
            is_root = rest.count("/") == 1
            self.answer(200, json.dumps(self.listing() if is_root else []).encode())
        else:
            names = [{"rfilename": name} for name in self.files]
            record = {"id": SPIDER, "sha": COMMIT, "siblings": names, "private": False}
            self.answer(200, json.dumps(record).encode())

    def listing(self) -> list[dict[str, Any]]:
        oid = "0" * 40
        return [
            {"type": "file", "path": name, "size": len(body), "oid": oid}
            for name, body in self.files.items()
        ]

    def answer(self, status: int, body: bytes = b"", error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hub that has Spider's fixture as a Parquet file."""
    lines = (FIXTURES / "spider.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path_factory.mktemp("hub") / "train.parquet"
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines]), path)
    files = {"README.md": b"---\nlicense: mit\n---\n", "train.parquet": path.read_bytes()}
    handler = type("FilledHub", (Hub,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def make_folders(place: Path) -> None:
    """Folders as downloads of hub repositories are."""
    folders: dict[str, dict[str, list[dict[str, str]]]] = {
        "org/two": {"train.jsonl": [ROW, ROW], "validation.jsonl": [ROW | {"question": "V?"}]},
        "org/empty": {"train.json": [ROW], "test.json": []},
        "org/script": {"script.py": []},
    }
    for name, files in folders.items():
        (place / name).mkdir(parents=True)
        for file, rows in files.items():
            lines = "".join(f"{json.dumps(row)}\n" for row in rows) or "[]"
            (place / name / file).write_text(lines, encoding="utf-8")


SCHEMAS = {"schemas": str(FIXTURES / "schemas")}
ON_HUB: dict[str, tuple[str, dict[str, Any]]] = {
    "known": (SPIDER, SCHEMAS),
    "limited": (f"hub:{SPIDER}:default", SCHEMAS | {"limit": 1}),
    "no schemas": (SPIDER, {}),
    "no split": (SPIDER, {"split": "dev"}),
    "no config": (f"hub:{SPIDER}:other", {}),
    "gated": ("org/gated", {}),
    "none": ("hub:org/none", {}),
    "neither file nor set": ("org/none", {}),
    "folder as hub": ("hub:org/two", {"split": "validation"}),
    "folder": ("org/two", {}),
    "empty split": ("org/empty", {"split": "test"}),
    "script": ("org/script", {}),
    "offline": ("org/none", {"offline": True}),
    "cached": (SPIDER, SCHEMAS | {"offline": True}),
}
REMEDY = "or download one of its files and give its path"


def start(cwd: Path, specs: list[Any], **env: str) -> "subprocess.Popen[str]":
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(ROOT), "HF_HOME": str(cwd / "home"), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    child.stdin.write(json.dumps(specs))
    child.stdin.close()
    child.stdin = None
    return child


def finish(child: "subprocess.Popen[str]") -> list[Any]:
    out, err = child.communicate(timeout=100)
    assert child.returncode == 0, err
    results: list[Any] = json.loads(out)
    return results


@pytest.fixture(scope="module")
def results(hub: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each load; all children run at once."""
    place = tmp_path_factory.mktemp("work")
    make_folders(place)
    on_hub = start(place, list(ON_HUB.values()), HF_ENDPOINT=hub)
    away = start(tmp_path_factory.mktemp("away"), [(SPIDER, {})], HF_ENDPOINT="http://127.0.0.1:9")
    modules, *loads = finish(on_hub)
    return {"modules": modules, "away": finish(away)[1]} | dict(zip(ON_HUB, loads, strict=True))


def test_a_set_of_the_hub_is_read_by_its_id(results):
    known = results["known"]
    assert known["name"] == SPIDER
    assert [row[:2] for row in known["rows"]] == [
        ["spider-00001", "harbour"],
        ["spider-00002", "harbour"],
    ]
    assert known["facts"]["form"] == "spider"
    assert known["facts"]["revision"] == COMMIT
    assert results["limited"]["rows"] == known["rows"][:1]
    assert results["limited"]["sha256"] != known["sha256"]


def test_a_set_that_is_in_the_cache_needs_no_hub(results):
    assert results["cached"] == results["known"]


def test_nothing_heavy_is_imported_before_it_is_needed(results):
    assert results["modules"] == []


def test_a_folder_of_data_files_stands_for_a_set(results):
    assert [row[2] for row in results["folder as hub"]["rows"]] == ["V?"]
    assert [row[2] for row in results["folder"]["rows"]] == ["Q?", "Q?"]
    assert results["folder"]["name"] == "two"
    assert results["folder"]["facts"]["form"] == "sql-create-context"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "no schemas",
            "xlangai/spider: row 1: no schema of 'harbour'; the set holds none; name the folder of "
            "DB_ID.sql files as `schemas`, or that of DB_ID.sqlite files as `databases`",
        ),
        (
            "no split",
            "can't be loaded: ValueError Unknown split \"dev\". Should be one of ['train'].",
        ),
        ("no config", "BuilderConfig 'other' not found. Available: ['default']"),
        (
            "gated",
            "org/gated (no such file, so a hub id): a gated set: ask for access at "
            f"https://huggingface.co/datasets/org/gated and set HF_TOKEN, {REMEDY}",
        ),
        (
            "none",
            "org/none: no such set on the hub, or a private one: check the id, set HF_TOKEN, "
            f"{REMEDY}",
        ),
        ("neither file nor set", "org/none (no such file, so a hub id): no such set on the hub"),
        ("empty split", "org/empty: split 'test' holds no rows; its splits: train, test"),
        ("script", "Dataset scripts are no longer supported, but found script.py"),
        ("away", f"the hub can't be reached: set HF_ENDPOINT to a mirror, {REMEDY}"),
        ("offline", f"HF_HUB_OFFLINE is set, and the set is not in the cache: unset it, {REMEDY}"),
    ],
)
def test_why_a_set_can_not_be_had_is_said_in_one_line(name, said, results):
    assert said in results[name]
    assert "\n" not in results[name]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("org/name", HubId("org/name")),
        ("hub:org/na.me-2", HubId("org/na.me-2", has_prefix=True)),
        ("hub:org/name:config", HubId("org/name", "config", has_prefix=True)),
        ("hub:name", None),
        ("a/b/c", None),
        ("https://huggingface.co/org/name", None),
        ("org/name\n", None),
    ],
)
def test_a_hub_id_has_an_owner_and_a_name(source, expected):
    assert parse_hub_id(source) == expected
