"""The page and the docs as the real server sends them, in a real Chromium, without a network."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.integration.live import QUESTION, Live

MINUTE = 60_000


@pytest.fixture
async def tab(chromium: Browser) -> AsyncIterator[tuple[Page, list[str], list[str]]]:
    """A tab with what it wrote to the console and which addresses it asked."""
    page = await chromium.new_page()
    console: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda fault: console.append(str(fault)))
    page.on("request", lambda request: urls.append(request.url))
    yield page, console, urls
    await page.close()


async def test_a_question_typed_into_the_page_is_answered_by_the_real_server(
    live: Live, tab: tuple[Page, list[str], list[str]]
) -> None:
    page, console, urls = tab
    await page.goto(live.url)
    await expect(page.get_by_label("Database")).to_have_value("shop")
    await page.get_by_label("Your question").fill(QUESTION["natural_language_query"])
    await page.get_by_label("Your question").press("Enter")
    await expect(page.locator(".badge")).to_be_visible(timeout=2 * MINUTE)
    expected = live.ask()["sql_query"]
    await expect(page.get_by_text(expected, exact=True).first).to_be_visible()
    assert console == []
    assert [url for url in urls if not url.startswith(live.url)] == []


async def test_the_interactive_docs_work_without_any_other_host(
    live: Live, tab: tuple[Page, list[str], list[str]]
) -> None:
    page, console, urls = tab
    await page.goto(live.url + "/docs")
    await expect(page.get_by_text("/generate-sql", exact=False).first).to_be_visible()
    assert [line for line in console if line.startswith("error")] == []
    assert [url for url in urls if not url.startswith((live.url, "data:"))] == []
