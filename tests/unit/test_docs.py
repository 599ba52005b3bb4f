"""README's tables say what the code has: settings, routes, metrics; no more and no less."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from pydantic_core import PydanticUndefined

from server.app import create_app
from server.metrics import Metrics
from server.settings import FOREIGN, PREFIX, Settings

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text(encoding="utf-8")


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of those table rows whose first cell matches `first` as code."""
    pattern = re.compile(rf"^\| `({first})` \|(.*)\|\s*$", re.MULTILINE)
    return [[name, *map(str.strip, rest.split("|"))] for name, rest in pattern.findall(text)]


def test_the_settings_table_is_the_settings(readme):
    found = {cells[0]: cells[1:] for cells in rows(readme, rf"{PREFIX}[A-Z_]+")}
    assert set(found) == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default, description = found[PREFIX + name.upper()][:2]
        assert description, name
        if field.default is not PydanticUndefined and field.default != "":
            assert default.strip("`") == str(field.default), name


def test_no_setting_is_described_twice(readme):
    names = [cells[0] for cells in rows(readme, rf"{PREFIX}[A-Z_]+")]
    assert len(names) == len(set(names))


def test_every_variable_that_the_readme_names_is_one(readme):
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {PREFIX + name for name in FOREIGN}
    named = set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", readme))
    assert named
    assert named <= known


def test_the_routes_table_is_the_application(readme, generator):
    app = create_app(generator, Settings(**{"store": generator.adapters.store, "admin_keys": "k"}))
    found = {cells[0] for cells in rows(readme, r"[A-Z]+ /\S*")}
    routes = [route for route in every_route(app) if route.include_in_schema]
    assert len(routes) > 8
    assert {f"{method} {route.path}" for route in routes for method in route.methods} <= found
    inner = {"GET /", "GET /docs", "GET /redoc", "GET /openapi.json"}
    assert found <= {f"{m} {r.path}" for r in routes for m in r.methods} | inner


def every_route(app) -> list[APIRoute]:
    return [route for route in app.routes if isinstance(route, APIRoute)]


def families() -> list[str]:
    found = []
    for family in Metrics().registry.collect():
        found.append(family.name + ("_total" if family.type == "counter" else ""))
    return found


@pytest.mark.parametrize("name", families())
def test_every_metric_is_in_the_readme(readme, name):
    assert re.search(rf"`{name}[`{{]", readme), name


def test_every_metric_that_the_readme_names_is_one(readme):
    named = set(re.findall(r"`(sqlwright_[a-z_]+)[`{]", readme))
    assert named
    assert {name for name in named if not name.startswith("sqlwright_http_")} <= set(families())
