"""Imports go downwards, never sideways."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Lowest first; packages of one line know nothing of each other.
LAYERS = [
    {"orchestrator.core", "orchestrator.server"},
    {"orchestrator.accounts", "orchestrator.events", "orchestrator.blocks", "orchestrator.concurrency"},
    {"flowruns"},
    {"workqueues"},
    {"deployments"},
    {"orchestrator.automations", "orchestrator.console"},
]
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}


def package_of(module: str) -> str | None:
    return next((package for package in HEIGHT if module == package or module.startswith(package + ".")), None)


def imports_of(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


FILES = [
    file
    for top in ("orchestrator", "flowruns", "workqueues", "deployments")
    for file in sorted((ROOT / top).rglob("*.py"))
    if "migrations" not in file.parts
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_only_from_below(file: Path) -> None:
    own = package_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        pytest.skip("settings and addresses stand above all layers")
    for name in imports_of(file):
        other = package_of(name)
        if other and other != own and HEIGHT[own] + HEIGHT[other]:  # the ground is one: core and how it is served
            assert HEIGHT[other] < HEIGHT[own], f"{own} imports {name}"
