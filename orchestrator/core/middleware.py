"""The gate of /api: CORS, CSRF tokens, authentication, API version, errors, compression. Contract: conventions.md, section 7."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from orchestrator.core.errors import answer, reply

GetResponse = Callable[[HttpRequest], HttpResponse]

VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
OPEN_PATHS = frozenset({"/api/health", "/api/ready"})  # exact, and GET alone
UNVERSIONED_PATHS = frozenset({"/api/health", "/api/version"})
COMPRESS_FROM_BYTES = 500
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ApiMiddleware:
    """Answers everything under /api by itself; every other path goes on to the site behind it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.check_csrf = import_string("orchestrator.accounts.csrf.check")
        self.principal_of = import_string("orchestrator.accounts.authentication.of_request")
        self.failures = import_string("orchestrator.accounts.authentication.FAILURES")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith("/api/"):
            return self.get_response(request)
        try:
            request.get_host()
            response = self.answered(request)
        except DisallowedHost:
            response = reply(400, {"detail": "Invalid Host header."})
        except (SuspiciousOperation, BadRequest, RequestDataTooBig) as error:
            response = reply(413 if isinstance(error, RequestDataTooBig) else 400, {"detail": "Bad request."})
        response["X-Content-Type-Options"] = "nosniff"
        if "HTTP_ORIGIN" in request.META and request.method != "OPTIONS":
            response["Access-Control-Allow-Origin"] = settings.API_CORS_ALLOWED_ORIGINS
        return compressed(request, response)

    def refused(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to a request that may not go further; None for one that may."""
        if request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META:
            return preflight(request)
        if settings.API_CSRF_PROTECTION and request.method in CHANGES and (text := self.check_csrf(request)):
            return reply(403, {"detail": text})
        if not is_open(request):
            request.principal = self.principal_of(request)  # type: ignore[attr-defined]
            if request.principal is None:  # type: ignore[attr-defined]
                return self.unauthorised(request)
        if request.path_info not in UNVERSIONED_PATHS and (text := version_fault(request)):
            return reply(400, {"detail": text})
        return None

    def unauthorised(self, request: HttpRequest) -> HttpResponse:
        """Who guesses often is told to wait; who knows the right credentials is not asked to."""
        if "HTTP_AUTHORIZATION" in request.META:
            wait = self.failures.note(request.META.get("REMOTE_ADDR", ""))
            if wait > 0:
                response = reply(429, {"detail": "Too many wrong credentials."})
                response["Retry-After"] = str(round(wait) + 1)
                return response
        return reply(401, {"exception_message": "Unauthorized"})

    def answered(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.refused(request) or self.handled(request)
        except (SuspiciousOperation, BadRequest, RequestDataTooBig):
            raise
        except Exception as error:
            # DRF answers what its handlers raise; this is for the gate itself, and for views without DRF.
            return answer(Http404() if isinstance(error, Http404) else error, {}) or reply(500, {})

    def handled(self, request: HttpRequest) -> HttpResponse:
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return redirected(request) or reply(404, {"detail": "Not Found"})
        request.resolver_match = match
        if not permitted(request, match.func):
            return reply(403, {"detail": "Forbidden"})
        response = match.func(request, *match.args, **match.kwargs)
        if hasattr(response, "render"):
            response.render()
        return response


def redirected(request: HttpRequest) -> HttpResponse | None:
    """A 307 to the path with its slash put right, when that path exists."""
    path = request.path_info
    other = path[:-1] if path.endswith("/") else path + "/"
    try:
        resolve(other)
    except Resolver404:
        return None
    query = request.META.get("QUERY_STRING", "")
    response = HttpResponse(status=307)
    target = request.path[: len(request.path) - len(path)] + other
    response["Location"] = request.build_absolute_uri(target.replace("//", "/")) + (f"?{query}" if query else "")
    return response


def is_open(request: HttpRequest) -> bool:
    """Whether the path needs no credentials. As it was sent: in another spelling, a proxy may take it for another path."""
    return request.method == "GET" and request.META.get("RAW_PATH", request.path_info) in OPEN_PATHS


def permitted(request: HttpRequest, view: Any) -> bool:
    """Whether who asks may have the handler: reading needs one scope, everything else another."""
    principal = getattr(request, "principal", None)
    if principal is None or request.method in SAFE:
        return principal is None or principal.may("read")
    action = getattr(view, "actions", {}).get((request.method or "").lower(), "")
    reads = action in getattr(getattr(view, "cls", None), "reads", ())
    return bool(principal.may("read" if reads else "write"))


def version_fault(request: HttpRequest) -> str | None:
    """What is wrong with the client's API version; None when nothing is."""
    version = request.META.get("HTTP_X_PREFECT_API_VERSION")
    if not version:
        return None
    found = VERSION.fullmatch(version)
    if found is None:
        return f"Invalid X-PREFECT-API-VERSION header format.Expected header in format 'x.y.z' but received {version[:200]}"
    if tuple(map(int, found.groups())) < settings.API_OLDEST_VERSION:
        oldest = ".".join(map(str, settings.API_OLDEST_VERSION))
        return f"The request specified API version {version} but this server requires version {oldest} or higher."
    return None


def preflight(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("OK", content_type="text/plain")
    response["Access-Control-Allow-Origin"] = settings.API_CORS_ALLOWED_ORIGINS
    response["Access-Control-Allow-Methods"] = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    response["Access-Control-Allow-Headers"] = request.META.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "*")
    response["Access-Control-Max-Age"] = "600"
    return response


def compressed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """`response` gzipped when the client takes that and it is worth it. The fastest level: pages are read once."""
    if "gzip" not in request.META.get("HTTP_ACCEPT_ENCODING", "") or response.streaming:
        return response
    if len(response.content) < COMPRESS_FROM_BYTES or response.has_header("Content-Encoding"):
        return response
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    response.content = packer.compress(response.content) + packer.flush()
    response["Content-Encoding"] = "gzip"
    response["Content-Length"] = str(len(response.content))
    response["Vary"] = "Accept-Encoding"
    return response
