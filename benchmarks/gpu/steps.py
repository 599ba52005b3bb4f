"""The steps of a GPU session: for each the commands that a user would run, in order."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.policies import EXECUTE, POLICIES
from eval.task.bundle import BundleError
from eval.task.store import default_store, read_aliases

ALIAS = "spider"
DEV, SYN, TRAIN = "data/dev.jsonl", "data/dev_syn.jsonl", "data/train.jsonl"
SEED_RECIPE, SWEEP = "trainer/recipes/seed.yaml", "trainer/sweeps/forms.yaml"
FREE = ("--extra-body", '{"decoding": "free"}')
# Without extraction a completion as a whole is the query. The base is asked in its chat template.
RAW = ("--api", "completions", "--raw", "--max-tokens", "256")
RAW_BASE = ("--api", "chat", *RAW[2:])
# Ours sees everything twice, in about as many steps as TRL makes in its one epoch.
SPEED = """
    --tokens 600000 --epochs 2 --batch-tokens 16384 --batch-tokens 8192 --trl-batch 32 --seconds 300
"""

# A bound for hangs: without a GPU an answer may take minutes.
TIMEOUT = ("--timeout", "600")

Command = list[str]


class StepError(RuntimeError):
    """A step failed; the message says at what."""


@dataclass(frozen=True)
class Session:
    """What the steps share; `work` is where they write, `out` where what they made is packed."""

    out: Path
    work: Path
    recipe: str
    overrides: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    data: str = DEV
    limit: int = 0
    concurrency: int = 128
    port: int = 8000
    began: float = field(default_factory=time.time)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def limited(self) -> Command:
        return ["--limit", str(self.limit)] if self.limit else []

    def bundle(self, alias: str = ALIAS) -> Path:
        """Folder of the version that `alias` means now.

        Raises:
            StepError: nothing was published under it.
        """
        try:
            return default_store() / read_aliases(default_store())[alias].active
        except (KeyError, BundleError) as error:
            raise StepError(f"nothing is published as {alias!r}; run the step train") from error


@dataclass(frozen=True)
class Step:
    """`commands` run one after the other, or all at a time; with a server if `is_served`."""

    what: str
    commands: Callable[[Session], Iterator[Command]]
    is_served: bool = False
    at_once: bool = False


def python(module: str, *words: str | Path) -> Command:
    return [sys.executable, "-m", module, *map(str, words)]


def _trained(session: Session, alias: str, *changes: str, recipe: str = "") -> Command:
    words = [f"alias={alias}", *session.overrides, *changes]
    return python("trainer", recipe or session.recipe, *words, "--runs", session.work)


def _asked(session: Session, alias: str, data: str, name: str, *more: str) -> Command:
    """Greedy answers of `alias` to the questions of `data`, judged; the result is `name`."""
    words = ["--base-url", session.url, "--model", alias, "--data", data, "--no-page"]
    words += ["--concurrency", str(session.concurrency), *TIMEOUT, *session.limited]
    return python("eval", "run", *words, "--output", session.work / f"{name}.json", *more)


def _compared(session: Session, base: str, tuned: str, figure: str) -> Command:
    results = (session.work / f"{name}.json" for name in (base, tuned))
    return python("eval", "compare", *results, "--figure", figure)


def _train(session: Session) -> Iterator[Command]:
    yield _trained(session, ALIAS)


def _again(session: Session) -> Iterator[Command]:
    yield _trained(session, "again")


def _seeds(session: Session) -> Iterator[Command]:
    yield _trained(session, "seed-2", "seed=2")
    yield _trained(session, "seed-3", "seed=3")


def _seed_recipe(session: Session) -> Iterator[Command]:
    yield _trained(session, "seed_recipe", recipe=SEED_RECIPE)


def _scores(session: Session) -> Iterator[Command]:
    dev, suite = session.data, (*FREE, "--suite")
    yield _asked(session, ALIAS, dev, "dev", *suite, "--figure", "spider_dev_ex_bundled")
    yield _asked(session, "base", dev, "base", *suite, "--figure", "spider_dev_ex_base")
    yield _compared(session, "base", "dev", "error_reduction_bundled")
    yield _asked(session, ALIAS, dev, "raw", *RAW, "--prompt-of", str(session.bundle()))
    yield _asked(session, "base", dev, "base_raw", *RAW_BASE)
    yield _compared(session, "base_raw", "raw", "error_reduction_bundled_raw")


def _syn(session: Session) -> Iterator[Command]:
    more = (*FREE, "--suite", "--figure", "spider_syn_ex_bundled")
    yield _asked(session, ALIAS, SYN, "syn", *more)


def _others(session: Session) -> Iterator[Command]:
    for alias in sorted(set(read_aliases(default_store())) - {ALIAS}):
        figure = f"spider_dev_ex_{alias.replace('-', '_')}"
        yield _asked(session, alias, session.data, f"dev_{alias}", *FREE, "--figure", figure)


def _policies(session: Session, *more: str) -> Iterator[Command]:
    only = [*session.policies, *more]
    words = ["--base-url", session.url, "--concurrency", str(session.concurrency)]
    words += ["--data", session.data, *TIMEOUT, *session.limited]
    words += [word for name in only for word in ("--policy", name)]
    yield python("benchmarks.policies", *words, "--folder", session.work / "policies")


def _databases(session: Session) -> Iterator[Command]:
    lines = Path(session.data).read_text(encoding="utf-8").splitlines()
    for name in sorted({json.loads(line)["db_id"] for line in lines}):
        file = Path(session.data).parent / "databases" / f"{name}.sqlite"
        words = [f"sqlite:///{file.resolve()}", "--name", name.lower(), "--replace"]
        yield python("server", "add-database", *words)


def _execute(session: Session) -> Iterator[Command]:
    return _policies(session, *([] if session.policies else POLICIES), EXECUTE)


def _precision(session: Session) -> Iterator[Command]:
    words = ["--data", session.data, *session.limited, "--figure", "serving_precision_cost"]
    yield python("trainer.precision", session.bundle(), *words)


def _speed(_: Session) -> Iterator[Command]:
    yield python("trainer.speed", "--data", TRAIN, *SPEED.split())


def _sweep(session: Session) -> Iterator[Command]:
    only = [word for name in session.variants for word in ("--only", name)]
    words = [*only, "--runs", str(session.work), "--figure", "train_sweep_forms"]
    yield python("trainer.sweep", SWEEP, *words)


def _swaps(session: Session) -> Iterator[Command]:
    words = ["--base-url", session.url, "--folder", str(session.work / "swaps")]
    yield python("benchmarks.swaps", *words, "--steady-seconds", "5")


def _adapters(session: Session) -> Iterator[Command]:
    yield python("benchmarks.adapters", "--folder", session.work / "adapters", "--requests", "256")


def _blocked(session: Session) -> Iterator[Command]:
    words = ["--base-url", session.url, "--concurrency", "32"]
    yield python("benchmarks.blocked_disk", *words)


def _rollout(session: Session) -> Iterator[Command]:
    bundles: list[str | Path] = [
        "--active",
        session.bundle(),
        "--candidate",
        session.bundle("seed_recipe"),
    ]
    words = ["--base-url", session.url, "--data", session.data, *bundles]
    yield python("benchmarks.rollout", *words)


STEPS: Mapping[str, Step] = {
    "train": Step(f"train the recipe and publish it as {ALIAS!r}", _train),
    "again": Step("the same once more, as 'again': is the result reproduced?", _again),
    "seeds": Step("the same with two other seeds, both at a time", _seeds, at_once=True),
    "seed_recipe": Step("train the project's starting point", _seed_recipe),
    "scores": Step("accuracy of adapter and base, with and without extraction", _scores, True),
    "syn": Step("accuracy on Spider-Syn", _syn, is_served=True),
    "others": Step("accuracy of what else was trained", _others, is_served=True),
    "policies": Step("ways to decode, against each other", _policies, is_served=True),
    "databases": Step("register the databases of the questions", _databases, at_once=True),
    "execute": Step("the same with execution; after databases", _execute, is_served=True),
    "precision": Step("what NF4 in training costs at serving", _precision),
    "speed": Step("training tokens/s against plain TRL, at an equal loss", _speed),
    "sweep": Step("variants of the recipe (--variant)", _sweep),
    "swaps": Step("1,000 swaps of an adapter under load", _swaps, is_served=True),
    "blocked": Step("a store whose disk hangs, under load", _blocked, is_served=True),
    "rollout": Step("the starting point as a shadow; after seed_recipe", _rollout, is_served=True),
    "adapters": Step("more adapters than slots, against plain vLLM", _adapters),
}
