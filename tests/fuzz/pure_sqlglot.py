"""Import hook: sqlglot's own Python source in place of its compiled modules.

`use_pure_sqlglot` must run before anything imports sqlglot.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class _SourceOnly(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "sqlglot":
            return None
        finders = (
            FileFinder(str(place), (SourceFileLoader, [".py"])) for place in path or sys.path
        )
        return next((spec for finder in finders if (spec := finder.find_spec(fullname))), None)


def use_pure_sqlglot() -> None:
    """From now on `import sqlglot` takes the .py files."""
    assert "sqlglot" not in sys.modules
    sys.meta_path.insert(0, _SourceOnly())
