"""A state machine of adapters' life on one server: whatever an operator, the engine and clients do
in whatever order, an answer is that of the version which it names, and that one may answer."""

import asyncio
import json
import math
import shutil
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eval.task.audit import read_last
from eval.task.bundle import (
    MANIFEST,
    VERSION_NAME,
    WEIGHTS,
    BundleError,
    Manifest,
    read_version,
    write_manifest,
)
from eval.task.store import add_version, read_aliases
from server.adapters.admission import Admission
from server.adapters.collection import Policy
from server.adapters.copies import Copies
from server.adapters.operations import OperationError, Operations
from server.adapters.sequential import Rules
from server.databases import Databases, sample_databases
from server.errors import AdapterNotFound, EngineFailed, NotReady
from server.generate import Generator
from server.rollout import Rollouts
from server.schemas import GenerateRequest, GenerateResponse
from tests.conftest import BASE_SHA256, Ask, FakeEngine, completion_of, make_bundle, make_table

ALIASES = ("spider", "bird")
TAGS = ("one", "two", "three", "four", "broken")
BROKEN = "broken"
SLOTS = 2

T = TypeVar("T")
aliases, tags = st.sampled_from(ALIASES), st.sampled_from(TAGS)
users = st.integers(0, 5).map(str)


class FaithfulEngine(FakeEngine):
    """Loads versions from `folder` as vLLM's resolver does, keeps `SLOTS` of them, and answers with
    the digest of the weights that it has loaded under a name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.loaded: OrderedDict[str, str] = OrderedDict()
        self.starts = 1
        self.is_up = True
        self.unknown: list[str] = []

    async def _answer(self, how: str, model: str, text: str, **body: Any) -> list[Any]:
        start, digest = self.starts, self._load(model)
        await self._meet(Ask(how, model, text, body))
        if not self.is_up or self.starts != start:
            raise NotReady("the engine has died")
        return [completion_of(f"SELECT name FROM users WHERE name = '{digest}'")]

    async def _meet(self, ask: Ask) -> None:
        """Loads are not held up: they have the store's turn, without which nothing else goes on."""
        if not ask.is_warm_up:
            await super()._meet(ask)
            return
        gate, self.gate = self.gate, None
        try:
            await super()._meet(ask)  # waits for nothing now
        finally:
            self.gate = gate

    def _load(self, model: str) -> str:
        if not self.is_up:
            raise NotReady("the engine is down")
        match = VERSION_NAME.fullmatch(model)
        if match is None:
            return "base"
        if model not in self.loaded:
            try:
                self.loaded[model] = read_version(self.folder, match[2]).short
            except BundleError as error:
                self.unknown.append(model)
                raise EngineFailed(f"no adapter {model}: {error}") from error
        self.loaded.move_to_end(model)
        digest = self.loaded[model]
        while len(self.loaded) > SLOTS:
            self.loaded.popitem(last=False)
        return digest

    def die(self) -> None:
        self.is_up = False
        self.starts += 1
        self.loaded.clear()


def spoil(bundle: Path) -> None:
    """Give a bundle a weight that is no number, with hashes that fit."""
    path = bundle / WEIGHTS
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", math.nan))
    write_manifest(bundle, read_manifest(bundle))


def read_manifest(bundle: Path) -> Manifest:
    return Manifest(**json.loads((bundle / MANIFEST).read_text()))


class Lifecycle(RuleBasedStateMachine):
    """The server's own table, generator and rollouts on a store on disk and a faithful engine."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        self.store = self.folder / "store"
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.running: list[tuple[asyncio.Task[GenerateResponse], asyncio.Event]] = []
        self.operate = Operations(self.store, "shell:test")
        self.changes = 0

    def teardown(self) -> None:
        for task, _ in self.running:
            task.cancel()
        self.run(asyncio.sleep(0))
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.made = {tag: make_bundle(self.folder / tag, tag=tag) for tag in TAGS}
        spoil(self.made[BROKEN])
        self.short = {tag: add_version(b, self.store).short for tag, b in self.made.items()}
        self.operate.publish(self.made["one"], "spider")
        self.changes = 1
        self.engine = FaithfulEngine(self.folder / "copies")
        self.start_facade()

    def start_facade(self) -> None:
        copies = Copies(self.folder / "copies")
        copies.remove()
        self.table = make_table(
            self.store, self.engine, admission=Admission(BASE_SHA256), copies=copies,
            slots=SLOTS, clock=lambda: self.now,
        )  # fmt: skip
        self.rollouts = Rollouts(self.table, Rules(min_pairs=3))
        self.generator = Generator(
            engine=self.engine, adapters=self.table, metrics=self.table.metrics,
            databases=Databases(sample_databases(), "shop"), default_adapter="spider",
            max_tokens=128, max_model_len=2048, rollouts=self.rollouts,
        )  # fmt: skip
        self.look()

    # What operators do. A server notices at once, or only with the next rescan.

    def change(self, work: Any, *args: Any, notice: bool = True, **kwargs: Any) -> None:
        try:
            work(*args, **kwargs)
            self.changes += 1
        except OperationError:
            pass
        if notice:
            self.look()

    def look(self) -> None:
        """Have the server look at the store; what that says is then served, if it can be."""
        self.run(self.table.refresh())
        if not self.engine.is_up:
            return
        found = read_aliases(self.store)
        assert set(self.table.routes) <= set(found), "a withdrawn name is served"
        for alias, entry in found.items():
            route = self.table.routes.get(alias)
            if entry.active != self.short[BROKEN]:
                assert route and route.active.digest[:12] == entry.active, "an older version"
            if route:
                tried = route.candidate and route.candidate.digest[:12]
                assert tried == (None if entry.candidate == self.short[BROKEN] else entry.candidate)

    @rule(alias=aliases, tag=tags, notice=st.booleans())
    def publish(self, alias: str, tag: str, notice: bool) -> None:
        self.change(self.operate.publish, self.made[tag], alias, notice=notice)

    @rule(alias=aliases, tag=st.none() | tags, notice=st.booleans())
    def promote(self, alias: str, tag: str | None, notice: bool) -> None:
        self.change(self.operate.promote, alias, tag and self.short[tag], notice=notice)

    @rule(alias=aliases, notice=st.booleans())
    def roll_back(self, alias: str, notice: bool) -> None:
        self.change(self.operate.rollback, alias, notice=notice)

    @rule(
        alias=aliases, tag=tags, mode=st.sampled_from(["shadow", "canary"]),
        share=st.sampled_from([0.3, 0.9]), automatic=st.booleans(),
    )  # fmt: skip
    def try_out(self, alias: str, tag: str, mode: Any, share: float, automatic: bool) -> None:
        self.change(self.operate.try_out, mode, alias, self.short[tag], share, automatic=automatic)

    @rule(alias=aliases, pinned=st.booleans())
    def pin(self, alias: str, pinned: bool) -> None:
        self.change(self.operate.pin, alias, pinned=pinned)
        self.run(self.table.keep_pinned())

    @rule(alias=aliases)
    def withdraw(self, alias: str) -> None:
        self.change(self.operate.withdraw, alias)

    @rule()
    def collect(self) -> None:
        """Then put back what was removed: any bundle may be published again."""
        self.operate.collect(Policy(min_age=0))
        for entry in read_aliases(self.store).values():
            assert all((self.store / version).is_dir() for version in entry.versions)
        for bundle in self.made.values():
            add_version(bundle, self.store)

    @rule()
    def notice(self) -> None:
        self.look()

    @rule(seconds=st.sampled_from([1.0, 200.0]))
    def wait(self, seconds: float) -> None:
        if not self.running:  # none takes longer than its time
            self.now += seconds
            self.look()

    @rule()
    def decide(self) -> None:
        before = len(read_last(self.store, 10_000))
        self.run(self.rollouts.flush())
        self.changes += len(read_last(self.store, 10_000)) - before

    # What clients do.

    def ask(self, alias: str, user: str) -> Coroutine[Any, Any, GenerateResponse]:
        body = {"natural_language_query": "Who?", "model": alias, "user": user}
        request = GenerateRequest.model_validate(body)
        return self.generator.answer(request, "id", None, user)

    @rule(alias=aliases, user=users)
    def generate(self, alias: str, user: str) -> None:
        named = read_aliases(self.store).get(alias)
        try:
            answer = self.run(self.ask(alias, user))
        except AdapterNotFound:
            good = named and named.active != self.short[BROKEN]
            assert not (good and self.engine.is_up), "a published adapter is unknown"
        except NotReady:
            assert not self.engine.is_up
        else:
            self.check(answer, alias)

    @rule(alias=aliases, user=users)
    def begin(self, alias: str, user: str) -> None:
        """A request that is still running when other things happen."""

        async def begun() -> asyncio.Task[GenerateResponse]:
            task = asyncio.create_task(self.ask(alias, user))
            while not task.done() and self.engine.gate is gate and not gate.is_set():
                if len(self.engine.asked) > asked:
                    break
                await asyncio.sleep(0.001)
            return task

        gate, asked = asyncio.Event(), len(self.engine.asked)
        self.engine.gate = gate
        task = self.run(begun())
        self.engine.gate = None
        self.running.append((task, gate))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20), cancel=st.booleans())
    def end(self, which: int, cancel: bool) -> None:
        task, gate = self.running.pop(which % len(self.running))
        gate.set()
        if cancel:
            task.cancel()
        try:
            answer = self.run(asyncio.wait_for(task, 10))
        except (asyncio.CancelledError, AdapterNotFound, NotReady):
            return
        self.check(answer, answer.model.partition("@")[0])

    def check(self, answer: GenerateResponse, alias: str) -> None:
        name, _, short = answer.model.partition("@")
        assert name == alias
        assert f"'{short}'" in answer.sql_query, "another version's answer"
        assert short != self.short[BROKEN]

    # What breaks.

    @rule()
    def kill_engine(self) -> None:
        self.engine.die()

    @precondition(lambda self: not self.engine.is_up)
    @rule()
    def engine_is_back(self) -> None:
        self.engine.is_up = True
        self.run(self.table.rewarm())
        self.look()

    @rule()
    def restart_facade(self) -> None:
        for task, gate in self.running:
            gate.set()
            task.cancel()
        self.running.clear()
        self.run(asyncio.sleep(0))
        self.start_facade()

    # What always holds.

    @invariant()
    def no_broken_version_is_served(self) -> None:
        if hasattr(self, "table"):
            assert not any(self.short[BROKEN] in name for name in self.table.versions)

    @invariant()
    def the_engine_is_asked_for_what_it_can_load(self) -> None:
        assert not (hasattr(self, "engine") and self.engine.unknown)

    @invariant()
    def the_store_can_be_read_and_every_change_is_logged(self) -> None:
        if self.changes:
            read_aliases(self.store)
            done = [r for r in read_last(self.store, 10_000) if r["action"] != "collect"]
            assert len(done) == self.changes
