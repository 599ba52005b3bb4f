"""`python -m tests.fuzz.fuzz_bytes`: bytes against the guard, led by coverage (atheris, libFuzzer).

The first byte chooses the dialect, the others are the text. The hostile corpus and a dictionary of
words seed it. `--pure` takes sqlglot's Python source, whose branches libFuzzer can see; without it
the compiled parser runs, as in service. Other options are libFuzzer's: `-max_total_time=SECONDS`,
`-artifact_prefix=FOLDER/` (where a text is written that breaks the guard). Imports nothing that
imports sqlglot before it is known which sqlglot is meant.
"""

import atexit
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.hostile_parts import SIGNS
from tests.fuzz.pure_sqlglot import use_pure_sqlglot

MAX_BYTES = 1024
# libFuzzer's own limits: of one input in seconds, and of memory in MiB.
LIMITS = ("-timeout=20", "-rss_limit_mb=4096", f"-max_len={MAX_BYTES}")
WORDS = """SELECT FROM WHERE GROUP ORDER HAVING LIMIT JOIN users orders products name email id
    COUNT( CAST( COALESCE( CASE WHEN THEN DISTINCT EXISTS( IN ( BETWEEN LIKE""".split()


class GuardAtFault(AssertionError):
    """The guard answered wrongly; the message says how."""


def read(data: bytes, dialects: list[str]) -> tuple[str, str]:
    """The text and the dialect that `data`, not empty, means."""
    return data[1:].decode("utf-8", "replace"), dialects[data[0] % len(dialects)]


def write_seeds(folder: Path, texts: tuple[str, ...]) -> None:
    """A file for each of `texts` in `folder/corpus`, and the dictionary `folder/words`."""
    inputs = folder / "corpus"
    inputs.mkdir()
    for number, text in enumerate(texts):
        raw = text.encode("utf-8", "replace")
        (inputs / f"{number:05}").write_bytes(bytes([number % 256]) + raw[: MAX_BYTES - 1])
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in (*WORDS, *SIGNS))
    (folder / "words").write_text("".join(f'"{word}"\n' for word in escaped))


def main(options: list[str]) -> None:
    import atheris

    if "--pure" in options:
        use_pure_sqlglot()
    with atheris.instrument_imports(include=["eval.task", "sqlglot"]):
        from eval.task.dialect import DIALECTS
        from tests.fuzz.judgement import Judge
    from tests.fuzz.seeds import seeds

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    judge, dialects = Judge(), sorted(DIALECTS)

    def ask(data: bytes) -> None:
        if not data:
            return
        text, dialect = read(data, dialects)
        if complaint := judge.complaint(text, dialect):
            raise GuardAtFault(f"{complaint}\n{dialect}: {text!r}")

    # libFuzzer ends the process itself: only what is registered is done then.
    folder = Path(tempfile.mkdtemp(prefix="sqlwright-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(lambda: print(json.dumps(judge.report()), flush=True))
    write_seeds(folder, seeds())
    own = [option for option in options if option != "--pure"]
    words = f"-dict={folder / 'words'}"
    atheris.Setup(["fuzz_bytes", *LIMITS, words, *own, str(folder / "corpus")], ask)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
