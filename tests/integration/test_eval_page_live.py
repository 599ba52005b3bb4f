"""The HTML report in a real Chromium, opened from a file as a reader would open it.

The page carries its own strict Content-Security-Policy with Trusted Types, so whatever it must not
do shows as a console error.
"""

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from eval.comparison.compare import compare, comparison_record
from eval.page.render import write_page
from eval.record import Record, load_record

FIXTURE = Path(__file__).parents[1] / "fixtures" / "eval_record.json"
OWN = "document.title='owned'"
HOSTILE = f'</script><script>{OWN}</script><!--<img src=x onerror="{OWN}">'
HUGE = "SELECT '" + "x" * 100_000 + "'"


@pytest.fixture(scope="module")
def record() -> Record:
    return load_record(FIXTURE)


@pytest.fixture(scope="module")
def address(record: Record, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the fixture against a run that had two of its right items wrong."""
    base = copy.deepcopy(record)
    right = [item for item in base["items"] if item["scores"]["execution_accuracy"] == 1]
    for item in right[:2]:
        item["scores"]["execution_accuracy"] = 0.0
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(record, path, comparison_record(compare(base, record)))
    return path.as_uri()


@pytest.fixture
async def tab(chromium: Browser) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    yield await context.new_page()
    await context.close()


async def open_all(tab: Page) -> None:
    await tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    await expect(tab.locator(".example .body").last).to_be_visible()
    await tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")


async def test_it_opens_from_a_file_without_console_errors_or_requests(tab: Page, address: str):
    console: list[str] = []
    urls: list[str] = []
    tab.on("console", lambda message: console.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda fault: console.append(str(fault)))
    tab.on("request", lambda request: urls.append(request.url))
    await tab.goto(address)
    await open_all(tab)
    await tab.get_by_label("Error class").select_option("wrong_value")
    await tab.get_by_role("link", name="wrong aggregate").click()
    assert console == []
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []


async def test_filters_narrow_the_list_and_say_how_many_are_left(tab: Page, address: str):
    await tab.goto(address)
    status = tab.get_by_role("status")
    await expect(status).to_have_text("12 of 12 examples")
    await tab.get_by_role("radio", name="Wrong").check()
    await expect(status).to_have_text("7 of 12 examples")
    await expect(tab.locator("#class option[value=wrong_value]")).to_have_text("Wrong value (1)")
    await tab.get_by_label("Error class").select_option("wrong_value")
    await expect(status).to_have_text("1 of 12 examples")
    await expect(tab.locator("#list h3")).to_contain_text("registered in the past 7 days")
    await tab.get_by_role("button", name="Clear filters").click()
    await expect(status).to_have_text("12 of 12 examples")
    await tab.get_by_label("Search").fill("FROM  sales buyer")
    await expect(status).to_have_text("1 of 12 examples")
    await tab.get_by_label("Search").fill("no such text")
    await expect(status).to_have_text("0 of 12 examples")


async def test_the_address_keeps_the_filters(tab: Page, address: str):
    await tab.goto(address)
    await tab.get_by_label("Database").select_option("farm")
    await tab.get_by_label("Search").fill("kilos & more")
    await tab.get_by_label("Search").fill("kilos")
    await expect(tab).to_have_url(f"{address}#q=kilos&db=farm")
    await tab.reload()
    await expect(tab.get_by_role("status")).to_have_text("1 of 12 examples")
    await expect(tab.get_by_label("Database")).to_have_value("farm")
    await tab.goto(f"{address}#db=nowhere&hardness=__proto__&odd=1")
    await tab.reload()
    await expect(tab.get_by_role("status")).to_have_text("12 of 12 examples")


async def test_links_of_the_summary_show_their_examples(tab: Page, address: str):
    await tab.goto(address)
    await tab.locator("#errors").get_by_role("link", name="Wrong aggregate").click()
    await expect(tab.get_by_role("status")).to_have_text(
        "1 of 12 examples (wrong by: wrong aggregate)", ignore_case=True
    )
    await expect(tab.locator("#examples")).to_be_in_viewport()
    await tab.locator("#comparison").get_by_role("link", name="2", exact=True).click()
    await expect(tab.get_by_role("status")).to_have_text("2 of 12 examples")
    await tab.get_by_role("link", name="Measures").click()
    await expect(tab.get_by_role("status")).to_have_text("2 of 12 examples")


async def test_a_row_names_its_mark_and_columns_and_tells_luck_in_words(
    tab: Page, record: Record, tmp_path: Path
):
    lucky: Any = copy.deepcopy(record)
    lucky["items"][0] |= {"flags": ["lucky_match"], "error_classes": ["wrong_value"]}
    write_page(lucky, tmp_path / "report.html")
    await tab.goto((tmp_path / "report.html").as_uri())
    first, second = tab.locator(".example").nth(0), tab.locator(".example").nth(1)
    await expect(first.get_by_role("img", name="Right, but lucky match")).to_have_text("✓")
    await expect(first.locator(".cause")).to_have_text("lucky Error class: Wrong value")
    await expect(second.get_by_role("img", name="Right", exact=True)).to_have_text("✓")
    await expect(second.locator(".about")).to_have_text("Database and hardness: shop · Medium")
    await expect(tab.get_by_role("img", name="Wrong", exact=True)).to_have_count(7)
    await expect(tab.get_by_role("img", name="Not judged")).to_have_count(1)
    assert (await Axe().run(tab)).violations_count == 0


async def test_an_error_class_links_to_the_wrong_that_count_under_it_alone(
    tab: Page, record: Record, tmp_path: Path
):
    lucky: Any = copy.deepcopy(record)
    lucky["items"][0] |= {"flags": ["lucky_match"], "error_classes": ["wrong_value"]}
    write_page(lucky, tmp_path / "report.html")
    await tab.goto((tmp_path / "report.html").as_uri())
    await expect(tab.locator("#class option[value=wrong_value]")).to_have_text("Wrong value (2)")
    await tab.locator("#errors").get_by_role("link", name="Wrong value").click()
    status = tab.get_by_role("status")
    await expect(status).to_have_text("1 of 12 examples (wrong by: Wrong value)")
    await tab.reload()
    await expect(status).to_have_text("1 of 12 examples (wrong by: Wrong value)")
    await tab.get_by_role("button", name="Clear filters").click()
    await expect(status).to_have_text("12 of 12 examples")


async def test_an_example_opens_by_keyboard_to_queries_answers_and_schema(tab: Page, address: str):
    await tab.goto(f"{address}#verdict=wrong&db=farm")
    summary = tab.locator(".example summary").filter(has_text="Sales revenue")
    await summary.focus()
    await tab.keyboard.press("Enter")
    body = tab.locator(".example[open] .body")
    await expect(body.locator("del")).to_have_text("AVG")
    await expect(body.locator("ins")).to_have_text("SUM")
    await expect(body.get_by_role("heading", name="Gold answer")).to_contain_text("4 rows")
    await expect(body.locator("table")).to_have_count(2)
    await expect(body.locator(".scores")).to_contain_text("Execution accuracy✕ 0")
    await expect(body.locator(".scores")).to_contain_text("Confidence0.770")
    await body.get_by_text("Schema of farm").click()
    await expect(body.get_by_label("Schema of farm")).to_contain_text("CREATE TABLE harvests")


async def test_failures_are_told_in_place_of_an_answer(tab: Page, address: str):
    await tab.goto(f"{address}#only=observatory-003")
    await expect(tab.get_by_role("status")).to_have_text("1 of 12 examples (only observatory-003)")
    await expect(tab.locator(".failure")).to_have_text(
        "The request failed. 503: all 8 slots are taken"
    )
    await tab.goto(f"{address}#only=fleet-003")
    await expect(tab.locator(".failure")).to_contain_text("no such column: driver_name")


async def test_hostile_text_is_shown_and_never_run(tab: Page, record: Record, tmp_path: Path):
    hostile: Any = copy.deepcopy(record)
    hostile |= {"model": HOSTILE, "notes": [HOSTILE], "command": HOSTILE}
    hostile["databases"] = {HOSTILE: {"ddl": HOSTILE}}
    for item in hostile["items"]:
        item |= {"db_id": HOSTILE, "question": HOSTILE, "gold": HOSTILE, "predicted": HUGE}
        item |= {"error_classes": [HOSTILE], "flags": ["\ud800\x00\u202e"], "golds": [HOSTILE, ""]}
        item["gold_answer"] = {"columns": [HOSTILE], "rows": [[HOSTILE]], "num_rows": 431}
    write_page(hostile, tmp_path / "report.html")
    console: list[str] = []
    tab.on("console", lambda message: console.append(message.text))
    tab.on("pageerror", lambda fault: console.append(str(fault)))
    await tab.goto((tmp_path / "report.html").as_uri())
    title = await tab.title()
    await open_all(tab)
    await expect(tab.locator("h1")).to_have_text(HOSTILE)
    first = tab.locator(".example").first
    await expect(first.locator("h3")).to_have_text(HOSTILE)
    await expect(first.get_by_label("Gold SQL", exact=True)).to_have_text(HOSTILE)
    await expect(first.get_by_role("heading", name="Gold answer")).to_contain_text("1 of 431 rows")
    await expect(first.locator("td").last).to_have_text(HOSTILE)
    await expect(first.locator(".tags")).to_contain_text(r"\ud800\u0000\u202e")
    assert await first.get_by_label("Predicted SQL", exact=True).text_content() == HUGE
    assert await tab.locator("img").count() == 0
    assert await tab.locator("script").count() == 2
    assert await tab.title() == title
    assert "owned" not in title.replace(HOSTILE, "")
    assert console == []


async def test_many_examples_are_shown_page_by_page(tab: Page, record: Record, tmp_path: Path):
    many: Any = copy.deepcopy(record)
    items = many["items"]
    many["items"] = [i | {"id": f"{i['id']}-{n}"} for n in range(86) for i in items][:1026]
    write_page(many, tmp_path / "report.html")
    await tab.goto((tmp_path / "report.html").as_uri())
    await expect(tab.get_by_role("status")).to_have_text("1,026 of 1,026 examples")
    await expect(tab.locator(".example")).to_have_count(25)
    await expect(tab.locator("#pages")).to_have_text("1–25 of 1,026")
    await expect(tab.get_by_role("button", name="Previous")).to_be_disabled()
    await tab.get_by_role("button", name="Next").click()
    await expect(tab.locator("#pages")).to_have_text("26–50 of 1,026")
    await expect(tab.locator(".example summary").first).to_be_focused()
    await tab.get_by_label("Search").fill("shop-002-7")
    await expect(tab.get_by_role("status")).to_have_text("11 of 1,026 examples")
    await expect(tab.locator("#pager")).to_be_hidden()


async def test_without_javascript_the_figures_stand_and_the_examples_say_why_not(
    chromium: Browser, address: str
):
    context = await chromium.new_context(java_script_enabled=False)
    tab = await context.new_page()
    await tab.goto(address)
    await expect(tab.get_by_role("heading", name="samples@3f2a9c0d1e4b")).to_be_visible()
    await expect(tab.get_by_text("The examples need JavaScript")).to_be_visible()
    await expect(tab.locator("#filters")).to_be_hidden()
    await context.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_axe_violation_nor_sideways_scroll(
    tab: Page, address: str, scheme: Any, width: int
):
    await tab.emulate_media(color_scheme=scheme)
    await tab.set_viewport_size({"width": width, "height": 900})
    await tab.goto(address)
    await open_all(tab)
    results = await Axe().run(tab)
    assert results.violations_count == 0, results.generate_report()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await tab.evaluate(overflow) == 0
