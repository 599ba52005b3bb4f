"""The admin API: what an operator does with adapters while the server runs, on a key of its own.

Each change is that of the shell (`server.adapters.operations`). A version that must not be served
is refused before anything changes, and what was changed is served when the answer comes.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi import Path as PathParameter
from starlette.requests import ClientDisconnect

from eval.task.audit import read_last
from eval.task.bundle import ALIAS, Bundle, BundleError
from eval.task.store import Alias, read_aliases
from server.adapters.collection import stored_versions
from server.adapters.evidence import Evidence, EvidenceError
from server.adapters.operations import Mode, OperationError, Operations
from server.adapters.refusal import Refusal, code_of
from server.adapters.table import AdapterTable
from server.admin_schemas import (
    SHORT,
    AdaptersOut,
    AliasOut,
    PinRequest,
    PromoteRequest,
    PublishedOut,
    RecordsOut,
    RefusalOut,
    RolloutRequest,
    ValidatedOut,
    VersionOut,
)
from server.auth import key_checker
from server.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    ServerError,
    StoreFailed,
    Unprocessable,
)
from server.settings import Settings
from server.strict_json import StrictRoute
from server.uploads import receive, unpack

PREFIX = "/admin"
STATUS: dict[str, type[ServerError]] = {
    "no_such_alias": NotFound,
    "no_such_version": NotFound,
    "no_candidate": Conflict,
    "no_previous": Conflict,
    "already_active": Conflict,
    "over_quota": Conflict,
}
Name = Annotated[str, PathParameter(pattern=f"^{ALIAS.pattern}$", description="alias")]
Version = Annotated[str, PathParameter(pattern=f"^{SHORT}$", description="12 hex digits")]
Rollout = Literal["none", "shadow", "canary", "store"]

P = ParamSpec("P")
T = TypeVar("T")


def admin_routes(table: AdapterTable, settings: Settings) -> APIRouter:
    """The routes; there must be admin keys."""
    admin = Admin(table, settings)
    checked = Depends(key_checker(settings.admin_keys, table.metrics))
    router = APIRouter(
        prefix=PREFIX, tags=["adapters"], dependencies=[checked], route_class=StrictRoute
    )
    _add_views(router, admin)
    _add_changes(router, admin)
    return router


def _add_views(router: APIRouter, admin: "Admin") -> None:
    @router.get("/adapters", summary="Aliases, what is served as them, and the store's versions")
    async def adapters() -> AdaptersOut:
        return await admin.listed()

    @router.get("/adapters/{alias}/evidence", summary="Its rollouts: both versions compared")
    async def evidence(alias: Name) -> dict[str, Any]:
        return await admin.stored(Evidence(admin.table.store).report, alias)

    @router.get("/audit", summary="The last changes, the newest first")
    async def audit(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        alias: Annotated[str, Query(max_length=64)] = "",
    ) -> RecordsOut:
        return RecordsOut(records=await admin.stored(read_last, admin.table.store, limit, alias))

    @router.post("/versions/{version}/validate", summary="Whether this server would serve it")
    async def validate(version: Version) -> ValidatedOut:
        manifest = (await admin.admitted(version)).manifest
        return ValidatedOut(
            version=version, rank=manifest.rank, target_modules=manifest.target_modules
        )


def _add_changes(router: APIRouter, admin: "Admin") -> None:
    @router.post("/adapters/{alias}/promote", summary="Make a version active")
    async def promote(
        alias: Name, http: Request, body: Annotated[PromoteRequest | None, Body()] = None
    ) -> AliasOut:
        wanted = body.version if body else None
        await admin.expect_admitted(alias, wanted)
        return await admin.changed(alias, admin.by(http).promote, alias, wanted)

    @router.post("/adapters/{alias}/rollback", summary="Drop the candidate, or go back")
    async def rollback(alias: Name, http: Request) -> AliasOut:
        return await admin.changed(alias, admin.by(http).rollback, alias)

    def add_rollout(mode: Mode, summary: str) -> None:
        @router.post(f"/adapters/{{alias}}/{mode}", summary=summary, name=mode)
        async def begin(alias: Name, body: RolloutRequest, http: Request) -> AliasOut:
            await admin.expect_admitted(alias, body.version)
            work = admin.by(http).try_out
            return await admin.changed(
                alias, work, mode, alias, body.version, body.share, automatic=body.automatic
            )

    add_rollout("shadow", "Ask a candidate some questions beside the active version")
    add_rollout("canary", "Let a candidate answer some questions")

    @router.post("/adapters/{alias}/pin", summary="Keep the alias's versions loaded, or not")
    async def pin(
        alias: Name, http: Request, body: Annotated[PinRequest | None, Body()] = None
    ) -> AliasOut:
        pinned = body.pinned if body else True
        return await admin.changed(alias, admin.by(http).pin, alias, pinned=pinned)

    @router.post("/adapters/{alias}/withdraw", summary="Serve nothing as this alias any more")
    async def withdraw(alias: Name, http: Request) -> AdaptersOut:
        await admin.stored(admin.by(http).withdraw, alias)
        await admin.table.refresh()
        return await admin.listed()

    @router.post("/versions/{version}/unload", summary="Let go of a version that no alias names")
    async def unload(version: Version) -> AdaptersOut:
        await admin.unload(version)
        return await admin.listed()

    @router.post("/adapters/{alias}/publish", summary="Upload a bundle as a tar archive")
    async def publish(
        alias: Name,
        http: Request,
        rollout: Annotated[Rollout, Query(description="what it becomes; store: nothing")] = "none",
        share: Annotated[float, Query(gt=0, le=1, description="of a rollout")] = 0.1,
    ) -> PublishedOut:
        return await admin.publish(alias, http, rollout, share)


class Admin:
    """What the routes do, on the store of `table`."""

    def __init__(self, table: AdapterTable, settings: Settings) -> None:
        self.table = table
        self.settings = settings

    def by(self, http: Request) -> Operations:
        """The operations of whoever sent a request: known by the digest of their key."""
        key = hashlib.sha256(http.state.api_key.encode("utf-8", "surrogatepass")).hexdigest()
        quota = int(self.settings.store_gib * 2**30)
        return Operations(self.table.store, f"admin:{key[:12]}", quota)

    async def stored(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` on the store returns; its errors as those of a route."""
        try:
            return await self.table.loader.disk.run(work, *args, **kwargs)
        except OperationError as error:
            raise _as_error(error) from error
        except (BundleError, EvidenceError, OSError) as error:
            raise StoreFailed(f"the store: {error}", hint="see the server's log") from error

    async def listed(self) -> AdaptersOut:
        aliases = await self.stored(read_aliases, self.table.store)
        versions = await self.stored(stored_versions, self.table.store)
        return AdaptersOut(
            aliases=[self._alias(name, entry) for name, entry in sorted(aliases.items())],
            versions=[
                VersionOut(
                    version=v.short, bytes=v.size, age_seconds=round(v.age), aliases=list(v.aliases)
                )
                for v in versions
            ],
        )

    def _alias(self, alias: str, entry: Alias) -> AliasOut:
        route = self.table.routes.get(alias)
        refused = [
            RefusalOut(version=name.partition("@")[2], code=why.code, reason=why.reason)
            for name, why in self.table.refused.items()
            if name.startswith(f"{alias}@")
        ]
        return AliasOut(
            alias=alias,
            active=entry.active,
            previous=entry.previous,
            candidate=entry.candidate,
            mode=entry.mode,
            share=entry.share,
            automatic=entry.automatic,
            pinned=entry.pinned,
            serving=route.active.name if route else None,
            serving_candidate=route.candidate.name if route and route.candidate else None,
            refused=refused,
        )

    async def admitted(self, version: str, store: Path | None = None) -> Bundle:
        """Version `version`, looked at as before it is served.

        Raises:
            Unprocessable: it would be refused; the code says why.
        """
        admit = self.table.loader.admission.admit_version
        try:
            return await self.table.loader.disk.run(admit, store or self.table.store, version)
        except (BundleError, OSError) as error:
            raise _refused(error, version) from error

    async def expect_admitted(self, alias: str, version: str | None) -> None:
        """Raise unless `version`, or else the candidate of `alias`, may be served; what is not
        there is said by the operation itself."""
        if version is None:
            entry = (await self.stored(read_aliases, self.table.store)).get(alias)
            version = entry.candidate if entry else None
        if version and (self.table.store / version).is_dir():
            await self.admitted(version)

    async def changed(
        self, alias: str, work: Callable[P, Alias], *args: P.args, **kwargs: P.kwargs
    ) -> AliasOut:
        """What `work` made of `alias`, once it is served here.

        Raises:
            Conflict: the store has changed, but this server can't serve what it says now.
        """
        entry = await self.stored(work, *args, **kwargs)
        await self.table.refresh()
        found = self._alias(alias, entry)
        for wanted in (entry.active, entry.candidate):
            refused = self.table.refused.get(f"{alias}@{wanted}")
            if refused:
                error = Conflict(
                    f"{alias}@{wanted} is refused: {refused.reason}",
                    hint=f"still serving {found.serving}; roll back to undo",
                )
                error.code = "refused_by_server"
                raise error
        return found

    async def unload(self, version: str) -> None:
        """Forget a version that the store's aliases don't name, on the engine too."""
        aliases = await self.stored(read_aliases, self.table.store)
        using = [alias for alias, entry in aliases.items() if version in entry.versions]
        if using:
            error = Conflict(f"{version} is a version of {using[0]!r}", param="version")
            error.code, error.hint = "in_use", "promote another version, or withdraw the alias"
            raise error
        await self.table.refresh()
        names = [name for name in self.table.versions if name.endswith(f"@{version}")]
        for name in names:
            self.table.forget(name)
            await self.table.engine.unload(name)

    async def publish(
        self, alias: str, http: Request, rollout: Rollout, share: float
    ) -> PublishedOut:
        """Take a bundle's archive from the body of `http` into the store."""
        if not self.settings.uploads:
            error = Forbidden("uploads are off", hint="set SQLWRIGHT_UPLOADS=1, or use the shell")
            error.code = "uploads_off"
            raise error
        self.table.store.mkdir(parents=True, exist_ok=True)
        # In the store's own file system, under a name that a collection removes if we are killed.
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.table.store) as work:
            folder = Path(work) / "bundle"
            await self._received(http, folder)
            bundle = await self._admitted_upload(folder)
            return await self._published(alias, bundle, self.by(http), rollout, share)

    async def _received(self, http: Request, folder: Path) -> None:
        most, archive = self.settings.max_upload_bytes, folder.with_suffix(".tar")
        try:
            await receive(http.stream(), archive, most)
        except ClientDisconnect as error:
            raise BadRequest("the client left before all was sent") from error
        await asyncio.to_thread(unpack, archive, folder, most)

    async def _admitted_upload(self, folder: Path) -> Bundle:
        try:
            return await asyncio.to_thread(self.table.loader.admission.admit, folder)
        except (BundleError, OSError) as error:
            raise _refused(error, "the bundle") from error

    async def _published(
        self, alias: str, bundle: Bundle, operations: Operations, rollout: Rollout, share: float
    ) -> PublishedOut:
        if rollout == "none":
            await self.changed(alias, operations.publish, bundle.folder, alias)
            return PublishedOut(version=bundle.short, alias=alias, state="active")
        await self.stored(operations.add, bundle.folder)
        if rollout == "store":
            return PublishedOut(version=bundle.short, alias=alias, state="stored")
        await self.changed(alias, operations.try_out, rollout, alias, bundle.short, share)
        return PublishedOut(version=bundle.short, alias=alias, state=rollout)


def _as_error(error: OperationError) -> ServerError:
    """An operation that can't be done as the error of a route."""
    found = STATUS.get(error.code, Unprocessable)(
        str(error), param=error.param or None, hint=error.hint
    )
    found.code = error.code
    return found


def _refused(error: Exception, what: str) -> Unprocessable:
    param = error.param if isinstance(error, Refusal) else None
    found = Unprocessable(f"{what} must not be served: {error}", param=param or None)
    found.code = code_of(error)
    return found
