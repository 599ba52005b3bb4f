"""Who may import whom: nothing crosses from one package to another except `eval.task`."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("trainer", "server", "eval", "benchmarks")
KERNEL_LIBRARIES = sys.stdlib_module_names | {"sqlglot"}
VLLM_DOOR = "server/vllm_resolver.py"


@dataclass(frozen=True)
class Import:
    """One imported name: `eval.task.sql` for `from eval.task import sql` and its like."""

    path: str
    line: int
    name: str
    is_lazy: bool
    is_bare: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.name}"


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports_of(tree: ast.Module, path: str) -> Iterator[Import]:
    lazy = {
        id(inner)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(function)
    }
    for node in ast.walk(tree):
        is_bare = isinstance(node, ast.Import)
        for name in names_of(node, path):
            yield Import(path, getattr(node, "lineno", 0), name, id(node) in lazy, is_bare)


def names_of(node: ast.AST, path: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            package = Path(path).with_suffix("").parts[:-level] if level else ()
            parent = ".".join([*package, *([module] if module else [])])
            return [f"{parent}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name))]
        ):
            return [name]
        case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=str(name)), *_]):
            return [name]
    return []


@pytest.fixture(scope="module")
def found() -> list[Import]:
    assert len(sources()) > 20
    texts = [(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in sources()]
    return [item for path, text in texts for item in imports_of(ast.parse(text, path), path)]


def is_kernel(path: str) -> bool:
    return path.startswith("eval/task/")


def test_every_package_is_looked_at(found: list[Import]) -> None:
    assert {item.path.partition("/")[0] for item in found} == set(PACKAGES)
    assert any(is_kernel(item.path) for item in found)


def test_nothing_crosses_between_packages_except_the_kernel(found: list[Import]) -> None:
    crossing = [
        str(item)
        for item in found
        if item.top in PACKAGES
        and item.top != item.path.partition("/")[0]
        and not item.name.startswith("eval.task.")
    ]
    assert crossing == []


def test_the_kernel_imports_nothing_of_ours(found: list[Import]) -> None:
    own = [
        str(item)
        for item in found
        if is_kernel(item.path) and item.top in PACKAGES and not item.name.startswith("eval.task.")
    ]
    assert own == []


def test_importing_the_kernel_needs_sqlglot_only(found: list[Import]) -> None:
    heavy = [
        str(item)
        for item in found
        if is_kernel(item.path) and not item.is_lazy and item.top not in KERNEL_LIBRARIES | {"eval"}
    ]
    assert heavy == []


def test_only_the_resolver_imports_vllm(found: list[Import]) -> None:
    assert [str(i) for i in found if i.top == "vllm" and i.path != VLLM_DOOR] == []


def test_the_kernel_is_never_imported_bare(found: list[Import]) -> None:
    """`import eval.task` rebinds the builtin `eval`."""
    assert [str(i) for i in found if i.is_bare and i.top == "eval"] == []


def test_tests_of_tests_are_not_imported_by_the_packages(found: list[Import]) -> None:
    assert [str(item) for item in found if item.top == "tests"] == []


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import server.app", ["server.app"]),
        ("from server import app, web", ["server.app", "server.web"]),
        ("from ..server import app", ["server.app"]),
        ("from . import config", ["trainer.config"]),
        ("import importlib\nimportlib.import_module('vllm')", ["importlib", "vllm"]),
        ("__import__('vllm')", ["vllm"]),
        ("if True:\n import torch", ["torch"]),
    ],
)
def test_each_way_to_import_is_seen(code: str, names: list[str]) -> None:
    assert [item.name for item in imports_of(ast.parse(code), "trainer/data.py")] == names


def test_an_import_in_a_function_is_lazy() -> None:
    code = "import json\ndef f():\n    import torch\nclass A:\n    import re\n"
    found = {item.name: item.is_lazy for item in imports_of(ast.parse(code), "eval/task/x.py")}
    assert found == {"json": False, "torch": True, "re": False}
