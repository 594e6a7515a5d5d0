"""An event as the rules see it, and what several events can have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """An event as the rules see it. Times are whole milliseconds since 1970, UTC.

    `leaf` is its index in the log. `said` are the few keys of its context that a rule looks at,
    personal ones included. Of most events no rule asks more than the first six.
    """

    leaf: int
    at: int
    recorded: int
    action: str
    source: str
    correlation: str | None = None
    user: str | None = None
    subject: str | None = None
    address: str | None = None
    resource_type: str | None = None
    resource: str | None = None
    said: Mapping[str, Any] = {}


class By(StrEnum):
    """What the events of an alert have in common."""

    USER = "user"
    ACTOR = "actor"
    TARGET = "target"
    ACTOR_AND_TARGET = "actor and target"
    ADDRESS = "address"
    LIMITED = "limited"
    ANYONE = "anyone"
    SOURCE = "source"


SAID = ("email", "initiated_by", "target_user_id", "assigned_by", "changed_by", "identifier")
"""The context keys that rules look at."""


def target(fact: Fact) -> str | None:
    """Whom it was done to: the subject, the user that the context or the resource names."""
    named = fact.subject or fact.said.get("target_user_id")
    if not named and fact.resource_type == "user":
        named = fact.resource
    return named or fact.user


def actor(fact: Fact) -> str | None:
    """Who did it."""
    return fact.user or fact.said.get("assigned_by") or fact.said.get("changed_by")


def _deed(fact: Fact) -> str | None:
    by, whom = actor(fact), target(fact)
    return f"{by} to {whom}" if by and whom else None


def _account(fact: Fact) -> str | None:
    return fact.user or fact.subject or fact.said.get("email")


KEYS: dict[By, Callable[[Fact], str | None]] = {
    By.USER: _account,
    By.ACTOR: actor,
    By.TARGET: target,
    By.ACTOR_AND_TARGET: _deed,
    By.ADDRESS: lambda fact: fact.address,
    By.LIMITED: lambda fact: fact.said.get("identifier") or fact.address or fact.user,
    By.ANYONE: lambda fact: _account(fact) or fact.address or fact.resource or fact.source,
    By.SOURCE: lambda fact: fact.source,
}
"""What an event's key is; None where the event does not say it."""
