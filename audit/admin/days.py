"""A day of a category: what a reviewer has to see, and the form in which they sign it off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from audit import following
from audit.admin.histogram import histogram
from audit.admin.links import events_url
from audit.admin.sources import length
from audit.admin.stories import story_url
from audit.counts import HOUR
from audit.detection.detecting import FOLLOWER
from audit.enums import Category, PortalAction
from audit.ingest import now
from audit.ledger import storage
from audit.ledger.state import state
from audit.models import Verification
from audit.recorder import audit
from audit.review.calendar import standings
from audit.review.days import FIRST_YEAR, MOST_ALERTS, MOST_LOOKED_UP, MOST_SHOWN, Review, review
from audit.review.deeds import MOST_WORDS, Refused
from audit.review.signing import PERMISSION, Seen, SignedAlready, sign_off, sign_second
from audit.review.standing import State

ONE_DAY = timedelta(days=1)


class SignForm(forms.Form):
    """What somebody signs, and what they were shown of it."""

    comment = forms.CharField(
        required=False,
        max_length=MOST_WORDS,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
        help_text="What you looked at, and what you made of it. It cannot be changed later.",
    )
    events = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    alerts = forms.IntegerField(min_value=0, widget=forms.HiddenInput)


class SecondForm(forms.Form):
    """The second person's part."""

    number = forms.IntegerField(min_value=1, widget=forms.HiddenInput)
    comment = SignForm.base_fields["comment"]


def day_page(request: HttpRequest, day: str, category: str, site: AdminSite) -> TemplateResponse:
    """What was sealed of a day and category; looking at it is a search, and recorded as one."""
    found = _review(request, day, category)
    audit.record_sync(
        action=PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(found.scope.filters), "count": found.events},
    )
    context = site.each_context(request) | _context(request, found)
    return TemplateResponse(request, "audit/day.html", context)


def sign_page(request: HttpRequest, day: str, category: str) -> HttpResponse:
    """Sign it off, and go back to it."""
    found, form = _review(request, day, category), SignForm(request.POST)
    if not form.is_valid():
        messages.error(request, _problems(form))
        return _back(found)
    given = form.cleaned_data
    try:
        signed = sign_off(
            request.user, found, comment=given["comment"],
            seen=Seen(given["events"], given["alerts"]),
        )  # fmt: skip
    except SignedAlready as error:
        messages.warning(request, str(error))
    except Refused as error:
        messages.error(request, f"Not signed. {error}")
    else:
        more = " It waits for a second person now, as you were at work in it yourself."
        messages.success(request, f"Signed off.{more if signed.needs_second else ''}")
    return _back(found)


def second_page(request: HttpRequest, day: str, category: str) -> HttpResponse:
    """Sign as the second person, and go back to the day."""
    found, form = _review(request, day, category), SecondForm(request.POST)
    if not form.is_valid():
        messages.error(request, _problems(form))
        return _back(found)
    number = form.cleaned_data["number"]
    signed = next((one for one in found.signoffs if one.number == number), None)
    if signed is None:
        raise Http404("There is no such sign-off.")
    try:
        sign_second(request.user, signed, comment=form.cleaned_data["comment"])
    except SignedAlready as error:
        messages.warning(request, str(error))
    except Refused as error:
        messages.error(request, f"Not signed. {error}")
    else:
        messages.success(request, "Signed as the second person.")
    return _back(found)


def day_url(day: date, category: Category) -> str:
    """The address of a day's page."""
    return reverse("admin:review_day", args=[day.isoformat(), category.value])


def require_view(request: HttpRequest) -> None:
    """Raise `PermissionDenied` unless somebody may see events and their reviews."""
    if not request.user.has_perms(["audit.view_auditevent", "audit.view_signoff"]):
        raise PermissionDenied("Your role does not let you view reviews.")


def _review(request: HttpRequest, day: str, category: str) -> Review:
    require_view(request)
    at = now()
    try:
        found = review(date.fromisoformat(day), Category(category), at)
    except ValueError:
        raise Http404("There is no such day or category.") from None
    if not FIRST_YEAR <= found.scope.day.year <= at.year + 1:
        raise Http404("That day is too far away to be reviewed.")
    return found


def _back(found: Review) -> HttpResponseRedirect:
    return HttpResponseRedirect(day_url(found.scope.day, found.scope.category))


def _problems(form: forms.Form) -> str:
    said = [f"{name}: {' '.join(map(str, texts))}" for name, texts in form.errors.items()]
    return f"Not signed. {' '.join(said)}"


# --- what the page shows -----------------------------------------------------------------------


def _context(request: HttpRequest, found: Review) -> dict[str, Any]:
    scope, standing = found.scope, found.standing
    return {
        "title": f"{scope.category.label}, {scope.day:%A} {scope.day.day} {scope.day:%B %Y}",
        "review": found,
        "scope": scope,
        "standing": standing,
        "zone": ZoneInfo(scope.zone),
        "zone_name": scope.zone,
        "list_url": events_url(scope.filters),
        "previous_url": day_url(scope.day - ONE_DAY, scope.category),
        "next_url": day_url(scope.day + ONE_DAY, scope.category),
        "categories": list(_categories(found)),
        "hindrances": list(_hindrances(request, found)),
        "form": SignForm(initial={"events": found.events, "alerts": found.alert_count}),
        "second_form": _second_form(request, found),
        "own_url": _own_url(found),
        "late": found.late_events(),
        "log": _log(found),
    } | _what_happened(found)


def _what_happened(found: Review) -> dict[str, Any]:
    scope = found.scope
    privileged, deeds = found.privileged()
    titles = {rule.rule: rule.title for rule in found.rules}
    return {
        "rows": [
            {
                "total": total,
                "url": events_url([*_time(found), ("action", total.action.value)]),
            }
            for total in found.totals
            if total.is_told
        ],
        "absent": [total for total in found.totals if not total.is_told],
        "histogram": histogram(
            found.hours_by_outcome,
            HOUR,
            scope.start,
            scope.end,
            [("category", scope.category.value)],
            ZoneInfo(scope.zone),
        ),
        "grown": sum(bool(alert.grown) for alert in found.alerts),
        "alerts": [(alert, titles.get(alert.rule, alert.rule)) for alert in found.alerts],
        "failures": list(_failures(found)),
        "failures_url": events_url([*scope.filters, ("outcome", "failure")]),
        "privileged": [
            (action, count, events_url([*_time(found), ("action", action.value)]))
            for action, count in privileged
        ],
        "deeds": deeds,
        "new": list(_new(found)),
        "most_looked_up": MOST_LOOKED_UP,
        "most_shown": MOST_SHOWN,
        "most_alerts": MOST_ALERTS,
        "open_attempts": found.open_attempts(),
        "open_url": events_url([*scope.filters, ("attempt", "open")]),
    }


def _time(found: Review) -> list[tuple[str, str]]:
    return [pair for pair in found.scope.filters if pair[0] != "category"]


def _categories(found: Review) -> Iterator[dict[str, Any]]:
    """The same day's other categories, each with how it stands."""
    day = found.scope.day
    for (_, category), standing in standings(day, day, found.at).items():
        yield {
            "category": category,
            "standing": standing,
            "url": day_url(day, category),
            "is_current": category is found.scope.category,
        }


def _hindrances(request: HttpRequest, found: Review) -> Iterator[dict[str, str]]:
    """What stands in the way of signing, and where to do something about it."""
    if found.at < found.scope.end:
        left = length(found.scope.end - found.at)
        yield {"what": f"The day is not over: it ends in {left}.", "url": "", "next": ""}
    if found.undecided:
        n = found.undecided
        yield {
            "what": f"{n} alert{'s are' if n != 1 else ' is'} undecided.",
            "url": "#alerts",
            "next": "Decide them" if n != 1 else "Decide it",
        }
    if storage.head() is None:
        yield {
            "what": "Nothing has been sealed yet.",
            "url": reverse("admin:ledger"),
            "next": "Ledger",
        }
    if not request.user.has_perm(PERMISSION):
        yield {
            "what": "Your role lets you look, not sign. Reviewers and managers sign.",
            "url": "",
            "next": "",
        }


def _second_form(request: HttpRequest, found: Review) -> SecondForm | None:
    """For whoever may be the second person."""
    signed = found.standing.signoff
    if signed is None or found.standing.state is not State.WAITS:
        return None
    if signed.by == request.user.get_username() or not request.user.has_perm(PERMISSION):
        return None
    return SecondForm(initial={"number": signed.number})


def _own_url(found: Review) -> str:
    """What the one who signed did on that day."""
    signed = found.standing.signoff
    return events_url([*found.scope.filters, ("user_id", signed.by)]) if signed else ""


def _failures(found: Review) -> Iterator[dict[str, Any]]:
    for label, column, name in (("User", "user_id", "user_id"), ("IP address", "ip_address", "ip")):
        rows = found.failures_by(column)
        if rows:
            yield {
                "label": label,
                "rows": [
                    {
                        "value": value,
                        "count": count,
                        "url": events_url(
                            [*found.scope.filters, ("outcome", "failure"), (name, value)]
                        ),
                    }
                    for value, count in rows
                ],
            }


def _new(found: Review) -> Iterator[dict[str, Any]]:
    """Users and sources that the log had not seen before."""
    users, sources = found.new_users(), found.new_sources()
    yield {
        "label": "New users",
        "names": [(name, story_url("user_id", name)) for name in users.values[:MOST_SHOWN]],
        "more": max(0, len(users.values) - MOST_SHOWN),
        "is_all": users.is_all,
        "none": "Every user of this day was known before.",
    }
    yield {
        "label": "New sources",
        "names": [
            (name, events_url([*found.scope.filters, ("source", name)]))
            for name in sources.values[:MOST_SHOWN]
        ],
        "more": max(0, len(sources.values) - MOST_SHOWN),
        "is_all": sources.is_all,
        "none": "Every source of this day had written before.",
    }


def _log(found: Review) -> dict[str, Any]:
    """How the log is doing that all this was read from."""
    return {
        "head": storage.head(),
        "is_well": state(found.at).is_well,
        "waiting": found.waiting(),
        "unjudged": following.behind(FOLLOWER),
        "run": Verification.objects.first(),
    }
