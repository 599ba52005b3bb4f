"""The admin API: who may use it, what its routes do, and that nothing wrong gets in."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from pydantic import ValidationError

from eval.task.bundle import CONFIG, MANIFEST, WEIGHTS
from eval.task.store import Alias, add_version, read_aliases
from server.app import create_admin_app
from server.errors import EngineFailed
from server.settings import Settings
from tests.conftest import (
    QUESTION,
    assert_error,
    client_of,
    make_bundle,
    make_client,
    publish_new,
)

KEY, OTHER = "admin-key", "user-key"
HEADERS = {"Authorization": f"Bearer {KEY}"}
NONE = "0" * 12


@pytest.fixture
async def admin(generator):
    client = make_client(generator, admin_keys=[KEY], api_keys=[OTHER], uploads=True)
    client.headers.update(HEADERS)
    async with client:
        yield client


@pytest.fixture
def two(store, tmp_path):
    return add_version(make_bundle(tmp_path / "two", tag="two"), store).short


@pytest.fixture
def one(store):
    return read_aliases(store)["spider"].active


def packed(
    folder: Path, mode: Literal["w", "w:gz"] = "w", more: Mapping[str, bytes] | None = None
) -> bytes:
    """The files of `folder` as a tar archive, `more` besides."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        tar.add(folder, ".")
        for name, content in (more or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


async def upload(
    admin: httpx.AsyncClient, body: bytes, alias: str = "spider", **query: Any
) -> httpx.Response:
    headers = {"Content-Type": "application/x-tar"}
    path = f"/admin/adapters/{alias}/publish"
    return await admin.post(path, content=body, headers=headers, params=query)


PATHS = [
    ("GET", "/admin/adapters"),
    ("GET", "/admin/adapters/spider/evidence"),
    ("GET", "/admin/audit"),
    ("POST", "/admin/adapters/spider/rollback"),
    ("POST", "/admin/adapters/spider/promote"),
    ("POST", "/admin/adapters/spider/withdraw"),
    ("POST", f"/admin/versions/{NONE}/unload"),
    ("POST", "/admin/adapters/spider/publish"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_route_opens_without_the_admin_key(admin, method, path, store, one):
    for headers in ({}, {"Authorization": f"Bearer {OTHER}"}):
        admin.headers.pop("Authorization", None)
        assert_error(await admin.request(method, path, headers=headers), 401, "invalid_api_key")
    assert read_aliases(store)["spider"] == Alias(one)


async def test_the_admin_key_opens_nothing_else(admin):
    assert_error(await admin.post("/generate-sql", json=QUESTION), 401, "invalid_api_key")


@pytest.mark.parametrize(("method", "path"), PATHS[:-1])
async def test_without_admin_keys_there_is_no_admin_api(client, method, path):
    response = await client.request(method, path, json={})
    assert_error(response, 404, "not_found")


async def test_an_own_listener_has_the_admin_api_to_itself(generator, one):
    settings: dict[str, Any] = {"admin_keys": [KEY], "admin_port": 9}
    async with make_client(generator, **settings) as public:
        assert_error(await public.get("/admin/adapters", headers=HEADERS), 404, "not_found")
    app = create_admin_app(generator, Settings(**settings, store=generator.adapters.store))
    async with client_of(app) as private:
        assert (await private.get("/admin/adapters", headers=HEADERS)).status_code == 200
        assert_error(await private.post("/generate-sql", json=QUESTION), 404, "not_found")


def test_a_key_can_not_be_both(store):
    with pytest.raises(ValidationError, match="admin_keys"):
        Settings(store=store, **{"admin_keys": [KEY], "api_keys": [KEY]})  # type: ignore[arg-type]


async def test_what_is_there_and_what_is_served(admin, store, one, two):
    found = (await admin.get("/admin/adapters")).json()
    (alias,) = found["aliases"]
    assert (alias["active"], alias["serving"], alias["refused"]) == (one, f"spider@{one}", [])
    versions = {v["version"]: v["aliases"] for v in found["versions"]}
    assert versions == {one: ["spider"], two: []}


async def test_a_version_is_promoted_served_and_rolled_back(admin, store, one, two):
    found = (await admin.post("/admin/adapters/spider/promote", json={"version": two})).json()
    assert (found["serving"], found["previous"]) == (f"spider@{two}", one)
    found = (await admin.post("/admin/adapters/spider/rollback")).json()
    assert found["serving"] == f"spider@{one}"
    who = "admin:" + hashlib.sha256(KEY.encode()).hexdigest()[:12]
    lines = (await admin.get("/admin/audit", params={"limit": 2})).json()["records"]
    assert [(line["actor"], line["action"]) for line in lines] == [
        (who, "rollback"),
        (who, "promote"),
    ]


@pytest.mark.parametrize("mode", ["shadow", "canary"])
async def test_a_rollout_begins_is_shown_and_is_promoted(admin, store, one, two, mode):
    body = {"version": two, "share": 0.5, "automatic": False}
    found = (await admin.post(f"/admin/adapters/spider/{mode}", json=body)).json()
    assert (found["mode"], found["share"], found["automatic"]) == (mode, 0.5, False)
    assert (found["serving"], found["serving_candidate"]) == (f"spider@{one}", f"spider@{two}")
    found = (await admin.post("/admin/adapters/spider/promote")).json()
    assert (found["serving"], found["candidate"]) == (f"spider@{two}", None)


async def test_pin_and_withdraw(admin, store):
    assert (await admin.post("/admin/adapters/spider/pin")).json()["pinned"] is True
    found = await admin.post("/admin/adapters/spider/pin", json={"pinned": False})
    assert found.json()["pinned"] is False
    assert (await admin.post("/admin/adapters/spider/withdraw")).json()["aliases"] == []
    assert read_aliases(store) == {}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("adapters/none/promote", {"version": NONE}, 404, "no_such_alias"),
        ("adapters/spider/promote", {"version": NONE}, 404, "no_such_version"),
        ("adapters/spider/promote", {}, 409, "no_candidate"),
        ("adapters/spider/rollback", None, 409, "no_previous"),
        ("adapters/spider/shadow", {"version": NONE}, 404, "no_such_version"),
        ("adapters/spider/canary", {"version": NONE, "share": 0}, 422, "invalid_value"),
        ("adapters/spider/canary", {"version": "../../etc"}, 422, "invalid_value"),
        ("adapters/spider/canary", {"version": NONE, "x": 1}, 422, "unknown_field"),
        ("adapters/spider/pin", {"pinned": "yes"}, 422, "invalid_value"),
        ("adapters/UPPER/pin", {}, 422, "invalid_value"),
        ("versions/nope/unload", None, 422, "invalid_value"),
        (f"versions/{NONE}/validate", None, 422, "missing"),
    ],
)
async def test_an_operators_mistake_is_said_and_changes_nothing(
    admin, store, one, path, body, status, code
):
    assert_error(await admin.post(f"/admin/{path}", json=body), status, code)
    assert read_aliases(store)["spider"] == Alias(one)


async def test_a_version_that_must_not_be_served_is_refused_before_anything_changes(
    admin, store, one, two
):
    path = store / two / WEIGHTS
    path.write_bytes(path.read_bytes() + b" ")
    for action, body in (("promote", {"version": two}), ("canary", {"version": two})):
        response = await admin.post(f"/admin/adapters/spider/{action}", json=body)
        assert_error(response, 422, "tampered")
    assert_error(await admin.post(f"/admin/versions/{two}/validate"), 422, "tampered")
    assert read_aliases(store)["spider"] == Alias(one)


async def test_a_version_is_validated(admin, one):
    found = (await admin.post(f"/admin/versions/{one}/validate")).json()
    assert found == {
        "version": one, "admitted": True, "rank": 8, "target_modules": ["q_proj"],
    }  # fmt: skip


async def test_a_version_that_an_alias_names_is_not_unloaded(admin, one):
    assert_error(await admin.post(f"/admin/versions/{one}/unload"), 409, "in_use")


async def test_a_version_that_nothing_names_is_unloaded(admin, engine, store, one):
    for tag in ("two", "three"):
        publish_new(store, tag=tag)
    await admin.get("/admin/adapters")
    assert (await admin.post(f"/admin/versions/{one}/unload")).status_code == 200
    assert engine.unloaded == [f"spider@{one}"]
    response = await admin.post(
        "/generate-sql",
        json=QUESTION | {"model": f"spider@{one}"},
        headers={"Authorization": f"Bearer {OTHER}"},
    )
    assert_error(response, 404, "adapter_not_found")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_a_bundle_is_uploaded_and_served(admin, store, one, tmp_path, mode):
    bundle = make_bundle(tmp_path / "new", tag="new")
    (bundle / "evidence").mkdir()
    (bundle / "evidence" / "README.md").write_text("card")
    found = (await upload(admin, packed(bundle, mode))).json()
    assert (found["state"], found["alias"]) == ("active", "spider")
    entry = read_aliases(store)["spider"]
    assert (entry.active, entry.previous) == (found["version"], one)
    assert (store / entry.active / "evidence" / "README.md").read_text() == "card"
    assert not [path for path in store.iterdir() if path.name.startswith(".staging-")]


@pytest.mark.parametrize(("rollout", "state"), [("shadow", "shadow"), ("store", "stored")])
async def test_an_upload_may_begin_a_rollout_or_only_be_kept(
    admin, store, one, tmp_path, rollout, state
):
    body = packed(make_bundle(tmp_path / "new", tag="new"))
    found = (await upload(admin, body, rollout=rollout, share=0.2)).json()
    assert found["state"] == state
    entry = read_aliases(store)["spider"]
    assert (entry.active, entry.shadow) == (one, found["version"] if state == "shadow" else None)
    assert (store / found["version"]).is_dir()


async def test_uploads_are_off_unless_they_are_allowed(generator, store):
    async with make_client(generator, admin_keys=[KEY]) as client:
        client.headers.update(HEADERS)
        assert_error(await upload(client, b"x"), 403, "uploads_off")


def linked(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in (CONFIG, MANIFEST):
            tar.add(folder / name, name)
        member = tarfile.TarInfo(WEIGHTS)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    return out.getvalue()


def many(_: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for _number in range(100):
            tar.addfile(tarfile.TarInfo(CONFIG))
    return out.getvalue()


def long_header(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "x" * 100_000}) as tar:
        tar.add(folder, ".")
    return out.getvalue()


BAD: Mapping[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "no archive": lambda _: b"x" * 2000,
    "cut off": lambda folder: packed(folder)[:3000],
    "no gzip": lambda _: b"\x1f\x8b" + b"x" * 100,
    "cut gzip": lambda folder: packed(folder, "w:gz")[:-100],
    "a path out": lambda folder: packed(folder, more={"../out": b"x"}),
    "an absolute path": lambda folder: packed(folder, more={"/tmp/out": b"x"}),
    "code": lambda folder: packed(folder, more={"model.py": b"x"}),
    "twice": lambda folder: packed(folder, more={CONFIG: b"{}"}),
    "a hidden file of evidence": lambda folder: packed(folder, more={"evidence/.x.json": b"{}"}),
    "a link": linked,
    "many members": many,
    "a long header": long_header,
}


@pytest.mark.parametrize("kind", BAD)
async def test_an_archive_that_is_no_bundle_leaves_nothing_behind(
    admin, store, one, tmp_path, kind
):
    before = sorted(store.rglob("*"))
    body = BAD[kind](make_bundle(tmp_path / "new", tag="new"))
    response = await upload(admin, body)
    code = response.json()["error"]["code"]
    assert (response.status_code, code in ("bad_archive", "incomplete")) == (422, True), code
    assert sorted(store.rglob("*")) == before
    assert read_aliases(store)["spider"] == Alias(one)


async def test_a_bundle_for_another_base_is_refused_by_its_code(admin, store, one, tmp_path):
    body = packed(make_bundle(tmp_path / "new", base_model_sha256="c" * 64))
    assert_error(await upload(admin, body), 422, "wrong_base")
    assert read_aliases(store)["spider"] == Alias(one)


async def test_a_bundle_that_is_too_large_packed_or_not(generator, tmp_path):
    settings: dict[str, Any] = {"admin_keys": [KEY], "uploads": True, "max_upload_bytes": 20_000}
    async with make_client(generator, **settings) as client:
        client.headers.update(HEADERS)
        assert_error(await upload(client, b"x" * 20_001), 413, "request_too_large")
        bomb = io.BytesIO()
        with tarfile.open(fileobj=bomb, mode="w:gz") as tar:
            member = tarfile.TarInfo(WEIGHTS)
            member.size = 1_000_000
            tar.addfile(member, io.BytesIO(bytes(1_000_000)))
        assert_error(await upload(client, bomb.getvalue()), 413, "request_too_large")


async def test_an_archive_is_taken_by_the_one_route_only(admin):
    headers = {"Content-Type": "application/x-tar"}
    response = await admin.post("/admin/adapters/spider/promote", content=b"x", headers=headers)
    assert_error(response, 415, "unsupported_media_type")
    response = await admin.post("/admin/adapters/spider/publish", json={})
    assert_error(response, 415, "unsupported_media_type")


async def test_an_operator_can_roll_back_while_clients_are_refused(generator, store, one):
    publish_new(store, tag="two")
    await generator.adapters.refresh()
    settings: dict[str, Any] = {"admin_keys": [KEY], "max_inflight": 1}
    async with make_client(generator, **settings) as client:
        gate = generator.engine.gate = asyncio.Event()
        waiting = asyncio.create_task(client.post("/generate-sql", json=QUESTION))
        while not generator.engine.questions:
            await asyncio.sleep(0.001)
        assert_error(await client.post("/generate-sql", json=QUESTION), 503, "overloaded")
        found = await client.post("/admin/adapters/spider/rollback", headers=HEADERS)
        assert found.json()["serving"] == f"spider@{one}"
        gate.set()
        assert (await waiting).status_code == 200


async def test_what_can_not_be_proved_is_said_and_the_old_version_goes_on(
    admin, store, one, engine, tmp_path
):
    version = add_version(make_bundle(tmp_path / "new", tag="new"), store).short
    engine.fail(EngineFailed("no"), f"spider@{version}")
    response = await admin.post("/admin/adapters/spider/promote", json={"version": version})
    assert f"spider@{one}" in assert_error(response, 409, "refused_by_server")["hint"]
    (alias,) = (await admin.get("/admin/adapters")).json()["aliases"]
    assert (alias["serving"], alias["refused"][0]["code"]) == (f"spider@{one}", "engine")


async def test_a_store_that_is_over_its_quota_takes_no_more(generator, store, one, tmp_path):
    settings: dict[str, Any] = {"admin_keys": [KEY], "uploads": True, "store_gib": 1e-6}
    async with make_client(generator, **settings) as client:
        client.headers.update(HEADERS)
        body = packed(make_bundle(tmp_path / "new", tag="new"))
        assert_error(await upload(client, body), 409, "over_quota")
    assert read_aliases(store)["spider"] == Alias(one)


async def test_a_damaged_store_is_our_fault_and_said(admin, store):
    (store / "aliases.json").write_text("{")
    assert_error(await admin.get("/admin/adapters"), 500, "store_error")


async def test_evidence_of_an_alias(admin, two):
    await admin.post("/admin/adapters/spider/shadow", json={"version": two})
    found = (await admin.get("/admin/adapters/spider/evidence")).json()
    assert (found["alias"], found["rollouts"]) == ("spider", [])
