"""`/csrf-token`."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.accounts import csrf
from orchestrator.accounts.models import CsrfToken
from orchestrator.core.errors import InvalidRequest, Unprocessable
from orchestrator.core.projection import Projection
from orchestrator.core.routes import route
from orchestrator.core.viewsets import RowViewSet, writes

MAX_CLIENT = 1_000
CSRF_TOKEN = Projection(CsrfToken, {name: name for name in ("id", "created", "updated", "token", "client", "expiration")})


class CsrfTokenViewSet(RowViewSet):
    projection = CSRF_TOKEN

    @writes
    def issue(self, request: Request) -> HttpResponse:
        if not settings.API_CSRF_PROTECTION:
            raise Unprocessable("CSRF protection is disabled.")
        client = request._request.GET.get("client")
        if not client or len(client) > MAX_CLIENT:
            raise InvalidRequest.single("missing", ("query", "client"), "Field required")
        return self.answer(self.row(csrf.issue(client).pk))


urlpatterns = [route("csrf-token", CsrfTokenViewSet, get="issue")]
