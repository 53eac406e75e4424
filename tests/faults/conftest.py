"""Faults of processes need processes."""

from tests.server.conftest import port, start

__all__ = ["port", "start"]
