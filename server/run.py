"""Brings everything up in order and keeps it up: port, base model, engine, adapters, HTTP.

One process owns the engine, the watch of the store and the listening socket.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import structlog
import uvicorn

from eval.task.audit import read_last
from eval.task.base_model import BaseModelError, resolve_base_model, weights_sha256
from eval.task.store import publish, read_aliases
from server.adapters.admission import Admission
from server.adapters.base_shapes import linear_shapes
from server.adapters.copies import Copies
from server.adapters.loading import Loader
from server.adapters.sequential import Rules
from server.adapters.slots import fitted
from server.adapters.table import AdapterTable
from server.advice import Adviser
from server.app import create_app
from server.databases import Databases
from server.decode.options import Options, Plan
from server.engine import VllmEngine
from server.generate import FileTokenizer, Generator
from server.metrics import Metrics
from server.registry import Registry
from server.rollout import Rollouts
from server.settings import Settings
from server.supervisor import MODULES, EngineStartError, Supervisor, has_gpu

log = structlog.get_logger()
BUNDLED = Path(__file__).parent / "bundled"
MIN_MEMORY_GIB = 4.0
MAX_SOCKET_PATH = 100  # the kernel takes 107 bytes
MIN_DISK_GIB = 1.0


class StartError(RuntimeError):
    """Something that keeps the server from starting; the message says what to do."""


class Progress:
    """Lines on standard error that say what is going on, each with the seconds since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._last = 0.0

    def say(self, text: str) -> None:
        seconds = time.monotonic() - self.began
        print(f"[{seconds:6.1f} s] {text}", file=sys.stderr, flush=True)  # noqa: T201

    def waiting(self, seconds: float) -> None:
        """Called often; prints every ten seconds."""
        if seconds - self._last >= 10:
            self._last = seconds
            self.say(f"engine is starting ({seconds:.0f} s)")


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, taken before anything slow starts.

    Raises:
        StartError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # without it another server may still take the same port
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is taken; stop what uses it or set SQLWRIGHT_PORT"
            ) from error
        raise StartError(f"can't listen on {host}:{port}: {error.strerror}") from error
    return listener


def check_machine(settings: Settings) -> None:
    """Refuse a start that would fail half-way for want of memory or disk.

    Raises:
        StartError: too little of either is free.
    """
    folder = settings.run_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"can't write to {error.filename}: {error.strerror}") from error
    free = shutil.disk_usage(folder).free / 2**30
    if free < MIN_DISK_GIB:
        raise StartError(
            f"{free:.1f} GiB of disk are free at {folder}; {MIN_DISK_GIB:g} are needed"
        )
    if not has_gpu():
        memory = available_memory_gib()
        needed = MIN_MEMORY_GIB + settings.kv_cache_gib
        if memory < needed:
            raise StartError(
                f"{memory:.1f} GiB of memory are available, {needed:g} are needed; "
                "free some or lower SQLWRIGHT_KV_CACHE_GIB"
            )


def available_memory_gib() -> float:
    """Memory that new processes may use: MemAvailable, or the control group's limit if lower."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(kib * 1024, int(text) if text.isdecimal() else kib * 1024) / 2**30


def publish_bundled(store: Path) -> None:
    """Put the adapters that ship into a store, each under its name, unless it was there before: an
    operator may have withdrawn it."""
    aliases = read_aliases(store)
    for folder in sorted(BUNDLED.glob("*/sqlwright.json")):
        name = folder.parent.name
        if name not in aliases and not read_last(store, 1, name):
            publish(folder.parent, store, name, actor="server")


async def serve(settings: Settings) -> None:
    """Run until a signal ends it.

    Raises:
        StartError, BaseModelError, EngineStartError, BundleError: it can't start or go on.
    """
    progress = Progress()
    listener = bind(settings.host, settings.port)
    with contextlib.closing(listener):
        check_machine(settings)
        publish_bundled(settings.store)
        settings = fitted(settings)
        base = await asyncio.to_thread(resolve_base_model, settings.base_model, progress.say)
        async with _engine(settings, base, progress) as (engine, supervisor):
            generator = await asyncio.to_thread(_generator, settings, engine, base)
            if supervisor:
                generator.metrics.follow_restarts(lambda: supervisor.restarts)
            try:
                await _serve_http(settings, generator, supervisor, listener, progress)
            finally:
                Copies(settings.versions_folder).remove()


@contextlib.asynccontextmanager
async def _engine(
    settings: Settings, base: Path | str, progress: Progress
) -> AsyncIterator[tuple[VllmEngine, Supervisor | None]]:
    if settings.engine_url:
        engine = VllmEngine(url=settings.engine_url, timeout=settings.request_seconds)
        supervisor = None
    else:
        path = settings.run_folder / f"engine-{os.getpid()}.sock"
        if len(str(path.absolute())) > MAX_SOCKET_PATH:
            raise StartError(
                f"{settings.run_folder} is too long a path for a UNIX socket; "
                "set SQLWRIGHT_CACHE to a shorter one"
            )
        engine = VllmEngine(socket=path, timeout=settings.request_seconds)
        supervisor = Supervisor(settings, base, engine)
    try:
        yield engine, supervisor
    finally:
        if supervisor:
            progress.say("stopping the engine")
            await supervisor.stop()
        await engine.close()


def _generator(settings: Settings, engine: VllmEngine, base: Path | str) -> Generator:
    metrics = Metrics()
    registry = Registry(settings.databases)
    local = base if isinstance(base, Path) else None
    has_tokenizer = local is not None and (local / "tokenizer.json").is_file()
    tokenizer = FileTokenizer(local) if local and has_tokenizer else None
    loader = Loader(
        settings.store,
        engine,
        metrics,
        admission=Admission(
            base_sha256=weights_sha256(local) if local else "",
            shapes=linear_shapes(local) if local else {},
            max_rank=settings.max_lora_rank,
            modules=None if settings.engine_url else frozenset(MODULES),
        ),
        token_id=tokenizer.token_id if tokenizer else lambda _: None,
        seconds=settings.adapter_seconds,
        copies=None if settings.engine_url else Copies(settings.versions_folder),
    )
    slots = max(settings.max_loras, settings.max_cpu_loras)
    adapters = AdapterTable(loader, metrics, slots=slots, retire_seconds=settings.request_seconds)
    return Generator(
        engine=engine,
        adapters=adapters,
        databases=Databases(registry.databases(), settings.default_database, registry.databases),
        metrics=metrics,
        default_adapter=settings.default_adapter,
        max_tokens=settings.max_tokens,
        max_model_len=settings.max_model_len,
        tokenizer=tokenizer,
        plan=Plan(settings.decoding, settings.repair),
        options=Options(
            settings.temperature,
            settings.repair_samples,
            settings.agree_by,
            settings.run_queries,
        ),
        adviser=Adviser(settings.suggest_ms),
        rollouts=Rollouts(adapters, rules_of(settings), may_run=settings.run_queries),
    )


def rules_of(settings: Settings) -> Rules:
    """When rollouts end here."""
    return Rules(
        settings.rollout_margin,
        settings.rollout_error,
        settings.rollout_min_pairs,
        settings.rollout_max_pairs,
        settings.rollout_min_agreement,
    )


async def _serve_http(
    settings: Settings,
    generator: Generator,
    supervisor: Supervisor | None,
    listener: socket.socket,
    progress: Progress,
) -> None:
    """HTTP answers from the first moment (readiness 503), the engine joins when it is up."""
    app = create_app(generator, settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    http = asyncio.create_task(server.serve(sockets=[listener]))
    work = asyncio.create_task(_bring_up(settings, generator, supervisor, listener, progress))
    try:
        done, _ = await asyncio.wait({http, work}, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            server.should_exit = True
            await http
            work.result()
        http.result()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _bring_up(
    settings: Settings,
    generator: Generator,
    supervisor: Supervisor | None,
    listener: socket.socket,
    progress: Progress,
) -> None:
    adapters = generator.adapters
    if supervisor:
        progress.say(f"starting the engine on the {'GPU' if has_gpu() else 'CPU'}")
        await supervisor.start(progress.waiting)
    progress.say("engine is up; loading adapters")
    await adapters.refresh()
    _announce(settings, listener, adapters, progress.say)
    async with asyncio.TaskGroup() as group:
        group.create_task(adapters.watch(settings.rescan_seconds))
        group.create_task(generator.databases.watch(settings.rescan_seconds))
        if generator.rollouts:
            group.create_task(generator.rollouts.run())
        if supervisor:
            rewarms: set[asyncio.Task[None]] = set()

            def rewarm() -> None:
                task = group.create_task(adapters.rewarm())
                rewarms.add(task)
                task.add_done_callback(rewarms.discard)

            group.create_task(supervisor.watch(rewarm))


def _announce(
    settings: Settings, listener: socket.socket, adapters: AdapterTable, say: Callable[[str], None]
) -> None:
    host, port = listener.getsockname()[:2]
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    url = f"http://{name}:{port}"
    served = (
        ", ".join(v.name for v in adapters.active.values()) or "no adapter: only the base model"
    )
    key = " -H 'Authorization: Bearer KEY'" if settings.api_keys else ""
    say(f"ready: {served}")
    say(f"page {url}/   docs {url}/docs   metrics {url}/metrics   try:")
    body = '{"natural_language_query": "Show me all users who signed up last month"}'
    print(  # noqa: T201 - the one line that is meant to be copied
        f"curl -s {url}/generate-sql -H 'Content-Type: application/json'{key} -d '{body}'",
        flush=True,
    )


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again at its end, before the engine is stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


START_ERRORS = (StartError, BaseModelError, EngineStartError)
