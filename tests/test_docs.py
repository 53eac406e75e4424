"""The documents say what is: every setting is listed, with its kind, and none that is not read."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.core import environment

ROOT = Path(__file__).parent.parent
LISTED = re.compile(r"^\| `([A-Z_]+)` \|", re.M)
READERS = ("env_text", "env_bool", "env_int", "env_seconds", "env_list", "env_choice")


def read_settings(monkeypatch: pytest.MonkeyPatch, home: Path) -> set[str]:
    """The name of every variable that the settings read, the first of its spellings."""
    asked: set[str] = set()
    for reader in READERS:
        plain = getattr(environment, reader)

        def noting(*names: str, plain: Any = plain, **more: Any) -> Any:
            asked.add(names[0])
            return plain(*names, **more)

        monkeypatch.setattr(environment, reader, noting)
    clean = {"ORCHESTRATOR_HOME": str(home), "DATABASE_URL": "postgresql://u:p@h/n"}
    monkeypatch.setattr(environment, "os", SimpleNamespace(**{**vars(os), "environ": clean}))
    runpy.run_path(str(ROOT / "orchestrator" / "settings.py"))
    return asked


def test_every_setting_is_listed_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = set(LISTED.findall((ROOT / "docs" / "settings.md").read_text()))
    asked = read_settings(monkeypatch, tmp_path)
    assert listed - asked == set()
    assert asked - listed == set()


@pytest.mark.parametrize("document", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target
