"""Who imports what: nothing in the package needs the runs, and nothing there needs Ray before it is asked for."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "keras_ssvae"


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_library_does_not_import_the_runs():
    for path in PACKAGE.rglob("*.py"):
        if "runs" not in path.relative_to(PACKAGE).parts:
            names = list(imported(ast.parse(path.read_text())))
            assert not [name for name in names if name.startswith("keras_ssvae.runs")], path


@pytest.mark.parametrize("path", sorted((PACKAGE / "runs").glob("*.py")), ids=lambda path: path.stem)
def test_ray_is_imported_where_a_cluster_is_asked_for(path):
    at_top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [name for node in at_top for name in imported(node) if name.partition(".")[0] == "ray"]
