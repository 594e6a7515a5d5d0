"""How values of events are written on pages."""

from __future__ import annotations

import json
from typing import Any

from django import template

from audit.enums import Category, Outcome

register = template.Library()


@register.filter
def outcome_label(outcome: str) -> str:
    """An outcome in the words of the pages; one that there is not can only be tampered with."""
    return Outcome(outcome).label if outcome in list(Outcome) else f"Unknown outcome “{outcome}”"


@register.filter
def category_label(category: str) -> str:
    """A category in the words of the pages."""
    return Category(category).label


@register.filter
def as_json(value: Any) -> str:
    """A context value as text: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
