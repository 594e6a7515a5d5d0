"""What every request passes through."""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

from audit.context import answering
from audit.patience import was_broken_off


@sync_and_async_middleware
def request_context(get_response):  # type: ignore[no-untyped-def]  # Django gives one of two kinds
    """Let events and log records know the request; answer with its id. Stands first of all."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            with answering(request):
                return _named(request, await get_response(request))

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        with answering(request):
            return _named(request, get_response(request))

    return now


def _named(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.headers["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
    return response


class BoundedPages(MiddlewareMixin):
    """Says what to do where a page was broken off because the database took too long for it."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return render(request, "503.html", status=503) if was_broken_off(exception) else None
