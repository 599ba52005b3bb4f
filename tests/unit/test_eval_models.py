"""What a server offers, and which version a name means there."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from eval.ask.connection import Server, ServerError, open_session
from eval.ask.models import offered, resolve_model, shown
from tests.unit.serving import Handler, Script, good, listing, serving

OURS = listing(
    {"id": "base", "root": "base"},
    {"id": "spider", "root": "spider@0123456789ab"},
    {"id": "spider@0123456789ab", "root": "spider@0123456789ab"},
    {"id": "plain", "root": "/models/plain"},
    {"id": "bare"},
)


async def resolve(models: Handler | None, model: str | None) -> str:
    async with serving(Script(good), models) as url:
        return await asyncio.to_thread(resolve_model, Server(url), model)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("spider", "spider@0123456789ab"),
        ("spider@0123456789ab", "spider@0123456789ab"),
        ("base", "base"),
        ("plain", "plain"),
        ("bare", "bare"),
        ("absent", "absent"),
    ],
)
async def test_our_server_says_which_version_an_alias_means(model, version):
    assert await resolve(OURS, model) == version


async def test_the_only_model_needs_no_name():
    assert await resolve(listing({"id": "one"}), None) == "one"


async def test_of_several_models_one_must_be_named():
    with pytest.raises(ServerError, match="name a model by --model: the server offers base, "):
        await resolve(OURS, None)


def says(text: str = "", status: int = 200) -> Handler:
    async def answer(_):
        return web.Response(text=text, status=status)

    return answer


@pytest.mark.parametrize(
    "models",
    [None, says("<html>"), says("[]"), says('{"data": 3}'), says('{"data": [3]}'), says("[" * 9999),
     says('{"data": [{"name": "x"}]}'), says("{}", 500), says("", 503), says("", 302)],
)  # fmt: skip
async def test_of_a_server_without_a_list_the_name_is_all_that_is_known(models):
    assert await resolve(models, "m") == "m"
    with pytest.raises(ServerError, match="--model: the server lists none"):
        await resolve(models, None)


async def test_a_server_that_refuses_the_key_is_said_so():
    with pytest.raises(ServerError, match="401: no entry; set SQLWRIGHT_API_KEY"):
        await resolve(says("no entry", 401), "m")


async def test_a_server_that_is_not_there_is_said_so():
    server = Server(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(ServerError, match=f"can't reach {server.base_url}/v1/models: "):
        await asyncio.to_thread(resolve_model, server, "m")
    async with open_session(server) as session:
        with pytest.raises(ServerError, match="can't reach"):
            await offered(session, server)


def test_what_is_offered_is_shown_by_likeness_and_cut():
    names = dict.fromkeys([*(f"other-{i}" for i in range(40)), "spider", "spider-v2"], "")
    said = shown(names, "spidr")
    assert said.startswith("the server offers spider, spider-v2, other-")
    assert said.endswith(" and 30 more")
    assert shown({}) == ""
