"""Waits drawn at random, so that those who wait together do not come back together. Pure."""

from __future__ import annotations

from math import log, log2
from random import random


def around(mean: float, factor: float) -> float:
    """A draw from the exponential distribution of this mean, cut to a band that keeps its median near the mean.

    The band is [mean·log2(2^k / (2^k − 1)), mean·k] with k = 1 + factor (runs_states_orchestration.md, section 5.3).
    """
    if mean <= 0 or factor <= 0:
        return mean
    k = min(1 + factor, 64.0)
    shortest, longest = mean * log2(2**k / (2**k - 1)), mean * k
    return min(max(-mean * log(1 - random()), shortest), longest)
