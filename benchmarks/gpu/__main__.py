"""`python -m benchmarks.gpu STEP…`: run steps, and pack what each made as soon as it ends.

A session on a lent machine may be cut off at any time: OUT/results.tar.xz holds the logs, results
and figures so far, OUT/adapter.tar.xz the adapter. A step that fails is said, and the next goes on.
"""

import json
import signal
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated

import typer

from benchmarks.gpu.server import Server
from benchmarks.gpu.steps import DEV, STEPS, Session, StepError
from eval.task.figure import RESULTS

KEPT = {".json", ".jsonl", ".log", ".txt"}


def run_step(name: str, session: Session) -> None:
    """Run a step's commands; what they say goes to `work/NAME.log`.

    Raises:
        StepError: a command failed, or the step can't begin.
    """
    path = session.work / f"{name}.log"
    with path.open("wb") as log:
        failed = _at_once(name, session, log) if STEPS[name].at_once else _first(name, session, log)
    if failed:
        lines = path.read_text(errors="replace").splitlines()
        raise StepError(f"{' '.join(failed[2:])}: {lines[-1] if lines else 'no word'}")


def _first(name: str, session: Session, log: IO[bytes]) -> list[str]:
    """The first command that fails; those behind it don't run."""
    for command in STEPS[name].commands(session):
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            return command
    return []


def _at_once(name: str, session: Session, log: IO[bytes]) -> list[str]:
    """The first of the commands that fails, when all have ended."""
    commands = list(STEPS[name].commands(session))
    runs = [subprocess.Popen(c, stdout=log, stderr=subprocess.STDOUT) for c in commands]
    try:
        codes = [run.wait() for run in runs]
    finally:  # stopped: no child may keep the card
        for run in runs:
            run.kill()
    return next((command for command, code in zip(commands, codes, strict=True) if code), [])


def pack(session: Session) -> None:
    """Put what is new since the session began into its archives."""
    places = (session.work, RESULTS)
    _archive(
        session.out / "results.tar.xz",
        [path for place in places for path in sorted(place.rglob("*")) if _is_new(path, session)],
    )
    try:
        bundle = session.bundle()
    except StepError:
        return
    if bundle.stat().st_mtime >= session.began:
        _archive(session.out / "adapter.tar.xz", [bundle], root=bundle.parent)


def _is_new(path: Path, session: Session) -> bool:
    return path.suffix in KEPT and path.stat().st_mtime >= session.began


def _archive(path: Path, members: Sequence[Path], root: Path | None = None) -> None:
    draft = path.with_suffix(".draft")
    with tarfile.open(draft, "w:xz", preset=1) as archive:
        for member in members:
            archive.add(member, member.relative_to(root) if root else member)
    draft.replace(path)


def _result_of(name: str, session: Session, server: Server) -> str:
    try:
        if STEPS[name].is_served:
            server.start()
        else:
            server.stop()  # the card is the step's alone
        run_step(name, session)
    except (StepError, OSError) as error:
        return f"failed: {error}"
    return "done"


def _help() -> str:
    return "; ".join(f"{name}: {step.what}" for name, step in STEPS.items())


def main(
    step: Annotated[list[str], typer.Argument(help=_help())],
    out: Annotated[Path, typer.Option(envvar="OUT", help="Folder of the archives.")] = Path("runs"),
    work: Annotated[Path, typer.Option(help="Folder of all else.")] = Path("runs/gpu"),
    recipe: Annotated[str, typer.Option()] = "trainer/recipes/smollm2_135m.yaml",
    override: Annotated[list[str] | None, typer.Option(help="key=value, over RECIPE.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Of the sweep; default: all.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="To decode; default: all.")] = None,
    data: Annotated[str, typer.Option(help="Questions.")] = DEV,
    limit: Annotated[int, typer.Option(min=0, help="Only so many of them; 0: all.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 128,
    port: Annotated[int, typer.Option(help="Of the server.")] = 8000,
) -> None:
    """Run each STEP in the order given. Exit status: 1 if one failed."""
    if unknown := [name for name in step if name not in STEPS]:
        raise typer.BadParameter(f"{unknown[0]!r}; known: {', '.join(STEPS)}")
    changes, variants, policies = tuple(override or ()), tuple(variant or ()), tuple(policy or ())
    # A TERM ends the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = Session(
        out, work, recipe, changes, variants, policies, data, limit, concurrency, port
    )
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    server, results = Server(session), {}
    try:
        for name in step:
            results[name] = _result_of(name, session, server)
            typer.echo(
                f"gpu: [{time.time() - session.began:.0f} s] {name}: {results[name]}", err=True
            )
            server.keep_log()
            pack(session)
    finally:
        server.stop()
    typer.echo(json.dumps({"steps": results, "archives": str(out)}))
    raise typer.Exit(int(any(result != "done" for result in results.values())))


if __name__ == "__main__":
    typer.run(main)
