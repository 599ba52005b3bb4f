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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from eval.task.audit import read_last
from eval.task.base_model import BaseModelError, resolve_base_model
from eval.task.store import publish, read_aliases
from server.adapters.copies import Copies
from server.adapters.slots import fitted
from server.adapters.table import AdapterTable
from server.app import create_admin_app, create_app
from server.engine import VllmEngine
from server.generate import Generator
from server.settings import Settings
from server.supervisor import EngineStartError, Supervisor, has_gpu
from server.wiring import make_generator

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
    addresses = [(settings.host, settings.port)]
    if settings.admin_keys and settings.admin_port:
        addresses.append((settings.admin_host, settings.admin_port))
    with contextlib.ExitStack() as stack:
        taken = (contextlib.closing(bind(*address)) for address in addresses)
        listeners = [stack.enter_context(listener) for listener in taken]
        check_machine(settings)
        publish_bundled(settings.store)
        settings = fitted(settings)
        base = await asyncio.to_thread(resolve_base_model, settings.base_model, progress.say)
        async with _engine(settings, base, progress) as (engine, supervisor):
            generator = await asyncio.to_thread(make_generator, settings, engine, base)
            if supervisor:
                generator.metrics.follow_restarts(lambda: supervisor.restarts)
            try:
                await _serve_http(settings, generator, supervisor, listeners, progress)
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


async def _serve_http(
    settings: Settings,
    generator: Generator,
    supervisor: Supervisor | None,
    listeners: Sequence[socket.socket],
    progress: Progress,
) -> None:
    """HTTP answers from the first moment (readiness 503), the engine joins when it is up. The
    second listener, if there is one, is the admin API's."""
    apps = [create_app(generator, settings)]
    if len(listeners) > 1:
        apps.append(create_admin_app(generator, settings))
    servers = [_server(app) for app in apps]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, servers, number)
    http = asyncio.create_task(_serve_all(servers, listeners))
    work = asyncio.create_task(_bring_up(settings, generator, supervisor, listeners[0], progress))
    try:
        done, _ = await asyncio.wait({http, work}, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            for server in servers:
                server.should_exit = True
            await http
            work.result()
        http.result()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _serve_all(servers: Sequence[uvicorn.Server], listeners: Sequence[socket.socket]) -> None:
    pairs = zip(servers, listeners, strict=True)
    try:
        await asyncio.gather(*(server.serve(sockets=[taken]) for server, taken in pairs))
    finally:
        for server in servers:  # one that failed takes the other with it
            server.should_exit = True


def _end(servers: Sequence[uvicorn.Server], number: int) -> None:
    for server in servers:
        server.handle_exit(number, None)


def _server(app: FastAPI) -> "_Server":
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30
    )
    return _Server(config)


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
    if settings.admin_keys and settings.admin_port:
        say(f"admin API http://{settings.admin_host}:{settings.admin_port}/docs")
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
