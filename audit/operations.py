"""How an operation goes by the catalogue: which action tells of each step, with what context.

Pure functions; `audit.recorder` records what they choose.
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from audit.enums import OPERATIONS, AuditAction, Outcome, PortalAction

REASON_KEYS = ("failure_reason", "reason", "error_code", "rejection_reason")
"""Where a failure's reason goes: the first of these that its action knows."""

_CODE = re.compile(r"(?=.{1,64}\Z)[a-z]+(_[a-z0-9]+)*")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Course(NamedTuple):
    """The actions of an operation; None where the catalogue has no such step."""

    attempt: AuditAction | PortalAction | None
    success: AuditAction | PortalAction
    failure: AuditAction | PortalAction | None


def course(operation: str) -> Course:
    """The steps of an operation; one that stands alone has but its one action, as the success.

    Raises ValueError with the closest names for an operation that the catalogue does not know.
    """
    if operation not in OPERATIONS:
        close = get_close_matches(operation, OPERATIONS)
        hint = f"did you mean {' or '.join(close)}?" if close else "no operation has a similar name"
        raise ValueError(f"unknown operation {operation[:64]!r}: {hint}")
    if len(OPERATIONS[operation]) == 1:
        return Course(None, OPERATIONS[operation][0], None)
    success = _step(operation, Outcome.SUCCESS)
    assert success is not None, f"{operation} has no success"
    return Course(_step(operation, Outcome.PENDING), success, _step(operation, Outcome.FAILURE))


def _step(operation: str, outcome: Outcome) -> AuditAction | PortalAction | None:
    """The action of that outcome; of two, the one that is named after the operation."""
    found = [action for action in OPERATIONS[operation] if action.outcome is outcome]
    return min(found, key=lambda action: not action.value.startswith(operation), default=None)


def context_for(action: AuditAction | PortalAction, given: Mapping[str, Any]) -> dict[str, Any]:
    """What of an operation's context belongs to this action.

    A key that only other actions of the operation know is theirs; one that none of them knows was
    meant as it was given.
    """
    all_known = {key for step in OPERATIONS[action.operation] for key in step.keys_by_name}
    return {
        key: value
        for key, value in given.items()
        if key in action.keys_by_name or key not in all_known
    }


def failure_context(
    action: AuditAction | PortalAction,
    given: Mapping[str, Any],
    *,
    reason: str | None = None,
    error: BaseException | None = None,
) -> dict[str, Any]:
    """`context_for` a failure, with why: the reason stated, else the context's, else the error's.

    Where the attempt knows the same key, it is the motive there ("why it was wanted"), which says
    nothing about the failure.
    """
    key = reason_key(action)
    context = context_for(action, given)
    attempt = course(action.operation).attempt
    if attempt is not None and key in attempt.keys_by_name:
        context.pop(key, None)
    if reason is not None:
        context[key] = reason
    elif error is not None:
        context.setdefault(key, reason_of(error, action))
    return context


def reason_key(action: AuditAction | PortalAction) -> str:
    """The context key that says why it failed; `reason` where the catalogue provides for none."""
    return next((key for key in REASON_KEYS if key in action.keys_by_name), "reason")


def reason_of(error: BaseException, action: AuditAction | PortalAction) -> str:
    """An exception in one code, such as `permission_denied`; never its message.

    A message may quote a password or a token. So what counts is a `reason` or `code` of the
    exception's own that looks like a code, a message that is among the catalogue's usual values,
    else the name of the exception's class.
    """
    if isinstance(error, CancelledError):
        return "cancelled"
    if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, GeneratorExit
        return "interrupted"
    for stated in (getattr(error, "reason", None), getattr(error, "code", None)):
        if isinstance(stated, str) and (match := _CODE.fullmatch(stated)):
            return match[0]
    key = action.keys_by_name.get(reason_key(action))
    usual = key.examples if key else ()
    name = _WORDS.sub("_", type(error).__name__).lower()[:64]
    return next((x for x in (str(error), name.removesuffix("_error")) if x in usual), name)
