"""Events in groups: a summary by several at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

from django.db.models import Case, Count, DateTimeField, F, TextField, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Trunc

from audit import enums
from audit.canonical import time_text
from audit.counts.tables import DAY, HOUR, WEEK, begin_of, tally
from audit.filters import AuditEventFilter, BadFilter

_FRAMEWORK = Case(
    *(
        When(
            category__in=[c.value for c in enums.Category if framework in c.frameworks],
            then=Value(framework.value),
        )
        for framework in enums.Framework
    ),
    default=Value("none"),
    output_field=TextField(),
)

GROUPS: dict[str, Combinable] = {
    "category": F("category"),
    "framework": _FRAMEWORK,
    "action": F("action"),
    "outcome": F("outcome"),
    "source": F("source"),
    "day": Trunc("occurred_at", "day", output_field=DateTimeField(), tzinfo=UTC),
    "hour": Trunc("occurred_at", "hour", output_field=DateTimeField(), tzinfo=UTC),
}
"""What counts may be grouped by. Days and hours are UTC's."""

_BY_FRAMEWORK = " ".join(
    f"WHEN category = '{category.value}' THEN '{framework.value}'"
    for framework in enums.Framework
    for category in enums.Category
    if framework in category.frameworks
)
_COLUMNS = {
    "category": "category",
    "framework": f"CASE {_BY_FRAMEWORK} ELSE 'none' END",
    "action": "action",
    "outcome": "outcome",
    "source": "source",
    "day": begin_of(DAY, "start"),
    "hour": "start",
}
"""The same over the counts, in SQL."""


def summary(chosen: AuditEventFilter, group_by: Sequence[str]) -> list[dict[str, Any]]:
    """How many events each combination of groups has, in the order of the groups.

    A day comes as ``YYYY-MM-DD``, an hour as RFC 3339. Where the counts do not know the filter, all
    of its events are read. Raises `BadFilter`, also for an unknown group.
    """
    names = [name for name in group_by if name]
    if not names or set(names) - GROUPS.keys() or len(set(names)) < len(names):
        raise BadFilter({"group_by": [f"name each of these at most once: {', '.join(GROUPS)}"]})
    return [
        {name: _written(name, value) for name, value in zip(names, values, strict=True)}
        | {"count": count}
        for *values, count in _grouped(chosen, names)
    ]


def _grouped(chosen: AuditEventFilter, names: list[str]) -> Iterable[tuple[Any, ...]]:
    """The values of the groups and the number of events of each."""
    counted = chosen.countable()
    if counted is not None:
        columns = [_COLUMNS[name] for name in names]
        unit = HOUR if "hour" in names else DAY if "day" in names else WEEK
        return tally(counted, columns, unit=unit)
    groups = {f"_{name}": GROUPS[name] for name in names}
    rows = chosen.events().order_by().annotate(**groups).values_list(*groups)
    return rows.annotate(Count("id")).order_by(*groups)


def _written(name: str, value: Any) -> str:
    if name == "day":
        return str(value.date())
    return time_text(value) if name == "hour" else str(value)
