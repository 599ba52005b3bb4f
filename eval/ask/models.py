"""The models that a server offers by GET /v1/models, and which version a name means now."""

import asyncio
import json
from difflib import SequenceMatcher

import aiohttp

from eval.ask.connection import Server, ServerError, error_message, exchange, open_session
from eval.task.bundle import VERSION_NAME

ROUTE = "/v1/models"
NUM_SHOWN = 12


def resolve_model(server: Server, model: str | None) -> str:
    """The version that `model` means at `server` now: our server says `alias@digest12`.

    Where the server doesn't say (others have no versions, some no list) it is `model` itself.

    Raises:
        ServerError: the server can't be reached or refuses the key, or `model` is None and the
            server offers more than one, so that no name says which one answers.
    """
    return asyncio.run(_resolve(server, model))


async def _resolve(server: Server, model: str | None) -> str:
    async with open_session(server) as session:
        roots = await offered(session, server)
    if model is None and len(roots) == 1:
        (model,) = roots
    if model is None:
        raise ServerError(f"name a model by --model: {shown(roots) or 'the server lists none'}")
    root = roots.get(model, "")
    return root if VERSION_NAME.fullmatch(root) else model


async def offered(session: aiohttp.ClientSession, server: Server) -> dict[str, str]:
    """The `root` of each model by its name; empty where the server has no such list.

    Raises:
        ServerError: the server can't be reached, or refuses the key.
    """
    reply = await exchange(session, server, ROUTE)
    if reply.trouble and reply.status is None:
        raise ServerError(f"can't reach {server.url(ROUTE)}: {reply.failure}")
    if reply.status in (401, 403):
        said = error_message(reply.text)
        raise ServerError(f"{server.url(ROUTE)}: {reply.status}: {said}; set SQLWRIGHT_API_KEY")
    try:
        rows = json.loads(reply.text)["data"] if reply.status == 200 else []
        return {str(row["id"]): str(row.get("root") or "") for row in rows}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}


def shown(names: dict[str, str], wanted: str = "") -> str:
    """`the server offers a, b and 3 more`, first what is most like `wanted`; empty for none."""
    if not names:
        return ""

    def unlike(name: str) -> float:
        return -SequenceMatcher(None, name, wanted).ratio()

    first = sorted(names, key=unlike)[:NUM_SHOWN]
    rest = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"the server offers {', '.join(first)}{rest}"
