"""Hostile but acceptable events, for the property tests: what `wire.read` must keep exactly."""

from datetime import datetime, timedelta, timezone
from ipaddress import IPv6Address

from hypothesis import strategies as st

from audit.enums import AuditAction

MAX = 2**53 - 1
AWKWARD = (
    "", " ", "=1+1", "'; DROP TABLE audit_auditevent; --", "\\", '"', "\t\r\n\x01\x1f\x7f", "null",
    "\ue000", "\uffff", "😀", "𐀀", "é", "e\u0301", "a/b~c", "%s", "{}", "\u2028", "ﬀ", "context",
)  # fmt: skip

texts = st.sampled_from(AWKWARD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)
identifiers = texts.map(lambda text: text[:255]) | st.integers(1, 255).map("€".__mul__)
numbers = (
    st.integers(-MAX, MAX)
    | st.floats(-MAX, MAX, allow_nan=False)
    | st.sampled_from([MAX, -MAX, 0, -0.0, 1.0, -1.0, 5e-324, 1e-7, 0.1, 1e15, 123456789.125])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.integers(100, 2000).map("ä".__mul__),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
) | st.integers(1, 28).map(lambda depth: _nested(depth))

addresses = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    st.integers(0, 2**32 + 9).map(IPv6Address),
    st.integers(0, 2**32 - 1).map(lambda low: IPv6Address((0xFFFF << 32) + low)),
    st.lists(st.sampled_from([0, 1, 0xFFFF]), min_size=8, max_size=8).map(
        lambda words: IPv6Address(int("".join(f"{word:04x}" for word in words), 16))
    ),
)


def _nested(depth):
    value = []
    for level in range(depth):
        value = [value] if level % 2 else {"": value}
    return value


@st.composite
def times(draw):
    """RFC 3339 text with an offset; every microsecond of the years 1 to 9999."""
    minutes = draw(st.integers(-23 * 60, 23 * 60))
    zone = timezone(timedelta(minutes=minutes))
    inside = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))  # noqa: DTZ001
    return draw(inside).replace(tzinfo=zone).isoformat(timespec="microseconds")


@st.composite
def contexts(draw, action):
    """Keys that the action knows, and keys that nobody knows."""
    known = [key.name for key in action.context_keys]
    names = st.sampled_from(known) | texts if known else texts
    return draw(st.dictionaries(names, values, max_size=5))


@st.composite
def events(draw):
    """An event in the wire format, with any of the optional fields but `id`."""
    action = draw(st.sampled_from(list(AuditAction)))
    optional = {
        "occurred_at": times(),
        "user_id": identifiers,
        "actor_type": st.sampled_from(["user", "admin", "service", "system", "anonymous"]),
        "subject_id": identifiers,
        "resource_type": identifiers,
        "resource_id": identifiers,
        "correlation_id": identifiers,
        "request_id": identifiers,
        "source_seq": st.integers(0, MAX),
        "purpose": identifiers,
        "ip_address": addresses.map(str),
        "user_agent": identifiers,
        "context": contexts(action),
    }
    return draw(st.fixed_dictionaries({"action": st.just(action.value)}, optional=optional))
