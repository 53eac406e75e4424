"""Block types, schemas and documents: secrets stay secret, blocks of blocks are put together."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestrator.blocks.models import BlockDocument, BlockType
from tests.api import call, get, post

pytestmark = pytest.mark.django_db


def block_type(slug: str = "login") -> str:
    status, made = post("/block_types/", {"name": slug.title(), "slug": slug, "logo_url": " https://example.com/x.png "})
    assert (status, made["is_protected"], made["logo_url"]) == (201, False, "https://example.com/x.png")
    return str(made["id"])


def schema(type_id: str, slug: str = "login", secrets: list[str] | None = None, **more: Any) -> str:
    fields = {
        "title": slug.title(),
        "type": "object",
        "properties": {"user": {"type": "string"}, "password": {"type": "string"}},
        "block_type_slug": slug,
        "block_schema_references": {},
        "secret_fields": ["password"] if secrets is None else secrets,
        **more.pop("fields", {}),
    }
    status, made = post("/block_schemas/", {"fields": fields, "block_type_id": type_id, "version": "3.8.8", **more})
    assert status == 201, made
    assert made["checksum"].startswith("sha256:")
    return str(made["id"])


def document(name: str | None, data: Any, type_id: str, schema_id: str, **more: Any) -> tuple[int, Any]:
    return post("/block_documents/", {"name": name, "data": data, "block_type_id": type_id, "block_schema_id": schema_id, **more})


@pytest.fixture
def login() -> tuple[str, str]:
    type_id = block_type()
    return type_id, schema(type_id)


def test_a_secret_is_shown_to_who_asks_for_it_alone(login: tuple[str, str]) -> None:
    status, made = document("prod", {"user": "ada", "password": "hush"}, *login)
    assert (status, made["data"]) == (201, {"user": "ada", "password": "********"})
    assert (made["block_type_name"], made["block_schema"]["block_type"]["slug"]) == ("Login", "login")
    assert get(f"/block_documents/{made['id']}")[1]["data"]["password"] == "********"
    assert get(f"/block_documents/{made['id']}?include_secrets=true")[1]["data"]["password"] == "hush"
    assert get(f"/block_documents/{made['id']}?include_secrets=perhaps")[0] == 422
    by_name = "/block_types/slug/login/block_documents/name/prod"
    assert get(by_name)[1]["data"]["password"] == "********"
    assert get(f"{by_name}?include_secrets=true")[1]["data"]["password"] == "hush"
    assert post("/block_documents/filter", {"include_secrets": True})[1][0]["data"]["password"] == "hush"
    with connection.cursor() as cursor:
        cursor.execute("SELECT encrypted FROM blocks_blockdocument")
        assert "hush" not in str(cursor.fetchall())


def test_a_block_is_changed_in_part_or_whole(login: tuple[str, str]) -> None:
    key = document("prod", {"user": "ada", "password": "hush"}, *login)[1]["id"]

    def stored() -> Any:
        return get(f"/block_documents/{key}?include_secrets=true")[1]["data"]

    assert call("PATCH", f"/block_documents/{key}", {"data": {"user": "bob", "password": "********"}})[0] == 204
    assert stored() == {"user": "bob", "password": "hush"}
    call("PATCH", f"/block_documents/{key}", {"data": {"user": "eve"}, "merge_existing_data": False})
    assert stored() == {"user": "eve"}
    assert call("PATCH", f"/block_documents/{key}", {"name": "other"})[0] == 422
    other = schema(block_type("other"), "other")
    status, body = call("PATCH", f"/block_documents/{key}", {"data": {}, "block_schema_id": other})
    assert (status, body["detail"]) == (400, "Must migrate block document to a block schema of the same block type.")
    assert call("PATCH", f"/block_documents/{uuid4()}", {"data": {}})[0] == 404


def test_blocks_in_blocks_are_shown_as_one(login: tuple[str, str]) -> None:
    inner = document("inner", {"user": "ada", "password": "hush"}, *login)[1]["id"]
    type_id = block_type("site")
    site = (type_id, schema(type_id, "site", []))
    middle = document("middle", {"login": {"$ref": {"block_document_id": inner}}, "n": 1}, *site)[1]["id"]
    outer = document("outer", {"site": {"$ref": {"block_document_id": middle}}, "deep": {"x": {"$ref": 1}}}, *site)[1]
    assert outer["data"] == {"deep": {"x": {"$ref": 1}}, "site": {"n": 1, "login": {"user": "ada", "password": "********"}}}
    reference = outer["block_document_references"]["site"]["block_document"]
    assert (reference["name"], reference["block_type"]["slug"]) == ("middle", "site")
    assert reference["block_document_references"]["login"]["block_document"]["id"] == inner
    status, body = call("PATCH", f"/block_documents/{middle}", {"data": {"up": {"$ref": {"block_document_id": outer["id"]}}}})
    assert status == 400
    assert "cycle" in body["detail"]
    assert call("DELETE", f"/block_documents/{inner}")[0] == 204
    assert get(f"/block_documents/{outer['id']}")[1]["data"]["site"] == {"n": 1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("reference", "status"), [({}, 400), ({"block_document_id": "x"}, 400), ({"block_document_id": str(uuid4())}, 409)]
)
def test_a_reference_to_nothing_is_refused_and_nothing_is_written(
    login: tuple[str, str], reference: dict[str, str], status: int
) -> None:
    assert document("prod", {"login": {"$ref": reference}}, *login)[0] == status
    assert not BlockDocument.objects.exists()


def test_names_are_taken_once_and_plain(login: tuple[str, str]) -> None:
    assert document("prod", {}, *login)[0] == 201
    assert document("prod", {}, *login) == (409, {"detail": "Block already exists"})
    for name in (None, "", "Pröd", "a b"):
        assert document(name, {}, *login)[0] == 422
    assert document("x", {}, str(uuid4()), login[1])[0] == 404
    assert document("x", {}, login[0], str(uuid4()))[0] == 409


def test_anonymous_blocks_are_listed_to_who_asks_for_them(login: tuple[str, str]) -> None:
    anonymous = document(None, {}, *login, is_anonymous=True)[1]
    named = document("prod", {}, *login)[1]
    assert anonymous["name"].startswith("anonymous-")

    def listed(**asked: Any) -> set[str]:
        found = {item["id"] for item in post("/block_documents/filter", asked)[1]}
        assert post("/block_documents/count", asked)[1] == len(found)
        return found

    assert listed() == {named["id"]}
    assert listed(block_documents={"name": {"like_": "o"}}) == {named["id"]}
    assert listed(block_documents={"is_anonymous": {"eq_": True}}) == {anonymous["id"]}
    assert listed(block_documents={"is_anonymous": None}) == {anonymous["id"], named["id"]}
    assert listed(block_types={"slug": {"any_": ["login"]}}) == {named["id"]}
    assert listed(block_types={"slug": {"any_": ["none"]}}) == set()
    assert listed(block_schemas={"version": {"any_": ["3.8.8"]}}) == {named["id"]}
    assert [item["id"] for item in get("/block_types/slug/login/block_documents")[1]] == [named["id"]]


def test_a_schema_is_made_once_per_version(login: tuple[str, str]) -> None:
    made = get(f"/block_schemas/{login[1]}")[1]
    assert made["fields"]["block_schema_references"] == {}
    again = {"fields": made["fields"], "block_type_id": login[0], "version": "3.8.8"}
    assert post("/block_schemas/", again)[0] == 200
    newer = post("/block_schemas/", again | {"version": "4.0.0", "capabilities": ["fly", "swim"]})[1]
    assert newer["checksum"] == made["checksum"]
    assert get(f"/block_schemas/checksum/{made['checksum'].replace(':', '%3A')}")[1]["id"] == newer["id"]
    assert get(f"/block_schemas/checksum/{made['checksum']}?version=3.8.8")[1]["id"] == made["id"]
    assert get("/block_schemas/checksum/sha256:0")[0] == 404
    assert {"fly", "swim"} <= set(get("/block_capabilities/")[1])
    asked = {"block_schemas": {"block_capabilities": {"all_": ["fly", "swim"]}}}
    assert [item["id"] for item in post("/block_schemas/filter", asked)[1]] == [newer["id"]]
    assert post("/block_types/filter", asked)[1][0]["slug"] == "login"
    refused = {"block_schema_references": {"x": {"block_type_slug": "none", "block_schema_checksum": "sha256:1"}}}
    assert post("/block_schemas/", {"fields": refused, "block_type_id": login[0]})[0] == 409
    assert post("/block_schemas/", {"fields": {}, "block_type_id": str(uuid4())})[0] == 404


def test_system_types_are_there_and_protected() -> None:
    secret = get("/block_types/slug/secret")[1]
    assert secret["is_protected"]
    assert call("DELETE", f"/block_types/{secret['id']}") == (403, {"detail": "protected block types cannot be deleted."})
    of_secret = post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [secret["id"]]}}})[1][0]
    assert call("DELETE", f"/block_schemas/{of_secret['id']}")[0] == 403
    names = [item["name"] for item in post("/block_types/filter")[1]]
    assert names == sorted(names) and {"Secret", "Webhook", "Local File System"} <= set(names)
    BlockType.objects.all().delete()
    assert post("/block_types/install_system_block_types") == (200, None)
    assert get("/block_types/slug/webhook")[0] == 200


def test_types_are_named_by_their_slug(login: tuple[str, str]) -> None:
    assert post("/block_types/", {"name": "Login", "slug": "login"})[0] == 409
    assert post("/block_types/", {"name": "PREFECT thing", "slug": "p"})[0] == 403
    assert post("/block_types/", {"name": "x", "slug": "No Slug"})[0] == 422
    before = get(f"/block_types/{login[0]}")[1]
    assert call("PATCH", f"/block_types/{login[0]}", {"logo_url": before["logo_url"]})[0] == 204
    assert get(f"/block_types/{login[0]}")[1]["updated"] == before["updated"]
    assert call("PATCH", f"/block_types/{login[0]}", {"description": "new"})[0] == 204
    assert call("PATCH", f"/block_types/{login[0]}", {"slug": "new"})[0] == 422
    document("prod", {}, *login)
    assert call("DELETE", f"/block_types/{login[0]}")[0] == 204
    assert not BlockDocument.objects.exists()


def test_results_are_kept_where_an_operator_chose(login: tuple[str, str]) -> None:
    assert get("/admin/storage")[1] == {"default_result_storage_block_id": None}
    cannot = document("prod", {}, *login)[1]["id"]
    local = get("/block_types/slug/local-file-system")[1]["id"]
    of_local = post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [local]}}})[1][0]["id"]
    can = document("results", {"basepath": "/tmp"}, local, of_local)[1]["id"]
    assert call("PUT", "/admin/storage", {"default_result_storage_block_id": cannot})[0] == 422
    assert call("PUT", "/admin/storage", {"default_result_storage_block_id": str(uuid4())})[0] == 404
    assert call("PUT", "/admin/storage", {"default_result_storage_block_id": can})[0] == 200
    assert get("/admin/storage")[1] == {"default_result_storage_block_id": can}
    call("DELETE", f"/block_documents/{can}")
    assert get("/admin/storage")[1] == {"default_result_storage_block_id": None}
    assert call("DELETE", "/admin/storage")[0] == 204


def test_a_list_of_blocks_costs_the_same_number_of_queries_whatever_its_length(login: tuple[str, str]) -> None:
    counts = []
    for number in (1, 12):
        for i in range(number):
            document(f"d-{number}-{i}", {}, *login)
        with CaptureQueriesContext(connection) as queries:
            post("/block_documents/filter")
        counts.append(len(queries))
    assert counts == [2, 2]


def test_keys_can_be_changed_and_lost_ones_are_named(login: tuple[str, str], settings: Any) -> None:
    """I05."""
    key = document("prod", {"password": "hush"}, *login)[1]["id"]
    old, new = settings.ENCRYPTION_KEYS, Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *old]
    assert get(f"/block_documents/{key}?include_secrets=true")[1]["data"] == {"password": "hush"}
    call_command("rotate_secrets")
    settings.ENCRYPTION_KEYS = [new]
    assert get(f"/block_documents/{key}?include_secrets=true")[1]["data"] == {"password": "hush"}
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CommandError, match="not among"):
        call_command("rotate_secrets")
