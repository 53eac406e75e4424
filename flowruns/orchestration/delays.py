"""How long to wait before a run is tried again. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.delays import around

LONGEST_DELAY_SECONDS = 100 * 365 * 86_400.0


def retry_delay_seconds(policy: dict[str, Any], tries: int) -> float:
    """Seconds before the next try after `tries` of them: one delay for all, or one per try, the last for the rest.

    With a `retry_jitter_factor` the delay is drawn at random around that value.
    """
    delay = policy.get("retry_delay") or 0
    if isinstance(delay, list):
        delay = delay[min(max(tries, 1), len(delay)) - 1] if delay else 0
    seconds = min(max(0.0, float(delay)), LONGEST_DELAY_SECONDS)
    return around(seconds, policy.get("retry_jitter_factor") or 0)


def at(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=min(seconds, LONGEST_DELAY_SECONDS))
