"""Every rule is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowruns.orchestration import policies
from flowruns.orchestration.transition import Rule

DOCUMENT = Path(__file__).parents[2] / "docs" / "orchestration.md"
POLICIES: dict[str, tuple[Rule, ...]] = {name: value for name, value in vars(policies).items() if name.isupper()}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_rule_of_a_policy_is_documented(policy: str) -> None:
    text = DOCUMENT.read_text()
    assert f"`{policy}`" in text
    for rule in POLICIES[policy]:
        assert f"`{rule.name}`" in text, rule.name
