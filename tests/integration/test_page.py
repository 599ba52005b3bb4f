"""The page for people, in a real Chromium, served beside a scripted API by a stand-in server.

The stand-in sends the real files under a strict Content-Security-Policy with Trusted Types, so an
inline script, an inline style or `innerHTML` shows as a console error. It knows nothing of models.
"""

import asyncio
import json
import shlex
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

ROOT = Path(__file__).parents[2]
WEB = ROOT / "server" / "web"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
QUESTION = "Show me all users who signed up last month"
BODY = {"natural_language_query": QUESTION}
SCRIPT: dict[str, Any] = json.loads((ROOT / "tests" / "fixtures" / "page.json").read_text())
ANSWER = SCRIPT["answer"]
SQL = ANSWER["sql_query"]
INVALID = ANSWER | SCRIPT["invalid"]


@dataclass
class Site:
    """Serves the page's files and answers from a queue; remembers the bodies that it was sent."""

    key: str = ""
    answers: deque[tuple[int, Any]] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.guard])
        gets = {"/": self.file, "/static/{name}": self.file}
        gets |= {"/databases": self.listing, "/v1/models": self.listing}
        app.add_routes([web.get(path, handler) for path, handler in gets.items()])
        app.add_routes([web.post("/generate-sql", self.generate)])
        return app

    async def file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "index.html")
        return web.FileResponse(WEB / name, headers={"Content-Security-Policy": CSP})

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_open = not self.key or request.match_info.handler == self.file
        if is_open or request.headers.get("Authorization") == f"Bearer {self.key}":
            return await handler(request)
        return web.json_response(SCRIPT["unauthorized"], status=401)

    async def listing(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(SCRIPT["databases" if request.path == "/databases" else "models"])

    async def generate(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        if self.hold:
            await self.hold.wait()
        status, body = self.answers.popleft()
        headers = {"Retry-After": "7"} if status == 503 else {}
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with TestServer(site.app()) as server:
        site.url = str(server.make_url("/"))
        yield site


@pytest.fixture
async def tab(chromium: Browser, site: Site) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    tab = await context.new_page()
    await tab.goto(site.url)
    await expect(tab.get_by_label("Database")).to_have_value("shop")
    yield tab
    await context.close()


async def ask(tab: Page, site: Site, body: Any, *, status: int = 200) -> None:
    site.answers.append((status, body))
    await tab.get_by_label("Your question").fill(QUESTION)
    await tab.get_by_label("Your question").press("Enter")


async def test_page_loads_and_asks_without_console_errors_or_other_hosts(tab: Page, site: Site):
    console: list[str] = []
    urls: list[str] = []
    tab.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda fault: console.append(str(fault)))
    tab.context.on("request", lambda request: urls.append(request.url))
    await tab.reload()
    await ask(tab, site, INVALID)
    await expect(tab.locator(".badge")).to_have_text("Not valid")
    assert console == []
    assert f"{site.url}static/app.js" in urls
    assert [url for url in urls if not url.startswith(site.url)] == []


async def test_choices_start_at_the_default_database_and_the_first_adapter(tab: Page, site: Site):
    await expect(tab.locator("#model option")).to_have_text(["base", "spider"])
    await expect(tab.get_by_label("Adapter")).to_have_value("spider")
    await expect(tab.locator("#dialect option").first).to_have_text("as the database")
    first_example = tab.locator("#examples button").first
    await expect(first_example).to_have_text(QUESTION)
    await tab.get_by_label("Database").select_option("farm")
    await expect(first_example).to_have_text("How many rows of fields are there?")
    await expect(tab.locator("#tables")).to_contain_text("harvest_date")


async def test_asking_shows_sql_confidence_and_what_it_cost(tab: Page, site: Site):
    await ask(tab, site, ANSWER)
    await expect(tab.locator("#sql")).to_have_text(SQL)
    assert await tab.locator("#sql").text_content() == SQL
    await expect(tab.locator(".badge")).to_have_text("Valid")
    await expect(tab.get_by_role("meter")).to_have_attribute("aria-valuenow", "0.87")
    await expect(tab.locator(".confidence")).to_contain_text("0.87raw, not calibrated")
    await expect(tab.get_by_role("status")).to_contain_text("confidence 0.87")
    await tab.get_by_text("Model, tokens and timings").click()
    for text in ("spider@3f2a9c0d1e4b", "212 prompt + 31 completion = 243", "812.5 ms", "4f1c0b7e"):
        await expect(tab.locator("#details")).to_contain_text(text)
    assert site.asked == [BODY | {"database": "shop", "model": "spider"}]
    await ask(tab, site, ANSWER | {"calibrated": True})
    await expect(tab.locator(".confidence .muted")).to_have_text("calibrated")


async def test_copy_takes_the_sql_and_curl_sends_the_same_body(tab: Page, site: Site):
    site.answers.append((200, ANSWER))
    await tab.get_by_label("Your question").fill("Who is O'Brien?")
    await tab.get_by_role("button", name="Ask", exact=True).click()
    await tab.get_by_role("button", name="Copy SQL").click()
    await expect(tab.get_by_role("button", name="Copied")).to_be_visible()
    assert await tab.evaluate("navigator.clipboard.readText()") == SQL
    words = shlex.split(await tab.locator("#curl code").text_content() or "")
    assert words[2] == f"{site.url}generate-sql"
    assert json.loads(words[words.index("-d") + 1]) == site.asked[0]


async def test_an_invalid_answer_shows_its_violations(tab: Page, site: Site):
    await ask(tab, site, INVALID)
    await expect(tab.locator(".badge")).to_have_text("Not valid")
    first, second = await tab.locator("#violations li").all()
    await expect(first).to_contain_text("unknown table 'userz'")
    await expect(first).to_contain_text("Did you mean users?")
    await expect(second).to_contain_text("DROP is not allowed in a query")


async def test_a_repaired_answer_shows_how_it_came_about_and_what_may_be_better(
    tab: Page, site: Site
):
    found = {
        "message": "SELECT * also reads columns that nobody asked for.",
        "rewrite": "SELECT id FROM users",
        "verdict": "changes the result",
    }
    more = {"decoding": "sampled", "repaired": True, "agreement": 0.75, "suggestions": [found]}
    await ask(tab, site, ANSWER | more | {"notes": ["left out of the prompt to fit: orders"]})
    await expect(tab.locator(".notice")).to_have_text("left out of the prompt to fit: orders")
    await tab.locator("#suggestions summary").click()
    await expect(tab.locator("#suggestions code")).to_have_text("SELECT id FROM users")
    await expect(tab.locator("#suggestions li")).to_contain_text("changes the result")
    await tab.locator("#details summary").click()
    await expect(tab.locator("#details")).to_contain_text("repaired, 75 % of the samples agree")


async def test_hostile_model_text_stays_text(tab: Page, site: Site):
    sql = f"SELECT '{HOSTILE}' FROM {HOSTILE}"
    violation = {"code": HOSTILE, "message": HOSTILE, "name": HOSTILE, "suggestions": [HOSTILE]}
    hostile = {"sql_query": sql, "valid": False, "violations": [violation], "model": HOSTILE}
    title = await tab.title()
    found = {"message": HOSTILE, "rewrite": sql, "verdict": HOSTILE}
    more = {"tables": [HOSTILE], "suggestions": [found], "notes": [HOSTILE], "decoding": HOSTILE}
    await ask(tab, site, ANSWER | hostile | more)
    await expect(tab.locator("#sql")).to_have_text(sql)
    assert await tab.locator("#violations .violation-text").text_content() == HOSTILE
    assert await tab.locator("#answer img, #answer script").count() == 0
    assert await tab.title() == title


async def test_an_error_shows_message_and_hint_in_place_of_the_answer(tab: Page, site: Site):
    await ask(tab, site, ANSWER)
    await expect(tab.locator("#sql")).to_be_visible()
    await ask(tab, site, SCRIPT["overloaded"], status=503)
    for text in ("all 8 slots are taken", "ask again soon", "Try again in 7 s", "9b1d"):
        await expect(tab.get_by_role("alert")).to_contain_text(text)
    await expect(tab.locator("#answer")).to_be_hidden()


async def test_an_error_that_is_not_ours_and_a_dead_server_are_named(tab: Page, site: Site):
    await tab.route("**/generate-sql", lambda route: route.fulfill(status=502, body="<p>no"))
    await ask(tab, site, ANSWER)
    await expect(tab.get_by_role("alert")).to_contain_text("The server answered 502 Bad Gateway")
    await tab.route("**/generate-sql", lambda route: route.abort())
    await tab.get_by_role("button", name="Ask", exact=True).click()
    await expect(tab.get_by_role("alert")).to_contain_text("be reached")


async def test_cancel_stops_the_request_and_gives_the_button_back(tab: Page, site: Site):
    site.hold = asyncio.Event()
    await ask(tab, site, ANSWER)
    await expect(tab.get_by_text("Asking…")).to_be_visible()
    await expect(tab.get_by_role("timer")).not_to_have_text("0.0 s")
    async with tab.expect_event("requestfailed"):
        await tab.get_by_role("button", name="Cancel").click()
    await expect(tab.get_by_role("alert")).to_contain_text("Cancelled after")
    await expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_focused()
    await expect(tab.locator("#answer")).to_be_hidden()
    site.hold.set()


async def test_shift_enter_breaks_the_line_and_an_empty_question_is_not_sent(tab: Page, site: Site):
    question = tab.get_by_label("Your question")
    await question.press("Enter")
    await expect(tab.get_by_role("alert")).to_contain_text("Write a question first")
    await question.press_sequentially("a")
    await question.press("Shift+Enter")
    await question.press_sequentially("b")
    await expect(question).to_have_value("a\nb")
    assert site.asked == []


async def test_pasted_ddl_and_dialect_are_sent_instead_of_a_database(tab: Page, site: Site):
    await tab.evaluate("document.getElementById('schema').open = true")
    await tab.get_by_role("button", name="paste DDL").click()
    await tab.get_by_label("CREATE TABLE").fill("CREATE TABLE pets (id INT)")
    await expect(tab.locator("#examples button")).to_have_text(["How many rows of pets are there?"])
    await tab.get_by_label("Dialect").select_option("duckdb")
    await ask(tab, site, ANSWER)
    await expect(tab.locator("#sql")).to_be_visible()
    choices = {"ddl": "CREATE TABLE pets (id INT)", "dialect": "duckdb", "model": "spider"}
    assert site.asked == [BODY | choices]


async def test_history_asks_again_with_the_choices_of_then(tab: Page, site: Site):
    site.answers += [(200, ANSWER), (200, INVALID)]
    await tab.locator("#examples button").first.click()
    await expect(tab.locator("#asked button")).to_contain_text("valid, 0.87")
    await tab.get_by_label("Database").select_option("farm")
    await tab.get_by_role("button", name="Ask again").click()
    await expect(tab.locator("#asked button")).to_contain_text("not valid, 0.21")
    await expect(tab.get_by_label("Database")).to_have_value("shop")
    assert site.asked[0] == site.asked[1]


async def test_a_server_with_keys_gets_the_key_and_curl_never_shows_it(tab: Page, site: Site):
    site.key = "secret-key"
    await tab.reload()
    await tab.get_by_label("API key").fill("secret-key")
    await tab.get_by_label("API key").press("Enter")
    await expect(tab.get_by_label("Database")).to_have_value("shop")
    await ask(tab, site, ANSWER)
    await expect(tab.locator("#curl code")).to_contain_text("$SQLWRIGHT_API_KEY")
    await expect(tab.locator("#curl code")).not_to_contain_text("secret-key")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_axe_violation_nor_sideways_scroll(tab: Page, site: Site, scheme: Any, width: int):
    await tab.emulate_media(color_scheme=scheme)
    await tab.set_viewport_size({"width": width, "height": 900})
    await assert_accessible(tab)
    await ask(tab, site, INVALID)
    await expect(tab.locator(".badge")).to_have_text("Not valid")
    await tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    await assert_accessible(tab)
    await tab.get_by_role("button", name="paste DDL").click()
    await ask(tab, site, SCRIPT["overloaded"], status=503)
    await expect(tab.get_by_role("alert")).not_to_be_empty()
    await assert_accessible(tab)


async def assert_accessible(tab: Page) -> None:
    results = await Axe().run(tab)
    assert results.violations_count == 0, results.generate_report()
    assert results.response["passes"], "axe checked nothing"
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await tab.evaluate(overflow) == 0


def test_the_files_stay_small():
    assert sum(path.stat().st_size for path in WEB.iterdir()) < 100 * 1024
