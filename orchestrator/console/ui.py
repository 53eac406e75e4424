"""The web UI of the reference, which its pip package carries, where that package is installed.

Contract: ui_and_misc_endpoints.md, section 2. Its builds hold a placeholder for the path that they are served under.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, re_path
from django.utils._os import safe_join
from django.views.decorators.http import require_safe

PLACEHOLDER = b"/PREFECT_UI_SERVE_BASE_REPLACE_PLACEHOLDER"
COOKIE = "prefect_ui_version"
DEFAULT = "v2"
# Paths that are never a page of a UI, whatever they name: the API answers JSON alone.
NOT_OURS = "(?!/|api(?:/|$)|admin(?:/|$)|static/)"
TEXT = {".html", ".js", ".css", ".svg", ".json", ".webmanifest", ".txt"}


class Temporary(HttpResponseRedirect):
    status_code = 307


@dataclass(frozen=True)
class Build:
    """One compiled UI: where its files are, and the path it is served under."""

    folder: Path
    base: str

    def file(self, name: str) -> Path:
        """The file of this name; the first page for what is a page of the UI, and not a file."""
        index = self.folder / "index.html"
        try:
            found = Path(safe_join(self.folder, name))
        except (SuspiciousFileOperation, ValueError):
            return index
        return found if name and found.is_file() else index


@cache
def builds() -> dict[str, Build]:
    """The UIs that are installed, by version. The package is looked for, not loaded."""
    package = find_spec("prefect") if settings.UI_ENABLED else None
    if package is None or package.origin is None:
        return {}
    server = Path(package.origin).parent / "server"
    known = {"v1": Build(server / "ui", ""), "v2": Build(server / "ui-v2", "/v2")}
    return {version: build for version, build in known.items() if (build.folder / "index.html").is_file()}


def served(build: Build, name: str) -> HttpResponse:
    file = build.file(name)
    content = file.read_bytes()
    if file.suffix in TEXT:
        content = content.replace(PLACEHOLDER, build.base.encode())
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    response = HttpResponse(content, content_type=kind)
    # Files of the build carry their content in their name; the page that names them does not.
    kept = "public, max-age=31536000, immutable" if "/assets/" in file.as_posix() else "no-cache"
    response["Cache-Control"] = kept
    return response


@require_safe
def page(request: HttpRequest, version: str, name: str = "") -> HttpResponse:
    return served(builds()[version], name)


@require_safe
def first_page(request: HttpRequest) -> HttpResponse:
    """The UI that the browser used last, or the operators' console where there is none."""
    chosen = request.COOKIES.get(COOKIE, DEFAULT)
    version = chosen if chosen in builds() else next(iter(reversed(builds())), None)
    if version is None:
        return HttpResponseRedirect("/admin/")
    return page(request, version) if not builds()[version].base else Temporary(builds()[version].base + "/")


@require_safe
def ui_settings(request: HttpRequest) -> JsonResponse:
    """What the UI asks first: where the API is, and how to come in."""
    found: dict[str, Any] = {
        "api_url": settings.UI_API_URL or request.build_absolute_uri("/api"),
        "csrf_enabled": settings.API_CSRF_PROTECTION,
        "auth": "BASIC" if settings.API_AUTH_STRING else None,
        "flags": [],
        "default_ui": DEFAULT if DEFAULT in builds() else "v1",
        "available_uis": [*builds()],
    }
    found |= {f"{version}_base_url": build.base or "/" for version, build in builds().items()}
    return JsonResponse(found)


def urls() -> list[URLPattern]:
    """Where the UIs are; the last of all addresses, for the first of them takes every path that is left."""
    patterns = [path("ui-settings", ui_settings)]
    for version, build in sorted(builds().items(), reverse=True):
        base = build.base.lstrip("/")
        prefix = f"{base}/" if base else ""
        patterns += [
            path(f"{prefix}ui-settings", ui_settings),
            re_path(rf"^{prefix}(?P<name>{NOT_OURS}.+)$", page, {"version": version}),
        ]
        if base:
            patterns += [path(prefix, page, {"version": version}), path(base, lambda request, to=build.base: Temporary(f"{to}/"))]
    return patterns
