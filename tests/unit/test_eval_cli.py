"""The command from end to end, against a small HTTP server in a thread."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from eval import score
from eval.ask.journal import SUFFIX
from eval.measures import similarity
from eval.task.samples import sample_examples
from tests.unit.evaluating import (
    GOLDS,
    ROWS,
    VERSION,
    Engine,
    at_once,
    fails,
    make_world,
    serving,
    sqlwright_eval,
    strict_json,
    write_predictions,
)

ROOT = Path(__file__).parents[2]
SAMPLES = {example.question: example.sql for example in sample_examples("test")}
HEAVY = ["torch", "transformers", "sentence_transformers", "matplotlib", "scipy", "sklearn",
         "pandas", "sqlalchemy", "psycopg", "pymysql", "vllm", "datasets"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SQLWRIGHT_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["sqlwright-eval"])
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(score, "run_chunks", at_once)


def ask(url: str, *args: object, output: str = "r.json"):
    return sqlwright_eval(
        "run", "--base-url", url, "--data", "dev.jsonl", "--output", output, "--no-page", *args
    )


def test_the_samples_are_asked_judged_and_reported(folder):
    engine = Engine(SAMPLES)
    with serving(engine) as url:
        done = sqlwright_eval("run", "--base-url", url, "--data", "samples", "--model", "spider")
    assert done.exit_code == 0, done.output
    page, path = sorted(folder.glob("runs/*"))
    assert path.match("runs/eval-spider-*Z.json")
    assert page == path.with_suffix(".html")
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"execution_accuracy 1.000 ± 0.000 (n={len(SAMPLES)}) · ")
    assert last.endswith(f"· result {path.relative_to(folder)}")
    record = strict_json(path)
    assert record["versions_used"] == [VERSION]
    assert [item["id"] for item in record["items"]] == [e.id for e in sample_examples("test")]
    assert record["error_classes"] == {}
    assert url not in path.read_text()
    assert len(engine.asked) == len(SAMPLES)
    assert all(body["model"] == "spider" for body in engine.asked)


def test_completions_reaches_a_server_that_only_has_openai_routes(folder, quick):
    engine = Engine()
    with serving(engine) as url:
        done = ask(f"{url}/v1", "--api", "completions", "--max-tokens", 77, output="out/r.json")
    assert done.exit_code == 0, done.output
    assert [body["max_tokens"] for body in engine.asked] == [77] * len(ROWS)
    record = strict_json(folder / "out/r.json")
    assert record["api"] == "completions"
    assert record["measures"]["execution_accuracy"]["value"] == 1.0
    assert {item["completion_tokens"] for item in record["items"]} == {5}


def test_failed_requests_count_as_wrong_and_are_told(folder, quick):
    with serving(Engine(broken={1, 3})) as url:
        done = ask(url, "--concurrency", 1)
    assert done.exit_code == 0, done.output
    assert "2 requests failed and count as wrong; the first: 500: model 'nope'" in done.stderr
    record = strict_json(folder / "r.json")
    scores = [item["scores"]["execution_accuracy"] for item in record["items"]]
    assert scores == [1, 0, 1, 0, 1, 1]
    assert record["error_classes"] == {"no_prediction": 2}
    assert record["num_errors"] == 2
    failed = record["items"][1]
    assert failed["error"] == "500: model 'nope' is not known"
    assert (failed["execution_error"], failed["predicted_answer"]) == (None, None)


def test_what_failed_is_asked_again_by_the_same_command_and_nothing_else(folder, quick):
    engine = Engine(broken={1, 3})
    with serving(engine) as url:
        first = ask(url, "--concurrency", 1)
        assert "the same command asks again what failed, and nothing else" in first.stderr
        assert (folder / f"r.json{SUFFIX}").exists()
        done = ask(url, "--concurrency", 1)
    assert done.exit_code == 0, done.output
    assert engine.questions[6:] == [engine.questions[1], engine.questions[3]]
    record = strict_json(folder / "r.json")
    assert (record["num_errors"], record["measures"]["execution_accuracy"]["value"]) == (0, 1.0)
    assert not (folder / f"r.json{SUFFIX}").exists()


def test_the_cache_answers_a_second_run_alone(folder, quick):
    engine = Engine()
    with serving(engine) as url:
        first = ask(url, "--cache", "kept", "--model", "spider")
        second = ask(url, "--cache", "kept", "--model", "spider", output="again.json")
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert f"{len(ROWS)} answers come from kept" in second.stderr
    assert len(engine.asked) == len(ROWS)
    one, other = (strict_json(folder / name)["items"] for name in ("r.json", "again.json"))
    assert one == other


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("file/r.json", "can't read or write file"),
        ("databases", "can't read or write databases: Is a directory"),
        ("r.html", "--output is the JSON result"),
    ],
)
def test_a_place_that_can_not_be_written_is_named_before_any_request(folder, output, said):
    (folder / "file").write_text("")
    engine = Engine()
    with serving(engine) as url:
        line = fails("run", "--base-url", url, "--data", "dev.jsonl", "--output", output)
    assert said in line
    assert engine.asked == []


def test_a_server_that_is_not_there_is_named(folder):
    url = f"http://127.0.0.1:{unused_port()}"
    line = fails("run", "--base-url", url, "--data", "dev.jsonl")
    assert line.startswith(f"can't reach {url}/generate-sql: ")
    assert line.endswith("is the server running?")
    assert list(folder.glob("runs/*")) == []


@pytest.mark.parametrize("status", [404, 422])
def test_an_unknown_model_ends_it_after_one_request(quick, status):
    engine = Engine(status=status)
    with serving(engine) as url:
        line = fails("run", "--base-url", url, "--data", "dev.jsonl", "--model", "nope")
    assert f"{status}: model 'nope' is not known; check --model" in line
    assert "the server offers spider" in line
    assert len(engine.asked) == 1


FIRST = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIRST + '\n{"id": ', "dev.jsonl:2: not JSON"),
        (json.dumps(ROWS[0] | {"lang": "en"}), "dev.jsonl:1: unknown field 'lang'"),
        ("\n", "dev.jsonl: holds no examples"),
        (f"{FIRST}\n{FIRST}", "item 'b-extra': the id stands there twice"),
        (json.dumps(ROWS[0] | {"db_id": "gone"}), "item 'b-extra': no database file"),
        (json.dumps(ROWS[0] | {"dialect": "klingon"}), "unknown dialect 'klingon'"),
        (json.dumps(ROWS[0] | {"dialect": "mysql"}), "its database speaks sqlite"),
        (json.dumps(ROWS[0] | {"sql": "SELECT x FROM song"}), "gold query fails: no such column"),
        (json.dumps(ROWS[0] | {"alternatives": ["SELECT 1", "nope"]}), "gold query fails: near"),
    ],
)
def test_bad_data_is_named_before_any_request(folder, quick, text, said):
    (folder / "dev.jsonl").write_text(text)
    engine = Engine()
    with serving(engine) as url:
        assert said in fails("run", "--base-url", url, "--data", "dev.jsonl")
    assert engine.asked == []


@pytest.mark.parametrize("url", ["localhost:8000", "http://me:pw@h"])
def test_an_address_that_can_not_be_asked_is_refused(url):
    assert fails("run", "--base-url", url, "--data", "dev.jsonl").startswith("--base-url")


ASK = ("run", "--base-url", "http://h:1", "--data", "dev.jsonl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--figure", "../x"), "--figure '../x' must match"),
        (("--figure", "Spider"), "--figure 'Spider' must match"),
        (("--figure", ""), "--figure '' must match"),
        (("--figure", "ex", "--measure", "accuracy"), "--measure 'accuracy' is unknown; known: ex"),
        (("--extra-body", "[1]"), "--extra-body must be a JSON object, is list"),
        (("--extra-body", "{"), "--extra-body is not JSON"),
        (("--raw",), "--raw: /generate-sql gives SQL only"),
        (("--prompt-of", "."), "--prompt-of fits --api completions"),
        (("--by-name", "--api", "chat"), "--by-name fits --api generate-sql"),
        (("--train", "gone.jsonl"), "gone.jsonl: can't be read"),
        (("--against", "gone.json"), "gone.json: can't be read"),
        (("--bundle", "databases"), "adapter_config.json is missing"),
        (("--embedding-model", "databases"), "no folder of a sentence-transformers model"),
        (("--predictions", "p.jsonl"), "give either --base-url or --predictions"),
        (("--databases", "klingon://h/{db_id}"), "klingon"),
    ],
)
def test_an_option_that_can_not_be_used_is_named_before_any_request(words, said):
    assert said in fails(*ASK, *words)


def test_neither_key_nor_password_gets_into_a_file(folder, quick, monkeypatch):
    """A result holds the command line, and so does a figure, which is committed."""
    words = ["--api-key", "s3cret", "--figure", "some_ex", "--output", "r.json", "--data",
             "dev.jsonl", "--databases", "databases"]  # fmt: skip
    url = ["--databases=postgresql://me:s3cr/et@h/{db_id}", "--api-key=s3cret"]
    with serving(Engine()) as address:
        monkeypatch.setattr(sys, "argv", ["sqlwright-eval", "run", *words, *url])
        done = sqlwright_eval("run", *words, "--base-url", address)
    assert done.exit_code == 0, done.output
    for name in ("r.json", "r.html", "benchmarks/results/some_ex.json"):
        text = (folder / name).read_text()
        assert "s3cret" not in text
        assert "s3cr/et" not in text
    assert "--api-key ***" in strict_json(folder / "r.json")["command"]


def test_test_suites_expose_what_one_database_lets_pass(folder, monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_CACHE", str(folder / "cache"))
    answers = write_predictions(
        folder / "p.jsonl", z_empty="SELECT kind FROM animal WHERE legs > 9"
    )
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", answers, "--suite", "--ves", "--output",
        "r.json", "--no-page",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = strict_json(folder / "r.json")
    assert record["judge"]["suite"]
    found = {item["id"]: item["scores"] for item in record["items"]}
    assert found["z-empty"]["execution_accuracy"] == 1.0
    assert found["z-empty"]["test_suite_accuracy"] == 0.0
    assert {name for name, s in found.items() if s["test_suite_accuracy"] == 0.0} == {"z-empty"}
    lucky = next(item for item in record["items"] if item["id"] == "z-empty")
    assert lucky["flags"] == ["empty_gold", "lucky_match"]
    assert lucky["error_classes"]
    assert record["error_classes"] == {}  # of what is wrong on its own database
    assert found["b-easy"]["ves"] > 0
    assert set(record["groups"]["hardness"]["easy"]["measures"]) == {
        "execution_accuracy", "test_suite_accuracy", "valid_sql"
    }  # fmt: skip


def embed(texts: list[str]) -> list[list[float]]:
    """Alike if they begin with the same letter."""
    return [[float(text[:1] == letter) for letter in "SE"] for text in texts]


@pytest.mark.parametrize("option", [["--similarity"], ["--embedding-model", "somewhere"]])
def test_similarity_is_taken_where_it_is_asked_for(folder, quick, monkeypatch, option):
    monkeypatch.setattr("eval.__main__.load_embedder", lambda _: similarity.Embedder(embed))
    answers = write_predictions(folder / "p.jsonl", b_easy="EXPLAIN", b_hard="SELECT 1 + 1")
    done = sqlwright_eval(
        "run", "--data", "dev.jsonl", "--predictions", answers, "--output", "r.json", "--no-page",
        *option,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = {item["id"]: item["scores"] for item in strict_json(folder / "r.json")["items"]}
    for name in GOLDS:
        assert found[name]["semantic_similarity_sql"] == float(name != "b-easy")
    assert found["b-easy"]["semantic_similarity_rows"] == 0.0
    assert "semantic_similarity_rows" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["compare", "--help"]])
def test_help_is_there(words):
    done = sqlwright_eval(*words)
    assert (done.exit_code, "Usage" in done.stdout) == (0, True)


def test_the_command_starts_without_what_few_runs_need():
    code = f"import sys, eval.__main__; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"
