"""How DRF reads and writes bodies: JSON, and nothing else."""

from __future__ import annotations

from typing import Any

from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from orchestrator.core import json_body


class WireRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return json_body.dump(data)


class WireParser(BaseParser):
    """Every body is JSON, whatever its Content-Type says: old clients send none."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return json_body.parse(stream.read())
