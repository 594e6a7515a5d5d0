"""What the pages of a review share: who may open them, what was sent, and how history is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import TextChoices
from django.http import HttpRequest, QueryDict
from django.template.response import TemplateResponse

from audit.admin import zones
from audit.review import MOST_WORDS, PERMISSION, Refused

Choice = TypeVar("Choice", bound=TextChoices)
Deed = Callable[[QueryDict, dict[str, Any]], Any]
"""What a form asks for; it takes what was sent, and who sent it with what they had seen."""


def require_view(request: HttpRequest) -> None:
    """Only for those who may see alerts; what their forms do asks for more."""
    if not request.user.has_perm("audit.view_alert"):
        raise PermissionDenied("Your role does not let you view alerts.")


def require_reviewer(request: HttpRequest) -> str:
    """The name of somebody who may review."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied("Your role does not let you review.")
    assert isinstance(request.user, User), "the admin lets in nobody else"
    return request.user.get_username()


def render(
    request: HttpRequest, site: AdminSite, template: str, context: dict[str, Any], status: int = 200
) -> TemplateResponse:
    """A page of a review, in the zone that its reader chose."""
    zone_name, zone = zones.chosen(request)
    shared = {
        "zone": zone,
        "zone_name": zone_name,
        "may_review": request.user.has_perm(PERMISSION),
        "most_words": MOST_WORDS,
        "typed": request.POST if status != 200 else QueryDict(),
    }
    return TemplateResponse(
        request, template, site.each_context(request) | shared | context, status=status
    )


def do(request: HttpRequest, deeds: dict[str, Deed]) -> str:
    """Do what a form asks for; the text of the refusal, empty where it was done."""
    by = require_reviewer(request)
    deed = deeds.get(request.POST.get("deed", ""))
    try:
        if deed is None:
            raise Refused("There is nothing like that to do here.")
        deed(request.POST, {"by": by, "after": number(request.POST, "after")})
    except Refused as refused:
        return str(refused)
    return ""


# --- values that were sent ---------------------------------------------------------------------


def number(sent: QueryDict, name: str) -> int | None:
    """What a hidden field says that somebody has seen; None where it says nothing."""
    text = sent.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def one_of(choices: type[Choice], value: str) -> Choice:
    """One of the choices. Raises `Refused` for anything else."""
    try:
        return choices(value)
    except ValueError:
        raise Refused(f"Choose one of {', '.join(choices.values)}.") from None


def day(value: str) -> date:
    """A day, as a form writes it. Raises `Refused`."""
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise Refused("Write the due date like 2026-03-01.") from None


def ids(values: Iterable[str]) -> list[UUID]:
    """Ids of events or alerts. Raises `Refused`."""
    try:
        return [UUID(value) for value in values]
    except ValueError:
        raise Refused("That is not the id of an event or an alert.") from None
