"""Keys of users: who comes in with one, what its scopes open, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from flowruns.models import Flow
from orchestrator.accounts.authentication import MOST_FAILURES, Failures, of_token
from orchestrator.accounts.models import ApiKey, Scope
from orchestrator.core.middleware import ApiMiddleware
from tests.api import call

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def keys_required(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.API_KEYS_REQUIRED = True


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("ada", password=None)


def key_of(owner: User, *scopes: str, **columns: Any) -> tuple[str, ApiKey]:
    row = ApiKey(user=owner, name="laptop", scopes=list(scopes or Scope.values), **columns)
    key = row.make()
    row.save(force_insert=True)
    return key, row


def asked(key: str | None, path: str = "/flows/filter", method: str = "POST", body: Any = None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return call(method, path, {} if body is None else body, **headers)[0]


def test_a_good_key_opens_the_api_and_its_use_is_noted(owner: User) -> None:
    key, row = key_of(owner)
    assert asked(None) == 401
    assert asked("orck_guess") == 401
    assert asked(key, "/flows/", body={"name": "etl"}) == 201
    row.refresh_from_db()
    assert row.last_used is not None
    assert timezone.now() - row.last_used < timedelta(minutes=1)
    assert key not in str(ApiKey.objects.values().get())


def test_a_key_that_ended_opens_nothing(owner: User) -> None:
    expired, _ = key_of(owner, expires=timezone.now() - timedelta(seconds=1))
    revoked, row = key_of(owner)
    assert asked(revoked) == 200
    row.revoke()
    assert (asked(expired), asked(revoked)) == (401, 401)
    good, _ = key_of(owner, expires=timezone.now() + timedelta(days=1))
    assert asked(good) == 200
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert asked(good) == 401


def test_the_auth_string_and_keys_work_side_by_side(owner: User, settings: Any) -> None:
    settings.API_AUTH_STRING, settings.API_KEYS_REQUIRED = "admin:secret", False
    key, _ = key_of(owner)
    assert asked(key) == 200
    assert call("POST", "/flows/filter", {}, authorization="Basic YWRtaW46c2VjcmV0")[0] == 200
    assert call("POST", "/flows/filter", {}, authorization="Basic " + key)[0] == 401


def routes(patterns: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        address = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if address.startswith("api/"):
                yield from routes(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern) and address.startswith("api/"):
            yield address, pattern.callback


# Everything that may be posted and yet changes nothing, by the last words of its address.
LOOKING = {
    "filter", "count", "paginate", "history", "lateness", "validate", "next-runs", "count-deployments",
    "count-task-runs", "dashboard", "counts", "{key}", "count-by",
}  # fmt: skip


def test_a_key_that_may_only_read_changes_nothing_on_any_route(owner: User) -> None:
    key, _ = key_of(owner, "read")
    shut, opened = [], []
    for address, view in routes():
        path = "/" + re.sub(r"<[^>]*>", str(uuid4()), address.removeprefix("api/"))
        for method in getattr(view, "actions", {}):
            if method == "get":
                continue
            status = asked(key, path, method.upper())
            (shut if status == 403 else opened).append((method, address))
    assert len(shut) > 80
    for method, address in opened:
        last = address.rstrip("/").rsplit("/", 1)[-1]
        assert method == "post", address
        assert last in LOOKING or "count-by" in address or "count_by" in address, address
    assert not Flow.objects.exists()


def test_looking_needs_the_scope_for_it(owner: User) -> None:
    reader, _ = key_of(owner, "read")
    writer, _ = key_of(owner, "write")
    assert (asked(reader), asked(writer)) == (200, 403)
    assert (asked(reader, "/admin/version", "GET"), asked(writer, "/admin/version", "GET")) == (200, 403)
    assert (asked(reader, "/flows/", body={"name": "a"}), asked(writer, "/flows/", body={"name": "a"})) == (403, 201)


def test_secrets_of_blocks_need_a_scope_of_their_own(owner: User) -> None:
    reader, _ = key_of(owner, "read", "write")
    trusted, _ = key_of(owner, "read", "secrets")
    path = "/block_documents/filter"
    assert asked(reader, path) == 200
    assert asked(reader, path, body={"include_secrets": True}) == 403
    assert asked(trusted, path, body={"include_secrets": True}) == 200
    single = f"/block_documents/{uuid4()}?include_secrets=true"
    assert (asked(reader, single, "GET"), asked(trusted, single, "GET")) == (403, 404)


def test_a_websocket_takes_the_same_keys(owner: User, settings: Any) -> None:
    key, row = key_of(owner, "read")
    found = of_token(key)
    assert found is not None
    assert (found.name, found.may("read"), found.may("write")) == ("ada", True, False)
    row.revoke()
    assert of_token(key) is None
    assert of_token("") is None


def test_who_guesses_is_told_to_wait_and_who_knows_is_not(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = Failures()
    gate = ApiMiddleware(lambda request: None)  # type: ignore[arg-type,return-value]
    gate.failures = failures
    monkeypatch.setattr("orchestrator.accounts.authentication.FAILURES", failures)
    client = Client()  # Its middleware is made at its first request, with the counter above.
    statuses = [
        client.post("/api/flows/filter", "{}", "application/json", headers={"authorization": f"Bearer guess-{i}"}).status_code
        for i in range(MOST_FAILURES + 2)
    ]
    assert statuses[:MOST_FAILURES] == [401] * MOST_FAILURES
    assert statuses[-1] == 429
    key, _ = key_of(owner)
    good = client.post("/api/flows/filter", "{}", "application/json", headers={"authorization": f"Bearer {key}"})
    assert good.status_code == 200


def test_a_key_is_made_in_the_admin_shown_once_and_revoked(admin_client: Client, owner: User) -> None:
    form = {"user": owner.pk, "name": "ci", "scopes": '["read"]', "expires_0": "", "expires_1": ""}
    page = admin_client.post("/admin/accounts/apikey/add/", form, follow=True)
    row = ApiKey.objects.get()
    text = page.content.decode()
    key = text[text.index("orck_") :].split()[0].strip(".,–")
    assert key.startswith(row.shown)
    assert asked(key) == 200
    assert key not in admin_client.get("/admin/accounts/apikey/").content.decode()
    assert key not in admin_client.get(f"/admin/accounts/apikey/{row.pk}/change/").content.decode()
    admin_client.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": str(row.pk)})
    assert asked(key) == 401


def test_keys_are_made_listed_and_revoked_on_the_command_line(owner: User) -> None:
    out = StringIO()
    call_command("api_key", "create", "ada", "ci", "--scope", "read", "--days", "7", stdout=out, stderr=StringIO())
    key = out.getvalue().strip()
    assert asked(key) == 200
    listed = StringIO()
    call_command("api_key", "list", stdout=listed)
    assert key not in listed.getvalue()
    assert key[:12] in listed.getvalue()
    call_command("api_key", "revoke", key[:12], stdout=StringIO())
    assert asked(key) == 401
    for arguments in (("create", "nobody", "x"), ("revoke", key[:12]), ("create", "ada", "x", "--days", "0")):
        with pytest.raises(CommandError):
            call_command("api_key", *arguments, stdout=StringIO(), stderr=StringIO())
