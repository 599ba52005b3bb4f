"""What an operator may do with a store: from the shell, through the admin API, or by evidence.

Each changes `aliases.json` in one step, under the store's lock, and is written to the audit log.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eval.task.audit import append
from eval.task.bundle import MANIFEST, SHORT, Bundle, BundleError, read_bundle
from eval.task.store import (
    Alias,
    AliasOrNone,
    add_version,
    change_alias,
    expect_alias,
    point_alias,
)
from server.adapters.collection import Collected, Policy, bytes_over, collect
from server.adapters.evidence import Evidence, EvidenceError

Verdict = Literal["promote", "roll_back"]
Mode = Literal["shadow", "canary"]


class OperationError(ValueError):
    """An operation that can't be done now; `code` is from a closed set, `hint` a remedy."""

    def __init__(self, code: str, message: str, *, param: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.hint = hint


class _Over(Exception):
    """A rollout that was to be decided is no longer in progress."""


@dataclass(frozen=True)
class Operations:
    """Operations on `store` by `actor`: "shell:USER", "admin:KEY", or "rollout". What is added may
    not take the store over `max_bytes`; 0: as much as the disk holds.

    All raise OperationError where what they are asked for can't be done, BundleError where the
    store is damaged and OSError where it can't be written; then nothing has changed.
    """

    store: Path
    actor: str
    max_bytes: int = 0

    def add(self, bundle: Path) -> Bundle:
        """Put `bundle` into the store, where no alias names it yet."""
        added = self._added(bundle)
        append(self.store, self.actor, "add", "", detail=added.short)
        return added

    def collect(self, policy: Policy, *, dry_run: bool = False) -> Collected:
        """Remove versions that no alias names, as `policy` says; see `collection.collect`."""
        return collect(self.store, policy, self.actor, dry_run=dry_run)

    def publish(self, bundle: Path, alias: str) -> Alias:
        """Put `bundle` into the store and make it active under `alias`, which may be new; a
        rollout in progress is over, since what it compared with has changed."""
        try:
            expect_alias(alias)
        except BundleError as error:
            raise OperationError("illegal_name", str(error), param="alias") from error
        version = self._added(bundle).short
        new = point_alias(self.store, alias, version, actor=self.actor)
        self._end_rollout(alias, "publish")
        return new

    def promote(self, alias: str, version: str | None = None) -> Alias:
        """Make `version`, by default the candidate, active; the one before becomes previous."""

        def change(entry: Alias) -> Alias:
            wanted = version or entry.candidate
            if wanted is None:
                raise _no_candidate(alias)
            if wanted == entry.active:
                message = f"{alias}@{wanted} is active already"
                raise OperationError("already_active", message, param="version")
            self._expect_version(wanted)
            return entry.pointed_at(wanted)

        return self._change("promote", alias, change)

    def rollback(self, alias: str) -> Alias:
        """Drop the candidate; without one make the previous version active again."""

        def change(entry: Alias) -> Alias:
            if entry.candidate:
                return replace(entry, canary=None, shadow=None, share=0.0)
            if entry.previous is None:
                message = f"{alias!r} has neither a candidate nor a previous version"
                hint = "promote the version that is to serve"
                raise OperationError("no_previous", message, param="alias", hint=hint)
            self._expect_version(entry.previous)
            return entry.pointed_at(entry.previous)

        return self._change("rollback", alias, change)

    def try_out(
        self, mode: Mode, alias: str, version: str, share: float = 0.1, *, automatic: bool = True
    ) -> Alias:
        """Begin a rollout of `version`, in place of one that may be in progress."""
        if not 0 < share <= 1:
            hint = "0.1 is a tenth of the questions"
            raise OperationError(
                "illegal_share", "share must be above 0 and at most 1", param="share", hint=hint
            )
        if mode == "canary" and share == 1:
            message = "a canary of share 1 leaves no answers to compare with"
            hint = "promote the version, or let it have less"
            raise OperationError("illegal_share", message, param="share", hint=hint)

        def change(entry: Alias) -> Alias:
            self._expect_version(version)
            if version == entry.active:
                message = f"{alias}@{version} is active already"
                raise OperationError("already_active", message, param="version")
            canary, shadow = (version, None) if mode == "canary" else (None, version)
            return replace(entry, canary=canary, shadow=shadow, share=share, automatic=automatic)

        return self._change(mode, alias, change)

    def decide(self, alias: str, tried: Alias, verdict: Verdict, reason: str) -> bool:
        """End the automatic rollout `tried` by its evidence; False if it is over or was changed,
        by another server or an operator."""

        def change(entry: Alias | None) -> Alias:
            if entry != tried or not tried.automatic or tried.candidate is None:
                raise _Over
            dropped = replace(tried, canary=None, shadow=None, share=0.0)
            return tried.pointed_at(tried.candidate) if verdict == "promote" else dropped

        try:
            self._write(verdict, alias, change, reason)
        except _Over:
            return False
        return True

    def pin(self, alias: str, *, pinned: bool = True) -> Alias:
        """Keep the versions of `alias` loaded, or no longer."""
        action = "pin" if pinned else "unpin"
        return self._change(action, alias, lambda entry: replace(entry, pinned=pinned))

    def withdraw(self, alias: str) -> None:
        """Serve nothing as `alias` any more; its versions stay in the store."""

        def change(entry: Alias | None) -> None:
            _expect(entry, alias)

        self._write("withdraw", alias, change)

    def _change(self, action: str, alias: str, change: Callable[[Alias], Alias]) -> Alias:
        return self._write(action, alias, lambda entry: change(_expect(entry, alias)))

    def _write(
        self,
        action: str,
        alias: str,
        change: Callable[[Alias | None], AliasOrNone],
        detail: str = "",
    ) -> AliasOrNone:
        if not self.store.is_dir():
            raise _no_such_alias(alias)
        new = change_alias(
            self.store, alias, change, action=action, actor=self.actor, detail=detail
        )
        if action not in ("pin", "unpin"):
            self._end_rollout(alias, action, detail)
        return new

    def _end_rollout(self, alias: str, verdict: str, reason: str = "") -> None:
        # What was decided holds, also where the evidence can't be written.
        with suppress(EvidenceError):
            Evidence(self.store).stop(alias, verdict, reason, self.actor)

    def _added(self, bundle: Path) -> Bundle:
        over = bytes_over(self.store, read_bundle(bundle), self.max_bytes) if self.max_bytes else 0
        if over:
            message = f"the store would be {over} bytes over its {self.max_bytes}"
            hint = (
                "sqlwright-adapters collect frees what is not named; or raise SQLWRIGHT_STORE_GIB"
            )
            raise OperationError("over_quota", message, param="bundle", hint=hint)
        return add_version(bundle, self.store)

    def _expect_version(self, version: str) -> None:
        if not SHORT.fullmatch(version) or not (self.store / version / MANIFEST).is_file():
            message = f"no version {version[:80]!r} in the store"
            hint = "publish it first; sqlwright-adapters versions lists what is there"
            raise OperationError("no_such_version", message, param="version", hint=hint)


def _expect(entry: Alias | None, alias: str) -> Alias:
    if entry is None:
        raise _no_such_alias(alias)
    return entry


def _no_such_alias(alias: str) -> OperationError:
    hint = "sqlwright-adapters list names those that are there"
    return OperationError("no_such_alias", f"no alias {alias[:80]!r}", param="alias", hint=hint)


def _no_candidate(alias: str) -> OperationError:
    hint = "name the version, or begin a rollout with shadow or canary"
    return OperationError("no_candidate", f"{alias!r} has no candidate", param="alias", hint=hint)
