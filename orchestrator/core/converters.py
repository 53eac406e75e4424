"""Path converters."""

from __future__ import annotations

from uuid import UUID


class WireIdConverter:
    """A UUID in any case, with or without hyphens. Anything else is no match, and so a 404."""

    regex = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"

    def to_python(self, value: str) -> UUID:
        return UUID(value)

    def to_url(self, value: UUID) -> str:
        return str(value)
