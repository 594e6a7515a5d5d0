"""What may not be stored as it came: credentials, card numbers, personal among plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from audit.enums import ACTIONS, ContextKey, Sensitivity
from audit.wire.event import Event
from audit.wire.faults import Warning, escaped

SECRET_PREFIX = 6
"""How many characters of a credential are kept, enough to tell two apart and no more."""

SECRETS = frozenset(
    key.name
    for action in ACTIONS.values()
    for key in action.context_keys
    if key.sensitivity is Sensitivity.SECRET
)
"""The names of all credentials: they are cut also where an action is not expected to have them."""

MAX_WARNINGS = 100
"""How many warnings an event gets; an answer must not grow without bound over its request."""

CARD_LENGTHS = range(13, 20)
"""How many digits a card number may have (ISO/IEC 7812)."""

# Card numbers begin with 2 to 9; a moment in milliseconds, which begins with 1, is none.
_DIGITS_AND_SEPARATORS = bytes(0x30 if byte in b"0123456789 -" else 0 for byte in range(256))
_SHORTEST_CARD = b"0" * CARD_LENGTHS[0]

_DIGITS = re.compile(r"(?<![0-9])[2-9](?:[ -]?[0-9]){12,}")
_DIGITS_ALONE = re.compile(r"(?<![0-9a-z])[2-9](?:[ -]?[0-9]){12,}(?![0-9a-z])", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"(?:[a-z]{1,12}[-_:.])?(?=[0-9-]*[a-f])[0-9a-f-]+", re.IGNORECASE)

_TEXTS = (
    "user_id", "subject_id", "resource_id", "user_agent", "resource_type", "correlation_id",
    "request_id", "purpose",
)  # fmt: skip


def split_context(event: Event) -> None:
    """Part the context into plain and personal keys, cut secrets, and note what is odd."""
    given, action = event.context, event.action
    catalogue = action.keys_by_name
    event.context = {}
    for name, value in given.items():
        key = catalogue.get(name)
        if key is None:
            event.warnings.append(_unknown_key(event, name))
        if name in SECRETS:
            event.personal_context[name] = _cut_secret(name, value, event)
        elif key and key.sensitivity is Sensitivity.PLAIN and name not in event.personal:
            event.context[name] = value
        else:
            event.personal_context[name] = value
    event.warnings += _missing_keys(action.context_keys, given, action.value)
    event.warnings += [
        Warning("missing_key", "named as personal, but not in the context", f"/context/{name}")
        for name in sorted(event.personal)
        if name not in given
    ]
    if (more := len(event.warnings) - MAX_WARNINGS) > 0:
        event.warnings[MAX_WARNINGS:] = [Warning("more", f"and {more} warnings more", "")]


def _unknown_key(event: Event, name: str) -> Warning:
    detail = f"{event.action.value} has no context key {name!r}; kept as personal"
    return Warning("unknown_key", detail, f"/context/{escaped(name)}")


def _missing_keys(
    keys: tuple[ContextKey, ...], given: dict[str, Any], action: str
) -> Iterator[Warning]:
    for key in keys:
        if key.name not in given and key.conditional is None:
            detail = f"{action} should say: {key.meaning}"
            yield Warning("missing_key", detail, f"/context/{key.name}")


def _cut_secret(name: str, value: Any, event: Event) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= SECRET_PREFIX:
        return value
    detail = f"a credential: only its first {SECRET_PREFIX} characters are kept"
    _note(event, f"context.{name}", Warning("cut", detail, f"/context/{escaped(name)}"))
    return text[:SECRET_PREFIX] + "…"


# --- card numbers ------------------------------------------------------------------------------


def may_hold_card(written: bytes) -> bool:
    """Quick, and true of every text in which `_DIGITS` finds one: few are looked at twice."""
    return _SHORTEST_CARD in written.translate(_DIGITS_AND_SEPARATORS)


def mask_cards(event: Event) -> None:
    """Mask every card number in the event to its first six and last four digits (PCI DSS 3.4.1).

    In texts, in whole numbers of the context, and in names of its keys.
    """
    for name in _TEXTS:
        value = getattr(event, name)
        if value is not None and (masked := masked_text(value)) != value:
            setattr(event, name, masked)
            _note(event, name, _card_warning(f"/{name}"))
    masked_context = {}
    for name, value in event.context.items():
        key, item = masked_text(name), _masked_value(value)
        if key != name or item != value:
            _note(event, f"context.{key}", _card_warning(f"/context/{escaped(key)}"))
        masked_context[key] = item
    event.context = masked_context


def masked_text(text: str) -> str:
    """The text with the card numbers in it masked.

    A text that as a whole is a UUID is none, however its digits fall; in a hexadecimal identifier
    (``req-eb161b4e964320``) only digits that no letter touches are.
    """
    if _UUID.fullmatch(text):
        return text
    digits = _DIGITS_ALONE if _HEXADECIMAL.fullmatch(text) else _DIGITS
    position = 0
    while match := digits.search(text, position):
        end = _card_end(match[0])
        if end is None:
            position = match.start() + 1
            continue
        end += match.start()
        text = text[: match.start()] + _masked(text[match.start() : end]) + text[end:]
        position = end
    return text


def _masked_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        masked = masked_text(str(value))
        return masked if "*" in masked else value
    if isinstance(value, list):
        return [_masked_value(item) for item in value]
    if isinstance(value, dict):
        return {masked_text(name): _masked_value(item) for name, item in value.items()}
    return value


def _card_end(run: str) -> int | None:
    """Where the card number at the start of a run of digits and separators ends, if it is one."""
    places = [place for place, character in enumerate(run) if character.isdigit()]
    for length in reversed(CARD_LENGTHS):
        if length > len(places):
            continue
        end = places[length - 1] + 1
        if run[end : end + 1].isdigit():
            continue
        if _passes_luhn([int(run[place]) for place in places[:length]]):
            return end
    return None


def _passes_luhn(digits: list[int]) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _masked(card: str) -> str:
    digits = [place for place, character in enumerate(card) if character.isdigit()]
    hidden = set(digits[6:-4])
    return "".join("*" if place in hidden else c for place, c in enumerate(card))


def _card_warning(pointer: str) -> Warning:
    return Warning("masked", "a card number: only its first six and last four are kept", pointer)


def _note(event: Event, name: str, warning: Warning) -> None:
    event.changed.append(name)
    event.warnings.append(warning)
