"""CSRF tokens of API clients. Contract: auth_client_behaviour.md, section 6."""

from __future__ import annotations

import hmac
import secrets

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from orchestrator.accounts.models import CsrfToken


def issue(client: str) -> CsrfToken:
    """A fresh token for `client`, in place of the one it had. Expired ones of others go too."""
    now = timezone.now()
    CsrfToken.objects.filter(expiration__lt=now).delete()
    token, _ = CsrfToken.objects.update_or_create(
        client=client,
        defaults={
            "token": secrets.token_hex(32),
            "expiration": now + settings.API_CSRF_TOKEN_LIFETIME,
            "updated": now,
        },
    )
    return token


def check(request: HttpRequest) -> str | None:
    """What is wrong with the request's token; None when nothing is."""
    token = request.META.get("HTTP_PREFECT_CSRF_TOKEN")
    client = request.META.get("HTTP_PREFECT_CSRF_CLIENT")
    if not token:
        return "Missing CSRF token."
    if not client:
        return "Missing client identifier."
    kept = CsrfToken.objects.filter(client=client, expiration__gt=timezone.now()).values_list("token", flat=True).first()
    if kept is None or not hmac.compare_digest(kept.encode(), token.encode()):
        return "Invalid CSRF token or client identifier."
    return None
