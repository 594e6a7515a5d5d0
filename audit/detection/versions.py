"""The rules' versions: which is in force at a leaf, and how a rule is changed.

A change holds from the log's size of that moment on. While it is made no worker is in the middle of
judging, and none begins: so it is the same version for each event, whoever judges it and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import orjson
from django.db import connections, transaction

from audit import following
from audit.detection.raising import Setting
from audit.detection.rules import BY_SLUG, RULES, checked, rule
from audit.detection.rules.kinds import Rule
from audit.enums import PortalAction
from audit.models import RuleVersion
from audit.recorder import audit

_LOCK = "SELECT pg_advisory_xact_lock{}(hashtext('audit detection rules'))"

_IN_FORCE = """
    SELECT rule, version, parameters::text, is_on, from_index FROM audit_ruleversion
    WHERE from_index < %s ORDER BY version
"""

DELIVERED_BY = "portal"
DELIVERED = "As delivered."
RENEWED = "As delivered with a new version of the portal."


class Unchanged(ValueError):
    """The rule is set so already: there would be nothing to say in its history."""


def hold_still(using: str) -> None:
    """Until the transaction ends, let no rule change."""
    with connections[using].cursor() as cursor:
        cursor.execute(_LOCK.format("_shared"))


def ensure(using: str) -> None:
    """Give each rule the version that it is delivered with, if it has none.

    The first hold over the whole log. A rule that is new among others, and one that is delivered
    with other parameters than before, begin now; what staff have set stays as it is.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(_LOCK.format(""))
        known = newest(using)
        begin = following.size(using) if known else 0
        RuleVersion.objects.using(using).bulk_create(
            RuleVersion(
                rule=each.slug,
                version=last.version + 1 if last else 1,
                parameters=each.defaults,
                is_on=True,
                comment=RENEWED if last else DELIVERED,
                changed_by=DELIVERED_BY,
                from_index=begin,
            )
            for each in RULES
            if (last := known.get(each.slug)) is None or _is_outdated(last, each)
        )


def _is_outdated(last: RuleVersion, rule: Rule) -> bool:
    return last.changed_by == DELIVERED_BY and last.parameters != rule.defaults


def newest(using: str = "default") -> dict[str, RuleVersion]:
    """The newest version of each rule, by its name."""
    rows = RuleVersion.objects.using(using).order_by("rule", "-version").distinct("rule")
    return {row.rule: row for row in rows}


def in_force(leaves: range, using: str) -> Iterator[tuple[range, list[Setting]]]:
    """The leaves, cut where a rule changed, with the rules that are on there, in the table's order.

    Where there are no leaves, those that would be on for the next.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_IN_FORCE, [max(leaves.stop, leaves.start + 1)])
        rows = cursor.fetchall()
    cuts = sorted({*leaves[:1], *(row[-1] for row in rows if row[-1] in leaves)}) or [leaves.start]
    for start, stop in pairwise([*cuts, leaves.stop]):
        found = {rule: row for rule, *row, begin in rows if begin <= start}
        yield (
            range(start, stop),
            [
                Setting(each, version, each.defaults | orjson.loads(parameters))
                for each in RULES
                if each.slug in found
                for version, parameters, is_on in [found[each.slug]]
                if is_on
            ],
        )


def change(
    slug: str, parameters: Mapping[str, Any], *, is_on: bool, comment: str, by: str
) -> RuleVersion:
    """Set a rule anew from now on, and record that as an event, both or neither.

    Raises ValueError for an unknown rule or a bad parameter, without a comment, and `Unchanged`
    where it is set so already.
    """
    values = checked(rule(slug), parameters)
    if not comment.strip():
        raise ValueError("a change of a rule needs a comment that says why")
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute(_LOCK.format(""))
        last = newest()[slug]
        if (last.parameters, last.is_on) == (values, is_on):
            raise Unchanged(f"{BY_SLUG[slug].title} is set so already")
        made = RuleVersion.objects.create(
            rule=slug,
            version=last.version + 1,
            parameters=values,
            is_on=is_on,
            comment=comment.strip(),
            changed_by=by,
            from_index=following.size("default"),
        )
        audit.record_in_transaction(
            action=PortalAction.PORTAL_RULE_CHANGED,
            user_id=by,
            context={
                "rule": slug,
                "rule_version": made.version,
                "is_on": is_on,
                "comment": made.comment,
            },
        )
    return made
