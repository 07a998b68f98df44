"""Documentation and the shipped suite import from ``pytest_slmperf`` only: every module below it may be renamed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import doc_blocks

ROOT = Path(__file__).parents[2]


def inner_imports(source: str) -> list[str]:
    """The modules below ``pytest_slmperf`` that the source imports."""
    imported: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
        elif isinstance(node, ast.Import):
            imported += [name.name for name in node.names]
    return [module for module in imported if module.startswith("pytest_slmperf.")]


def sources() -> Iterator[tuple[str, str]]:
    for page in doc_blocks.pages():
        for block in doc_blocks.blocks(page):
            if block.language == "python":
                yield f"{page.relative_to(ROOT)}:{block.line}", block.text
    for path in sorted((ROOT / "perf_tests").glob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text()


@pytest.mark.parametrize(("where", "source"), [pytest.param(*each, id=each[0]) for each in sources()])
def test_users_import_from_the_package_itself(where, source):
    assert inner_imports(source) == [], where


def test_the_check_sees_an_inner_import():
    assert inner_imports("def f():\n    from pytest_slmperf.energy.base import Watch\n") == [
        "pytest_slmperf.energy.base"
    ]
    assert inner_imports("from pytest_slmperf import pick\nimport pytest_slmperf\n") == []
