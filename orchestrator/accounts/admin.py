"""Users, groups, keys and clients' CSRF tokens."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from orchestrator.accounts.models import ApiKey, CsrfToken
from orchestrator.core.modeladmin import ReadOnlyAdmin, RowAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


@admin.register(CsrfToken)
class CsrfTokenAdmin(ReadOnlyAdmin):
    list_display = ("client", "expiration")
    exclude = ("token",)


@admin.register(ApiKey)
class ApiKeyAdmin(RowAdmin):
    """Keys are made and revoked here, never changed; what a key is is shown once, when it is made."""

    list_display = ("name", "user", "shown", "scopes", "state", "expires", "last_used")
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "shown")
    actions = ("revoke",)
    fields = ("user", "name", "scopes", "expires", "shown", "state", "last_used", "created")
    readonly_fields = ("shown", "state", "last_used", "created")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, row: Any, form: Any, change: bool) -> None:
        key = row.make()
        row.save(force_insert=True)
        messages.warning(request, f"The key is {key} – it is shown only now.")

    @display(description="State", label={"good": "success", "revoked": "danger", "expired": "warning"})
    def state(self, key: ApiKey) -> str:
        if key.revoked:
            return "revoked"
        return "expired" if key.expires and key.expires < timezone.now() else "good"

    @admin.action(description="Revoke", permissions=["delete"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self.do_each(request, keys, lambda key: key.revoke(), "keys revoked")
