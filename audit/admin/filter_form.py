"""The list's filter as a form and as chips: what may be chosen, and what is chosen now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.core.cache import cache

from audit import enums, periods
from audit.admin.links import events_url
from audit.filters import AuditEventFilter
from audit.models import Source

SUGGESTED = 60
"""For how many seconds the names of sources are remembered: they are asked for by every list."""

LABELS = {
    "category": "Category",
    "framework": "Framework",
    "operation": "Operation",
    "action": "Action",
    "outcome": "Outcome",
    "source": "Source",
    "user_id": "User",
    "resource_type": "Kind of resource",
    "resource_id": "Resource",
    "correlation_id": "Correlation id",
    "session": "Session",
    "attempt": "Attempt",
    "review": "Review",
    "ip": "IP address or network",
    "occurred_after": "From",
    "occurred_before": "To",
    "recorded_after": "Recorded from",
    "recorded_before": "Recorded to",
    "context": "Context",
    "q": "Words",
}
"""The filters in the words of the page."""

TICKED = ("category", "framework", "outcome", "action", "attempt", "review")
"""Those of which several values may be ticked."""

ATTEMPTS = {
    "open": "No outcome after 15 minutes",
    "missing": "Outcome without an attempt",
    "inferred": "Joined without a correlation id",
}
"""What can be said of attempts, in the words of the page."""

REVIEWS = {
    "looked_at": "Looked at",
    "not_looked_at": "Looked at by nobody, within 31 days",
    "commented": "Commented",
    "in_exception": "In an exception",
    "alerted": "In an alert",
}
"""What a review can have said, in the words of the page."""

BESIDES = {
    "group_by": "Group by",
    "sort": "Sort",
    "stack": "Bars",
    "columns": "Columns",
    "at": "Jump to",
    "cursor": "Page",
}
"""And the list's other parameters."""


def problems(errors: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """What is wrong with which parameter: its words on the page, its name in the URL, the message.

    One that there is not has no words of its own.
    """
    words = LABELS | BESIDES
    return [(words.get(name, ""), name, " ".join(texts)) for name, texts in errors.items()]


@dataclass(frozen=True, slots=True)
class Option:
    """A value that may be ticked."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter in force, and the list's address without it."""

    label: str
    value: str
    url: str


class FilterForm:
    """What the template needs to draw a filter; the rules are the filter's own.

    `besides` are parameters of the page that stay when a filter changes, such as the grouping.
    """

    def __init__(self, chosen: AuditEventFilter, besides: Sequence[tuple[str, str]] = ()) -> None:
        self.given = chosen.given()
        self._besides = list(besides)

    def value(self, name: str) -> str:
        """The value of a filter that the form offers as one line of text."""
        return next((value for given, value in self.given if given == name), "")

    @property
    def chips(self) -> Iterator[Chip]:
        for index, (name, value) in enumerate(self.given):
            rest = self.given[:index] + self.given[index + 1 :]
            yield Chip(LABELS[name], self._words(name, value), self._url(rest))

    def _url(self, filters: list[tuple[str, str]]) -> str:
        return events_url([*filters, *self._besides])

    def _words(self, name: str, value: str) -> str:
        if name == "action" and value in enums.ACTIONS:
            return enums.ACTIONS[value].label
        if name == "category" and value in list(enums.Category):
            return enums.Category(value).label
        if name == "outcome" and value in list(enums.Outcome):
            return enums.Outcome(value).label
        words = {"attempt": ATTEMPTS, "review": REVIEWS}.get(name, periods.PERIODS)
        return words.get(value, value)

    @property
    def q(self) -> str:
        return self.value("q")

    @property
    def times(self) -> Iterator[tuple[str, str, str]]:
        """Name, label and value of the ends of the time range."""
        for name in ("occurred_after", "occurred_before"):
            yield name, LABELS[name], self.value(name)

    @property
    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Name, label and value of the filters that are typed in; further values stay hidden."""
        for name in (
            "user_id", "ip", "source", "operation", "resource_type", "resource_id",
            "correlation_id", "session", "context", "recorded_after", "recorded_before",
        ):  # fmt: skip
            yield name, LABELS[name], self.value(name)

    @property
    def hidden(self) -> Iterator[tuple[str, str]]:
        """What the form shows nowhere and must not lose: further values of what is typed in."""
        seen = set()
        for name, value in self.given:
            if name in seen and name not in TICKED:
                yield name, value
            seen.add(name)
        yield from self._besides

    @property
    def categories(self) -> list[Option]:
        return self._options("category", [(c.value, c.label) for c in enums.Category])

    @property
    def frameworks(self) -> list[Option]:
        return self._options("framework", [(f.value, f.value) for f in enums.Framework])

    @property
    def outcomes(self) -> list[Option]:
        return self._options("outcome", [(o.value, o.label) for o in enums.Outcome])

    @property
    def attempts(self) -> list[Option]:
        return self._options("attempt", list(ATTEMPTS.items()))

    @property
    def reviews(self) -> list[Option]:
        return self._options("review", list(REVIEWS.items()))

    @property
    def actions(self) -> list[tuple[str, list[Option]]]:
        """All actions, under the label of their category."""
        return [(label, self._options("action", one)) for label, one in enums.action_choices()]

    @property
    def period_links(self) -> list[tuple[str, str, bool]]:
        """The offered periods: label, address, whether it is the one in force."""
        rest = [(n, v) for n, v in self.given if n not in ("occurred_after", "occurred_before")]
        now = self.value("occurred_after")
        links = [
            (label, self._url([*rest, ("occurred_after", code)]), code == now)
            for code, label in periods.PERIODS.items()
        ]
        has_any = any(name.startswith("occurred_") for name, _ in self.given)
        return [*links, ("Any time", self._url(rest), not has_any)]

    @property
    def sources(self) -> list[str]:
        """What may be typed as a source; a new one is offered a minute later at most."""
        names = Source.objects.values_list("name", flat=True)
        return cache.get_or_set("audit.source_names", lambda: list(names), SUGGESTED) or []

    @property
    def operations(self) -> list[str]:
        return list(enums.OPERATIONS)

    @property
    def more_is_open(self) -> bool:
        """Whether a filter is in force that stands under 'More filters'."""
        above = ("q", "occurred_after", "occurred_before", "outcome", "category")
        return any(name not in above for name, _ in self.given)

    def _options(self, name: str, choices: list[tuple[str, str]]) -> list[Option]:
        chosen = {value for given, value in self.given if given == name}
        return [Option(value, label, value in chosen) for value, label in choices]
