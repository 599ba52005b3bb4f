"""What keeps a text of SQL from overflowing a stack or trying a parser's patience, by its words.

The compiled parser and generator go some calls deeper for each bracket, CASE or NOT that is open; a
thread with a stack of 256 KiB ends the process at 65 to 200 of them, by kind. What stands between
commas counts on within brackets: `f(1, NOT NOT f(1, NOT NOT ...` nests though no run is long.
"""

from collections import Counter
from collections.abc import Sequence

from sqlglot.errors import SqlglotError

MAX_DEPTH = 32
# Open brackets, CASEs and prefix operators together.
MAX_NESTING = 64
# The parser tries 2 ** n ways for n JOINs that wait for their ON.
MAX_OPEN_JOINS = 8
MAX_DOTTED = 8
MAX_REPEATS = 100
MAX_IFS = 16
MAX_TRIED_TWICE = 3
# The parser takes many a string for a path of JSON, at some 10 microseconds a step.
MAX_STEPS = 1_000

OPENING = {"(": ")", "[": "]", "{": "}", "<": ">"}
CLOSING = frozenset({")", "]", "}"})
BRACKETS = frozenset({"(", "["})
# Their operand ends with the next operator, so that only a run of them nests.
SIGNS = frozenset({"-", "+", "~", "@", "|/", "||/"})
# Their operand may hold operators and more of them.
NESTING = frozenset("ANY CASE CONNECT_BY_ROOT INTERVAL IS MAP NOT PRIOR".split())
# Words that real queries repeat without nesting; literals and quoted names aren't counted either.
REPEATABLE = frozenset({".", "(", ")", "=", "AND", "OR", ","})
QUOTES = frozenset("'\"`")


class TooComplexError(SqlglotError):
    """SQL that is too long or nests too deeply to be parsed; the message says which."""


def guard(words: Sequence[str], max_tokens: int) -> None:
    """Raise TooComplexError for words (tokens as written, upper case) that nest or branch a lot.

    A `<` in `words` is one that opens the parameters of a type.
    """
    if len(words) > max_tokens:
        raise TooComplexError(f"over {max_tokens} tokens")
    if any(len(w) > MAX_STEPS and w.count("[") + w.count(".") > MAX_STEPS for w in words):
        raise TooComplexError(f"a string of over {MAX_STEPS} dots and brackets")
    counts = Counter(words)  # most texts are too small for any of the limits
    if sum(counts[word] for word in (*OPENING, *SIGNS, *NESTING)) > MAX_DEPTH:
        _guard_nesting(words)
    if counts["JOIN"] > MAX_OPEN_JOINS and _open_joins(words) > MAX_OPEN_JOINS:
        raise TooComplexError(f"over {MAX_OPEN_JOINS} JOINs without ON or USING")
    if counts["."] > MAX_DOTTED and _longest_dotted(words) > MAX_DOTTED:
        raise TooComplexError(f"a name of over {MAX_DOTTED} parts")
    if any(number > MAX_IFS for number in counts.values()):
        _guard_repeats(words)


def guard_twice(words: Sequence[str], is_marked: Sequence[bool]) -> None:
    """Raise TooComplexError where brackets nest behind words that are read in two ways."""
    if sum(is_marked) > MAX_TRIED_TWICE and _depth_of_marked(words, is_marked) > MAX_TRIED_TWICE:
        raise TooComplexError(f"types or functions nest deeper than {MAX_TRIED_TWICE}")


class _Nesting:
    """What is open at one place of a text, within its innermost bracket and around it."""

    __slots__ = ("_around", "_cases", "_held", "_nesting", "_run")

    def __init__(self, around: int = 0) -> None:
        self._around = around
        self._nesting = self._cases = self._run = self._held = 0

    @property
    def depth(self) -> int:
        return self._around + self._nesting + max(self._run, self._held)

    def read(self, word: str) -> None:
        if word in SIGNS:
            self._run += 1
            self._held = self._run
            return
        self._run = 0
        if word in NESTING:
            self._nesting += 1
            self._cases += word == "CASE"
        elif word in (",", ";"):
            self._nesting = self._cases = self._held = 0
        elif word in ("AND", "OR"):
            self._held = 0
            if not self._cases:
                self._nesting = 0
        elif not (word[:1].isalpha() or word[:1] in "._\"`'"):
            self._held = 0  # a name may yet be a function's, `- f(`


def _guard_nesting(words: Sequence[str]) -> None:
    closers: list[str] = []
    levels = [_Nesting()]
    for word in words:
        if closer := OPENING.get(word):
            closers.append(closer)
            levels.append(_Nesting(levels[-1].depth + 1))
        elif number := _num_closed(word, closers):
            del closers[-number:], levels[-number:]
        else:
            levels[-1].read(word)
        if len(closers) > MAX_DEPTH:
            raise TooComplexError(f"brackets nest deeper than {MAX_DEPTH}")
        if levels[-1].depth > MAX_NESTING:
            raise TooComplexError(
                f"over {MAX_NESTING} prefix operators, CASEs or brackets are open"
            )


def _num_closed(word: str, closers: list[str]) -> int:
    """How many of the open brackets `word` closes. A `>` closes none but its own."""
    if word == ">":
        return int(bool(closers) and closers[-1] == ">")
    if word in CLOSING and word in closers:
        return closers[::-1].index(word) + 1
    return 0


def _open_joins(words: Sequence[str]) -> int:
    """How many JOINs wait for their ON at most. An ON counts for the bracket that it stands in
    only; CROSS JOIN waits for none."""
    closers: list[str] = []
    waiting, most = [0], 0
    for before, word in zip(["", *words], words, strict=False):
        if closer := OPENING.get(word):
            closers.append(closer)
            waiting.append(0)
        elif number := _num_closed(word, closers):
            del closers[-number:], waiting[-number:]
        elif word == "JOIN" and before != "CROSS":
            waiting[-1] += 1
            most = max(most, sum(waiting))
        elif word in ("ON", "USING") and waiting[-1]:
            waiting[-1] -= 1
    return most


def _depth_of_marked(words: Sequence[str], is_marked: Sequence[bool]) -> int:
    """How deep those brackets nest that stand behind a marked word."""
    closers: list[tuple[str, bool]] = []
    depth = deepest = 0
    for word, behind in zip(words, [False, *is_marked], strict=False):
        if word in BRACKETS:
            closers.append((OPENING[word], behind))
            depth += behind
            deepest = max(deepest, depth)
        elif closers and word == closers[-1][0]:
            depth -= closers.pop()[1]
    return deepest


def _longest_dotted(words: Sequence[str]) -> int:
    """The most dots in one name: every second word of it is one."""
    run = longest = 0
    for before, word in zip(["", "", *words], words, strict=False):
        if word == ".":
            run = run + 1 if before == "." else 1
            longest = max(longest, run)
    return longest


def _guard_repeats(words: Sequence[str]) -> None:
    """Raise TooComplexError where a word stands too often between two commas: `ANY ANY ANY …`.
    What stands before a bracket counts on within it, what stands in it not behind it."""
    counts: Counter[str] = Counter()
    own: list[list[str]] = [[]]  # what each open bracket holds since its last comma
    for word in words:
        if word == "(":
            own.append([])
        elif word in (",", ";") or (word == ")" and len(own) > 1):
            counts.subtract(own[-1])
            own[-1].clear()
            if word == ")":
                own.pop()
        elif word not in REPEATABLE and not (word[:1].isdigit() or word[:1] in QUOTES):
            counts[word] += 1
            own[-1].append(word)
            if counts[word] > (MAX_IFS if word == "IF" else MAX_REPEATS):
                raise TooComplexError(f"{word[:32]} stands there over {counts[word] - 1} times")
