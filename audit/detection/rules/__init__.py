"""The rules: what compliance staff want to know of, as tables of data, a family in a file.

Each says what it is about in words for staff, which control clauses ask for it, with what
parameters it is delivered, and what it watches. How that is judged says `audit.detection.judging`.
Clauses are our reading of PCI DSS v4.0.1 and SOC 2 (2017, rev. 2022), no assessor's advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.detection.rules import access, sign_ins, sources, staff
from audit.detection.rules.kinds import Burst, Followed, Rule

RULES: tuple[Rule, ...] = (*sign_ins.RULES, *access.RULES, *staff.RULES, *sources.RULES)
"""Every rule, in the order of the pages. A rule without `count` is raised by a single event."""

BY_SLUG = {rule.slug: rule for rule in RULES}


def rule(slug: str) -> Rule:
    """The rule of that name. Raises ValueError with all names for an unknown one."""
    if slug not in BY_SLUG:
        raise ValueError(f"there is no rule {slug[:64]!r}; there are {', '.join(BY_SLUG)}")
    return BY_SLUG[slug]


def actions_of(rule: Rule) -> frozenset[str]:
    """The actions that a rule looks at; none where it looks at all."""
    watch = rule.watch
    if isinstance(watch, Burst):
        return watch.actions
    return watch.first | watch.then if isinstance(watch, Followed) else frozenset()


def checked(rule: Rule, given: Mapping[str, Any]) -> dict[str, int]:
    """All parameters of a rule, those given in place of its defaults.

    Raises ValueError, with one sentence for each that is unknown, no whole number or out of bounds.
    """
    faults = [f"{rule.slug} has no parameter {name!r}" for name in given.keys() - rule.defaults]
    values = rule.defaults
    for parameter in rule.parameters:
        value = given.get(parameter.name, parameter.default)
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append(f"{parameter.name} is a whole number, not {value!r}")
        elif not parameter.least <= value <= parameter.most:
            faults.append(
                f"{parameter.name} lies between {parameter.least} and {parameter.most}"
                f" {parameter.unit}; {value} does not"
            )
        else:
            values[parameter.name] = value
    if not faults and values.get("from_hour", 0) >= values.get("to_hour", 24):
        faults.append("from_hour has to be before to_hour")
    if faults:
        raise ValueError("; ".join(faults))
    return values
