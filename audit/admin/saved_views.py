"""Views of the list under a name: those that come with the portal, one's own, and shared ones.

Opening one is a search and recorded as such; that somebody keeps or renames one tells nothing of
anybody's data, so it makes no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from audit.admin import columns, groups
from audit.admin.histogram import stack_of
from audit.admin.links import SHOWN, events_url, pairs, to_list
from audit.enums import AuditAction, PortalAction
from audit.filters import AuditEventFilter, BadFilter
from audit.models import SavedView
from audit.roles import ROLES

Pairs = list[tuple[str, str]]


# --- those that come with the portal -------------------------------------------------------------


def _only(*actions: AuditAction | PortalAction, **besides: str) -> Pairs:
    return [*(("action", action.value) for action in actions), *besides.items()]


def included(now: datetime) -> dict[str, Pairs]:
    """The views that come with the portal: name and filter. `now` says which day is today, UTC."""
    a = AuditAction
    return {
        "Failed sign-ins today": _only(a.USER_LOGIN_FAILED, occurred_after=f"{now:%Y-%m-%d}"),
        "Denied access": _only(a.ACCESS_DENIED),
        "Privilege changes": _only(a.PERMISSION_CHANGED, a.ROLE_ASSIGNED, a.ROLE_REVOKED),
        "Cardholder data viewed": _only(a.PROVIDER_ACCOUNT_VIEWED, a.PROVIDER_TRANSACTION_VIEWED),
        "MFA disabled": _only(a.USER_MFA_DISABLED),
        # No event says that an export was a mass one: who exported how often tells.
        "Mass exports": _only(
            a.DATA_EXPORTED,
            PortalAction.PORTAL_EVENTS_EXPORTED,
            occurred_after="-7d",
            group_by="user_id",
        ),
        "Open attempts": _only(attempt="open"),
    }


# --- the bar over the list -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A view as the bar offers it; `note` says where it comes from."""

    name: str
    url: str
    note: str
    is_current: bool


def bar(user: Any, shown: Pairs | None = None) -> dict[str, Any]:
    """What the bar of views offers a user, and what the forms to keep and change one's own need.

    `shown` is what the list shows now, as its URL says it; None where there is no list.
    """
    seen = list(visible_to(user))
    return {
        "views": list(_links(seen, user, None if shown is None else sorted(shown))),
        "own_views": [view for view in seen if view.owner_id == user.pk],
        "view_query": urlencode(shown or []),
        "view_roles": list(ROLES),
    }


def visible_to(user: Any) -> QuerySet[SavedView]:
    """A user's own views and those shared with a role of theirs; a superuser has every role."""
    shared = Q(role__isnull=False) if user.is_superuser else Q(role__in=user.groups.all())
    return SavedView.objects.filter(Q(owner=user) | shared).select_related("owner", "role")


def _links(seen: list[SavedView], user: Any, shown: Pairs | None) -> Iterator[Link]:
    for name, kept in included(datetime.now(UTC)).items():
        yield Link(name, events_url(kept), "comes with the portal", sorted(kept) == shown)
    for view in seen:
        kept = parse_qsl(view.query)
        yield Link(view.name, events_url(kept), _note(view, user), sorted(kept) == shown)


def _note(view: SavedView, user: Any) -> str:
    if view.owner_id != user.pk:
        return f"shared by {view.owner.get_username()}"
    return f"yours, shared with {view.role.name}" if view.role else "yours alone"


# --- keeping, changing, deleting -----------------------------------------------------------------


class ViewForm(forms.ModelForm):
    """The name of a view and the role it is shared with, by the role's name."""

    role = forms.ModelChoiceField(
        Group.objects.filter(name__in=ROLES), to_field_name="name", required=False
    )

    class Meta:
        model = SavedView
        fields: tuple[str, ...] = ("name", "role")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        same = SavedView.objects.filter(owner_id=self.instance.owner_id, name=name)
        if same.exclude(pk=self.instance.pk).exists():
            raise ValidationError(f"You have a view “{name}” already.")
        return name


class NewViewForm(ViewForm):
    """And what it shows, as the list's URL says it: checked by the list's own filter."""

    class Meta(ViewForm.Meta):
        fields = ("name", "role", "query")

    def clean_query(self) -> str:
        given = QueryDict(self.cleaned_data["query"])
        try:
            AuditEventFilter(given, besides=SHOWN).events()
            columns.chosen(given)
            groups.check(given)
            stack_of(given)
        except BadFilter as error:
            raise ValidationError(str(error)) from None
        return urlencode(pairs(given))


_staff_may = permission_required("audit.view_auditevent", raise_exception=True)


@require_POST
@_staff_may
def save(request: HttpRequest) -> HttpResponse:
    """Keep what the list shows under a name."""
    form = NewViewForm(request.POST, instance=SavedView(owner=_member(request)))
    return _kept(request, form, "Saved “{}”.", otherwise=request.POST.get("query", ""))


@require_POST
@_staff_may
def change(request: HttpRequest, view_id: int) -> HttpResponse:
    """Give one's own view another name, or share it with another role."""
    view = get_object_or_404(SavedView, pk=view_id, owner=_member(request))
    shown = view.query
    return _kept(request, ViewForm(request.POST, instance=view), "Changed “{}”.", otherwise=shown)


@require_POST
@_staff_may
def delete(request: HttpRequest, view_id: int) -> HttpResponse:
    """Delete one's own view, and show what it showed: so it can be saved again."""
    view = get_object_or_404(SavedView, pk=view_id, owner=_member(request))
    view.delete()
    messages.success(request, f"Deleted “{view.name}”. What it showed is below, to save it again.")
    return to_list(view.query)


def _member(request: HttpRequest) -> User:
    assert isinstance(request.user, User), "the admin lets in nobody else"
    return request.user


def _kept(request: HttpRequest, form: ViewForm, says: str, *, otherwise: str) -> HttpResponse:
    """Save the form and show the view, or say what is wrong on the list it was sent from."""
    if not form.is_valid():
        for name, errors in form.errors.items():
            messages.error(request, f"The view was not saved. {name.capitalize()}: {errors[0]}")
        return to_list(otherwise)
    view = form.save()
    messages.success(request, says.format(view.name))
    return to_list(view.query)
