"""The thin line on real parts: data → QLoRA → hot-loaded in vLLM → checked SQL → scraped."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from safetensors.torch import load_file, save_file

from eval.task.bundle import WEIGHTS, read_bundle, read_version, write_manifest
from eval.task.store import Alias, publish, read_aliases, write_aliases
from tests.integration.live import QUESTION, Live, need, wait_for

ROOT = Path(__file__).parents[2]


def test_the_seed_request_gives_sql_and_confidence(live: Live) -> None:
    answer = live.ask()
    assert answer["sql_query"].upper().startswith("SELECT")
    assert 0 < answer["confidence"] <= 1
    assert answer["calibrated"] is False
    assert answer["model"] == live.active("spider")
    assert answer["usage"]["completion_tokens"] > 0


def test_ddl_in_the_request_is_what_the_answer_is_checked_against(live: Live) -> None:
    ddl = "CREATE TABLE parrots (id INT PRIMARY KEY, colour TEXT)"
    answer = live.ask(ddl=ddl, natural_language_query="How many parrots are there?")
    assert answer["valid"] is True
    assert answer["tables"] == ["parrots"]


def test_the_base_model_can_be_asked_too(live: Live) -> None:
    assert live.ask(model="base")["model"] == "base"


def test_the_openai_sdk_completes_streams_and_lists_adapters_as_models(live: Live) -> None:
    with openai.OpenAI(base_url=live.url + "/v1", api_key="none", max_retries=0) as client:
        names = [model.id for model in client.models.list()]
        assert {"base", "spider", live.active("spider")} <= set(names)
        whole = client.completions.create(model="spider", prompt="SELECT", max_tokens=4)
        assert whole.model == live.active("spider")
        chunks = list(
            client.chat.completions.create(
                model="base",
                messages=[{"role": "user", "content": "Say hello"}],
                max_tokens=4,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 4
        with pytest.raises(openai.NotFoundError) as refusal:
            client.completions.create(model="nobody", prompt="x")
        assert refusal.value.code == "adapter_not_found"


NAMES = [f"column_number_{i}" for i in range(3000)]


def test_a_schema_over_the_context_is_pruned_and_the_answer_says_so(live: Live) -> None:
    columns = ", ".join(f"{name} TEXT" for name in NAMES)
    answer = live.ask(ddl=f"CREATE TABLE users (signup_date TEXT, {columns})")
    assert answer["notes"][0].startswith("left out of the prompt to fit: users.column_number_")
    assert answer["usage"]["prompt_tokens"] < 4096


def test_a_prompt_over_the_context_is_a_clear_400(live: Live) -> None:
    columns = ", ".join(f"{name} TEXT" for name in NAMES)
    ddl = f"CREATE TABLE t ({columns}, PRIMARY KEY ({', '.join(NAMES)}))"  # keys are never left out
    status, body = live.post("/generate-sql", QUESTION | {"ddl": ddl})
    assert status == 400
    assert body["error"]["code"] == "context_length_exceeded"
    assert body["error"]["hint"]


def refusals_of(live: Live, version: str) -> list[dict[str, Any]]:
    return [line for line in live.log_lines("adapter_refused") if line["version"] == version]


def test_a_half_written_bundle_is_ignored_with_one_line_and_the_old_one_serves(live: Live) -> None:
    before = live.ask()["model"]
    good = read_aliases(live.store)
    half = live.store / "0123456789ab"
    half.mkdir()
    (half / "adapter_config.json").write_text("{}")
    write_aliases(live.store, {**good, "spider": Alias("0123456789ab", good["spider"].active)})
    wait_for(lambda: refusals_of(live, half.name), 30)
    assert live.ask()["model"] == before
    write_aliases(live.store, good)
    (refused,) = refusals_of(live, half.name)
    assert "incomplete" in refused["reason"]
    assert refused["still_serving"] == before


def louder(folder: Path, times: float) -> None:
    """Multiply the effect of the adapter in `folder`, and have manifest and fingerprint follow."""
    manifest, path = read_bundle(folder).manifest, folder / WEIGHTS
    tensors = load_file(path)
    made = {name: t * times if ".lora_B." in name else t for name, t in tensors.items()}
    save_file(made, path, metadata={"format": "pt"})
    write_manifest(folder, manifest)
    fingerprint = folder / "evidence/fingerprint.json"
    record = json.loads(fingerprint.read_text()) | {"digest": read_bundle(folder).digest}
    fingerprint.write_text(json.dumps(record))


def test_an_adapter_that_does_something_else_than_was_trained_is_not_served(
    live: Live, tmp_path: Path
) -> None:
    served = {line["model"]: line for line in live.log_lines("adapter_served")}
    assert served[live.active("spider")]["fingerprint_distance"] < 0.3
    staged = shutil.copytree(
        read_version(live.store, live.active("spider")[-12:]).folder, tmp_path / "b"
    )
    louder(staged, 3)
    good = read_aliases(live.store)
    loud = publish(staged, live.store, "loud")
    wait_for(lambda: refusals_of(live, loud.short), 300)
    (refused,) = refusals_of(live, loud.short)
    assert (refused["alias"], refused["code"]) == ("loud", "drift")
    write_aliases(live.store, good)
    status, answer = live.post("/generate-sql", QUESTION | {"model": "loud"})
    assert (status, answer["error"]["code"]) == (404, "adapter_not_found")


SMALL_STEPS = ("batch_tokens=1024", "device_tokens=1024", "max_examples=20")


class Asker(threading.Thread):
    """Asks without a pause until told to stop; keeps every status and model."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live = live
        self.stop = threading.Event()
        self.seen: list[tuple[int, str]] = []

    def run(self) -> None:
        while not self.stop.is_set():
            status, body = self.live.post("/generate-sql", QUESTION)
            self.seen.append((status, body.get("model", str(body))))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a version trained in five real steps, in a store of its own."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = ROOT / "trainer" / "recipes" / "smoke_cpu.yaml"
    words = [sys.executable, "-m", "trainer", str(recipe), "max_steps=5", *SMALL_STEPS]
    options = ["--store", str(folder / "store"), "--runs", str(folder / "runs")]
    # One thread: two of them wait for each other in vain while an engine computes on both cores.
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, *options], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (alias,) = read_aliases(folder / "store").values()
    return folder / "store" / alias.active


def test_a_trained_version_published_while_serving_takes_over_without_a_failure(
    trained: Path, live: Live
) -> None:
    old = live.active("spider")
    askers = [Asker(live) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        wait_for(lambda: all(asker.seen for asker in askers), 300)
        words = ["publish", str(trained), "spider", "--store", str(live.store)]
        subprocess.run([sys.executable, "-m", "server.adapters", *words], cwd=ROOT, check=True)
        new = live.active("spider")
        assert new != old
        wait_for(lambda: any(model == new for a in askers for _, model in list(a.seen)), 600)
    finally:
        for asker in askers:
            asker.stop.set()
        for asker in askers:
            asker.join()
    seen = [item for asker in askers for item in asker.seen]
    assert {status for status, _ in seen} == {200}
    assert {model for _, model in seen} == {old, new}
    assert live.ask()["model"] == new
    evidence = read_version(live.store, new.split("@")[1]).folder / "evidence"
    assert {path.name for path in evidence.iterdir()} == {"fingerprint.json", "README.md"}


def test_promtool_accepts_the_metrics(live: Live) -> None:
    check = [need("promtool"), "check", "metrics"]
    found = subprocess.run(check, input=live.get("/metrics"), capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: sqlwright
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_a_real_prometheus_scrapes_the_metrics(live: Live, tmp_path: Path) -> None:
    import json
    import socket
    import urllib.request

    program = need("prometheus")
    config = tmp_path / "prometheus.yml"
    config.write_text(PROMETHEUS.format(target=live.url.removeprefix("http://")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen(
        [*words, f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )

    def answers() -> list[Any]:
        query = f"http://{address}/api/v1/query?query=sqlwright_answers_total"
        try:
            with urllib.request.urlopen(query, timeout=5) as response:
                found: list[Any] = json.load(response)["data"]["result"]
                return found
        except OSError:
            return []

    try:
        wait_for(answers, 60)
        assert sum(float(series["value"][1]) for series in answers()) > 0
    finally:
        process.terminate()
        process.wait(30)
