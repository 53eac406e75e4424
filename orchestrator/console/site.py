"""Pages beside the API and the admin: the API's description, and the icon of the site."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#7c3aed"/>
<path d="M8 22V10m0 6h8m0 0l8-6m-8 6l8 6" stroke="#fff" stroke-width="2.5" fill="none" stroke-linecap="round"/>
<circle cx="8" cy="10" r="3" fill="#fff"/><circle cx="8" cy="22" r="3" fill="#fff"/><circle cx="24" cy="10" r="3" fill="#fff"/>
<circle cx="24" cy="22" r="3" fill="#fff"/></svg>
"""


def icon(request: HttpRequest) -> HttpResponse:
    return HttpResponse(ICON, content_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})


def api_description(request: HttpRequest) -> Any:
    """The OpenAPI document. Its library is loaded when somebody asks: most processes never describe the API."""
    from drf_spectacular.views import SpectacularJSONAPIView

    return SpectacularJSONAPIView.as_view()(request)


def api_pages(request: HttpRequest) -> Any:
    """The API's routes to read and to try."""
    from drf_spectacular.views import SpectacularSwaggerView

    return SpectacularSwaggerView.as_view(url_name="openapi")(request)
