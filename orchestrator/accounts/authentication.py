"""Who asks: the holder of the auth string, or of a user's key. Contract: auth_client_behaviour.md, sections 1 and 2.

A key is looked up on every request, so that one that is revoked opens nothing from then on, on any process.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from orchestrator.accounts.models import ApiKey, Scope, digest_of

MAX_CREDENTIALS = 8_192
# How often it is written down that a key was used.
USE_NOTED_EVERY = timedelta(minutes=1)
# Wrong credentials from one address within a minute, before it is told to wait.
MOST_FAILURES = 30
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class Principal:
    """Who asks, and what they may do."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        return scope in self.scopes


EVERYTHING = frozenset(Scope.values)
ANYBODY = Principal("anybody", EVERYTHING)
OPERATOR = Principal("auth string", EVERYTHING)


def required() -> bool:
    return bool(settings.API_AUTH_STRING) or settings.API_KEYS_REQUIRED


def of_request(request: HttpRequest) -> Principal | None:
    """Who the request comes from; None for wrong credentials, and for none where some are required."""
    if not required():
        return ANYBODY
    scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    credentials = credentials.strip()
    if len(credentials) > MAX_CREDENTIALS:
        return None
    match scheme.lower():
        case "basic":
            return OPERATOR if is_auth_string(decoded(credentials)) else None
        case "bearer":
            return of_key(credentials)
    return None


def of_token(token: str | None) -> Principal | None:
    """Who a websocket's token belongs to: the auth string as it is, or a key."""
    if not required():
        return ANYBODY
    if not token:
        return None
    return OPERATOR if is_auth_string(token.encode("utf-8", "surrogatepass")) else of_key(token)


def decoded(credentials: str) -> bytes | None:
    try:
        return base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return None


def is_auth_string(given: bytes | None) -> bool:
    expected = settings.API_AUTH_STRING
    return bool(expected) and given is not None and hmac.compare_digest(given, expected.encode())


def of_key(key: str) -> Principal | None:
    now = timezone.now()
    found = ApiKey.objects.good(now).filter(digest=digest_of(key)).select_related("user").first()
    if found is None:
        return None
    if found.last_used is None or now - found.last_used > USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=found.pk).update(last_used=now)
    return Principal(found.user.get_username(), frozenset(found.scopes) & EVERYTHING)


class Failures:
    """How often each address gave wrong credentials lately; in this process, and bounded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counted: dict[str, tuple[int, float]] = {}

    def note(self, address: str) -> float:
        """Count one; the seconds for which the address should wait, 0 while it has not failed too often."""
        now = time.monotonic()
        with self.lock:
            number, since = self.counted.get(address, (0, now))
            if now - since > WINDOW_SECONDS:
                number, since = 0, now
            if address not in self.counted and len(self.counted) >= MOST_ADDRESSES:
                self.counted.clear()
            self.counted[address] = (number + 1, since)
            return 0.0 if number < MOST_FAILURES else WINDOW_SECONDS - (now - since)


FAILURES = Failures()
