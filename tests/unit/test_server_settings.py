"""Settings: from the environment and from options, with every mistake named."""

import os

import pytest
from pydantic import ValidationError

from server.__main__ import parse
from server.settings import FOREIGN, PREFIX, Settings, unknown_variables


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def test_the_defaults_are_local_open_and_valid():
    settings = parse([])
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.api_keys, settings.cors_origins) == ([], [])
    assert unknown_variables() == []


def test_a_variable_is_read_and_an_option_stands_over_it(monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_PORT", "9000")
    monkeypatch.setenv("SQLWRIGHT_MAX_TOKENS", "99")
    assert (parse([]).port, parse([]).max_tokens) == (9000, 99)
    assert parse(["--port", "9001"]).port == 9001
    assert parse(["--port=9001"]).max_tokens == 99


OTHER_VALUES = {
    "max_lora_rank": "64", "engine_url": "http://e", "log_level": "debug", "decoding": "free",
    "repair": "agree", "agree_by": "text", "repair_samples": "4", "run_queries": "true",
    "uploads": "true",
}  # fmt: skip


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_field_is_a_variable_and_an_option(name, monkeypatch, capsys):
    kind = Settings.model_fields[name].annotation
    value = OTHER_VALUES.get(name, "1024" if kind is int else "0.5")
    from_option = parse(["--" + name.replace("_", "-"), value])
    monkeypatch.setenv(PREFIX + name.upper(), value)
    assert getattr(from_option, name) == getattr(Settings(), name)  # type: ignore[call-arg]
    monkeypatch.delenv(PREFIX + name.upper())
    if name != "port":
        assert getattr(from_option, name) != getattr(Settings(), name)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", []), ("a", ["a"]), ("a,b", ["a", "b"]), (" a , b ,", ["a", "b"]), (",,", [])],
)
def test_lists_are_separated_by_commas(monkeypatch, text, keys):
    monkeypatch.setenv("SQLWRIGHT_API_KEYS", text)
    monkeypatch.setenv("SQLWRIGHT_CORS_ORIGINS", text)
    settings = parse([])
    assert [key.get_secret_value() for key in settings.api_keys] == keys
    assert settings.cors_origins == keys
    assert [key.get_secret_value() for key in parse(["--api-keys", "x,y"]).api_keys] == ["x", "y"]


def test_a_key_is_in_no_text_of_the_settings(monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_API_KEYS", "s3cret")
    assert "s3cret" not in repr(parse([])) + str(parse([]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("decoding", "greedy"),
        ("repair", "all"),
        ("agree_by", "hash"),
        ("repair_samples", "17"),
        ("temperature", "0"),
        ("suggest_ms", "-1"),
        ("port", ""),
        ("max_body_bytes", "1023"),
        ("max_inflight", "0"),
        ("max_tokens", "15"),
        ("max_tokens", "4097"),
        ("max_model_len", "255"),
        ("max_num_seqs", "-1"),
        ("max_loras", "0"),
        ("max_lora_rank", "-1"),
        ("max_cpu_loras", "-1"),
        ("store_gib", "-1"),
        ("rollout_margin", "0"),
        ("rollout_error", "1"),
        ("rollout_min_pairs", "0"),
        ("rollout_max_pairs", "0"),
        ("rollout_min_agreement", "1"),
        ("max_lora_rank", "7"),
        ("max_lora_rank", "1024"),
        ("kv_cache_gib", "0"),
        ("kv_cache_gib", "1.5"),
        ("gpu_memory_utilization", "0"),
        ("gpu_memory_utilization", "1.01"),
        ("request_seconds", "0"),
        ("start_seconds", "-1"),
        ("rescan_seconds", "0"),
        ("rescan_seconds", "nan"),
        ("request_seconds", "inf"),
        ("log_level", "loud"),
        ("log_level", "INFO "),
        ("engine_url", "localhost:8000"),
        ("engine_url", "ftp://host"),
        ("engine_url", "http://"),
        ("engine_url", "http://a b"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(ValidationError) as caught:
        parse([])
    assert caught.value.errors()[0]["loc"] == (name,)


def test_an_answer_must_leave_room_for_a_prompt():
    with pytest.raises(ValidationError, match="max_tokens"):
        parse(["--max-tokens", "512", "--max-model-len", "512"])


def test_every_origin_is_refused_where_keys_are_used():
    assert parse(["--cors-origins", "*"]).cors_origins == ["*"]
    with pytest.raises(ValidationError, match="cors_origins"):
        parse(["--cors-origins", "*", "--api-keys", "k"])


def test_a_misspelt_variable_is_found(monkeypatch):
    monkeypatch.setenv("SQLWRIGHT_MAX_TOKEN", "1")
    monkeypatch.setenv("SQLWRIGHT_port", "1")
    monkeypatch.setenv("OTHER_MAX_TOKEN", "1")
    assert unknown_variables() == ["SQLWRIGHT_MAX_TOKEN", "SQLWRIGHT_port"]


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_variables_of_the_other_parts_are_let_be(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name, "x")
    assert unknown_variables() == []
    parse([])


@pytest.mark.parametrize("option", ["--max-token", "--nope", "--max", "-p"])
def test_an_unknown_or_shortened_option_is_refused(option, capsys):
    with pytest.raises(SystemExit) as caught:
        parse([option, "20"])
    assert caught.value.code == 2
    assert option in capsys.readouterr().err


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="nope"):
        Settings(nope=1)  # type: ignore[call-arg]


def test_help_names_every_setting_with_its_variable(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"{PREFIX}{name.upper()})".replace(" ", "") in text.replace(" ", "")
        assert field.description
