"""Each filter against a naive reading of the same events."""

import ipaddress
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit import enums, filters, searching
from audit.filters import AuditEventFilter, BadFilter
from audit.ingest import ingest
from audit.models import AuditEvent
from tests.conftest import a_sign_in

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(hours=1, minutes=7, microseconds=1)
WORDS = ("alpha", "beta", "gamma", "ada@example.com", "Eve@Example.org", "naïve", "4711")
ADDRESSES = (
    None, "192.0.2.7", "192.0.2.130", "192.0.3.7", "::ffff:192.0.2.9", "2001:db8::1",
    "2001:db8:1::1", "::1", "::2", "::0.1.0.2",
)  # fmt: skip
VALUES = (
    "timeout", "1", 1, 1.5, -3, True, False, "true", ["timeout", "x"], [1, 2], [True], {}, "a:b",
    None,
)  # fmt: skip
FIXED = {
    "category", "framework", "operation", "action", "outcome", "source", "user_id",
    "resource_type", "resource_id", "correlation_id", "session", "attempt", "review", "ip",
    "occurred_after", "occurred_before", "recorded_after", "recorded_before", "context", "q",
}  # fmt: skip
"""The names of the design's section 8."""


def diverse_events():
    """60 events of every category, from three applications, over three days."""
    chance = random.Random(20260301)
    actions = list(enums.AuditAction)
    for number in range(60):
        action = actions[number * 11 % len(actions)]
        keys = [key.name for key in action.context_keys if key.name != "token"]
        occurred = START + number * STEP if number % 5 else START + number // 20 * timedelta(days=1)
        yield {
            "action": action.value,
            "occurred_at": occurred.isoformat(timespec="microseconds"),
            "user_id": chance.choice([None, "ada", "eve", "Ada", "a,b", "alpha"]),
            "subject_id": chance.choice([None, "sub alpha"]),
            "resource_type": chance.choice([None, "session", "account"]),
            "resource_id": chance.choice([None, "r-1", "r-2", "beta"]),
            "correlation_id": chance.choice([None, "c-1", "c-2"]),
            "ip_address": chance.choice(ADDRESSES),
            "user_agent": chance.choice([None, "Agent gamma", "naïve agent"]),
            "context": {key: chance.choice(VALUES) for key in keys}
            | ({"odd key": chance.choice(WORDS)} if number % 3 == 0 else {})
            | (
                {"note": {"deep": [f"see {chance.choice(WORDS)}, please"]}}
                if number % 4 == 0
                else {}
            ),
        }


@pytest.fixture
def events(db):
    """The stored events, as they are in the database."""
    rows = list(diverse_events())
    for start in range(0, 60, 10):
        source = ("payments", "crm.eu", "hr")[start // 10 % 3]
        ingest(
            rows[start : start + 10],
            source=source,
            clock=lambda start=start: START + timedelta(days=1, hours=start),
        )
    return list(AuditEvent.objects.all())


def filtered(query, **options):
    return AuditEventFilter(QueryDict(query, mutable=True), **options)


def asked(**parameters):
    query = QueryDict(mutable=True)
    for name, values in parameters.items():
        query.setlist(name, [values] if isinstance(values, str) else list(values))
    return query


def found(**parameters):
    return [event.id for event in AuditEventFilter(asked(**parameters)).events()]


def errors(query):
    data = QueryDict(query) if isinstance(query, str) else query
    with pytest.raises(BadFilter) as refused:
        AuditEventFilter(data).events()
    assert all(texts and all(texts) for texts in refused.value.errors.values())
    return list(refused.value.errors)


# --- the naive reading -------------------------------------------------------------------------


def whole_context(event):
    return event.context | event.personal_context


def has_key(event, key, text):
    """`key:value`: the value as text, number or boolean, or one item of a list."""
    if key not in whole_context(event):
        return False
    value = whole_context(event)[key]
    return any(same(item, text) for item in (value if isinstance(value, list) else [value]))


def same(item, text):
    if isinstance(item, bool):
        return text == str(item).lower()
    if isinstance(item, int | float):
        try:
            return float(text) == item
        except ValueError:
            return False
    return item == text


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def within(event, text):
    if event.ip_address is None:
        return False
    address, network = ipaddress.ip_address(event.ip_address), ipaddress.ip_network(text, False)
    return address.version == network.version and address in network


NAIVE = {
    "category": lambda e, v: e.category == v,
    "framework": lambda e, v: v in enums.action(e.action).frameworks,
    "operation": lambda e, v: enums.action(e.action).operation == v,
    "action": lambda e, v: e.action == v,
    "outcome": lambda e, v: e.outcome == v,
    "source": lambda e, v: e.source == v,
    "user_id": lambda e, v: e.user_id == v,
    "resource_type": lambda e, v: e.resource_type == v,
    "resource_id": lambda e, v: e.resource_id == v,
    "correlation_id": lambda e, v: e.correlation_id == v,
    "session": lambda e, v: (
        has_key(e, "session_id", v) or (e.resource_type, e.resource_id) == ("session", v)
    ),
    "ip": within,
    "occurred_after": lambda e, v: e.occurred_at >= day(v),
    "occurred_before": lambda e, v: e.occurred_at < day(v) + timedelta(days=1),
    "recorded_after": lambda e, v: e.recorded_at >= day(v),
    "recorded_before": lambda e, v: e.recorded_at < day(v) + timedelta(days=1),
    "context": lambda e, v: has_key(e, *v.split(":", 1)),
}

CHOICES = {
    "category": [c.value for c in enums.Category],
    "framework": [f.value for f in enums.Framework],
    "operation": sorted(enums.OPERATIONS),
    "action": sorted(enums.ACTIONS),
    "outcome": [o.value for o in enums.Outcome],
    "source": ["payments", "crm.eu", "hr", "nobody"],
    "user_id": ["ada", "Ada", "a,b", "nobody"],
    "resource_type": ["session", "account", "none"],
    "resource_id": ["r-1", "r-2", "beta"],
    "correlation_id": ["c-1", "c-2", "c-3"],
    "session": ["r-1", "r-2", "alpha", "x", "1"],
    "ip": ["192.0.2.7", "192.0.2.0/24", "192.0.2.130/25", "0.0.0.0/0", "::/0", "2001:db8::/32",
           "2001:db8::/48", "::1", "::2", "::/96", "10.0.0.0/8"],
    "context": [f"{key}:{value}"
                for key in ("reason", "attempts", "mfa", "provider_name", "session_id", "odd key")
                for value in ("timeout", "1", "1.0", "1.5", "-3", "true", "false", "x", "a:b", "2",
                              "alpha", "ada@example.com")],
} | {
    f"{kind}_{side}": ["2026-02-28", "2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"]
    for kind in ("occurred", "recorded") for side in ("after", "before")
}  # fmt: skip


def test_every_filter_of_the_design_exists_and_no_other():
    assert set(AuditEventFilter.base_filters) == FIXED
    assert {*NAIVE, "q", "attempt", "review"} == FIXED


def test_each_filter_finds_what_a_naive_reading_finds(events):
    @examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        names = data.draw(
            st.lists(st.sampled_from(sorted(NAIVE)), min_size=1, max_size=2, unique=True)
        )
        query = {
            name: data.draw(st.lists(st.sampled_from(CHOICES[name]), min_size=1, max_size=3))
            for name in names
        }
        wanted = [
            event
            for event in events
            if all(any(NAIVE[name](event, v) for v in values) for name, values in query.items())
        ]
        try:
            ids = found(**query)
        except BadFilter:  # a range turned round: nothing lies in it
            assert {"occurred_after", "recorded_after"} & query.keys()
            assert wanted == []
            return
        wanted.sort(key=lambda event: (event.occurred_at, event.id), reverse=True)
        assert ids == [event.id for event in wanted], query

    check()


@pytest.mark.parametrize("name", sorted(NAIVE))
def test_each_filter_alone_finds_some_but_not_all(events, name):
    counts = {len(found(**{name: value})) for value in CHOICES[name]}
    assert any(0 < count < len(events) for count in counts)
    for value in CHOICES[name]:
        wanted = {event.id for event in events if NAIVE[name](event, value)}
        assert set(found(**{name: value})) == wanted, value


def test_no_filter_finds_everything_newest_first(events):
    wanted = sorted(events, key=lambda event: (event.occurred_at, event.id), reverse=True)
    assert found() == [event.id for event in wanted]


def test_blank_values_are_no_filter(events):
    query = "&".join(f"{name}=" for name in FIXED) + "&user_id=%20&user_id=ada"
    assert {event.user_id for event in filtered(query).events()} == {"ada"}
    assert filtered("user_id=&q=%20").given() == []


def test_the_filters_in_force_are_listed_as_written():
    kept = filtered("q=x&category=session&category=portal&page=2", besides=["page"]).given()
    assert kept == [("category", "session"), ("category", "portal"), ("q", "x")]


# --- free text ---------------------------------------------------------------------------------

TEXTS = {
    "user_id": "u-lambda", "subject_id": "subject mu", "resource_id": "nu", "user_agent": "Xi/5.0",
    "correlation_id": "omicron", "request_id": "pi",
}  # fmt: skip


@pytest.fixture
def one_text_each(own_database):
    """An event for each place that free text looks into, and one with nothing."""
    events = [
        *({"context": {}, "user_id": None} | {name: text} for name, text in TEXTS.items()),
        {"user_id": None, "context": {"reason": "rho sigma"}},
        {
            "user_id": None,
            "context": {"email": "Tau@Example.com", "odd": {"deep": ["ypsilon", 47]}},
        },
        {"user_id": None, "context": {}},
    ]
    receipts = ingest([a_sign_in(**event) for event in events], source="payments")
    searching.write([receipt.id for receipt in receipts])
    names = [*TEXTS, "reason", "email", "nothing"]
    return {receipt.id: name for receipt, name in zip(receipts, names, strict=True)}


WORDS_IN = [
    ("u-lambda", {"user_id"}),
    ("MU", {"subject_id"}),
    ("nu", {"resource_id"}),
    ("xi/5.0", {"user_agent"}),
    ("xi", {"user_agent"}),
    ("omicron", {"correlation_id"}),
    ("pi", {"request_id"}),
    ("rho", {"reason"}),
    ("sigma rho", {"reason"}),
    ("rho omicron", set()),
    ("tau@example.com", {"email"}),
    ("TAU@EXAMPLE.COM", {"email"}),
    ("ypsilon", {"email"}),
    ("47", {"email"}),
    ("upsilon", set()),
    ("rho & ! ' \\ : * ( <-> %", {"reason"}),
    (["rho", "omicron"], {"reason", "correlation_id"}),
]


def test_words_are_found_wherever_they_stand(one_text_each):
    for text, wanted in WORDS_IN:
        assert {one_text_each[id_] for id_ in found(q=text)} == wanted, text


def test_words_are_found_together_with_other_filters(one_text_each):
    assert found(q="rho", outcome="success") == []
    assert len(found(q="rho", outcome="failure", source="payments")) == 1


def test_free_text_survives_counting_and_slicing(one_text_each):
    queryset = filtered("q=rho").events()
    assert queryset.count() == 1
    assert queryset.exists()
    assert len(queryset[:5]) == 1
    assert len(queryset.filter(pk__in=one_text_each)) == 1


# --- times -------------------------------------------------------------------------------------


@pytest.fixture
def at_midnight(store):
    """Events at the very edges of 1 March 2026 (UTC), by their times."""
    edges = [
        "2026-02-28T23:59:59.999999Z",
        "2026-03-01T00:00:00Z",
        "2026-03-01T09:30:00.000001Z",
        "2026-03-01T09:30:59.999999Z",
        "2026-03-01T23:59:59.999999Z",
        "2026-03-02T00:00:00Z",
    ]
    receipts = store(*({"occurred_at": edge} for edge in edges))
    return [receipt.id for receipt in receipts]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("occurred_after=2026-03-01&occurred_before=2026-03-01", [1, 2, 3, 4]),
        ("occurred_after=2026-03-01", [1, 2, 3, 4, 5]),
        ("occurred_before=2026-02-28", [0]),
        ("occurred_before=2026-03-01T00:00:00Z", [0, 1]),
        ("occurred_after=2026-03-02T00:00:00Z", [5]),
        ("occurred_after=2026-03-01T09:30&occurred_before=2026-03-01T09:30", [2, 3]),
        ("occurred_after=2026-03-01T09:30&occurred_before=2026-03-01T09:30:00.000001Z", [2]),
        ("occurred_after=2026-03-01T09:30:00.000001Z&occurred_before=2026-03-01T09:30", [2, 3]),
        ("occurred_after=2026-03-01%2B01:00&occurred_before=2026-03-01%2B01:00", [0, 1, 2, 3]),
        ("occurred_after=2026-03-01T01:00:00+01:00&occurred_before=2026-03-01", [1, 2, 3, 4]),
        ("occurred_after=2026-03-01-01:00&occurred_before=2026-03-01-01:00", [2, 3, 4, 5]),
        ("occurred_after=2026-03-02&occurred_after=2026-03-01T23:00", [4, 5]),
        ("occurred_before=2026-03-01&occurred_before=2026-02-28", [0, 1, 2, 3, 4]),
        ("occurred_before=2026-03-01&occurred_before=2026-03-02T00:00:00Z", [0, 1, 2, 3, 4, 5]),
        ("occurred_before=2026-03-02T00:00:00Z&occurred_before=2026-03-01", [0, 1, 2, 3, 4, 5]),
    ],
)  # fmt: skip
def test_both_ends_of_a_range_are_included(at_midnight, query, wanted):
    ids = {event.id for event in filtered(query).events()}
    assert [index for index, id_ in enumerate(at_midnight) if id_ in ids] == wanted


def test_a_relative_time_counts_back_from_now(store):
    now = datetime.now(UTC)
    times = [now - timedelta(hours=hours) for hours in (1, 23, 25, 24 * 8)]
    ids = [receipt.id for receipt in store(*({"occurred_at": at} for at in times))]
    assert set(found(occurred_after="-24h")) == set(ids[:2])
    assert set(found(occurred_after="-7d")) == set(ids[:3])
    assert set(found(occurred_after="-2w", occurred_before="-1w")) == {ids[3]}
    assert set(found(recorded_after="-5m")) == set(ids)
    assert set(found(recorded_before="-5m")) == set()


@pytest.mark.parametrize(
    "query",
    [
        "occurred_after=2026-03-02&occurred_before=2026-02-28",
        "occurred_after=2026-03-02&occurred_before=2026-03-01",
        "occurred_after=2026-03-01T09:31&occurred_before=2026-03-01T09:30",
        "occurred_after=2026-03-01T00:00:01Z&occurred_before=2026-03-01T00:00:00Z",
        "occurred_after=-1d&occurred_before=-2d",
    ],
)
def test_a_range_that_is_turned_round_is_an_error(query):
    assert errors(query) == ["occurred_after"]
    assert errors(query.replace("occurred", "recorded")) == ["recorded_after"]


@pytest.mark.django_db
def test_a_range_of_one_instant_is_no_error():
    assert (
        found(occurred_after="2026-03-01T00:00:00Z", occurred_before="2026-03-01T00:00:00Z") == []
    )


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        (" ::1 ", "::1/128"),
    ],
)
def test_a_network_is_read(value, network):
    assert filters.network(value) == ipaddress.ip_network(network)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("userid=ada", ["userid"]),
        ("user_id__in=ada", ["user_id__in"]),
        ("user_id=ada&o=1&p=2", ["o", "p"]),
        ("page=2", ["page"]),
        ("", None),
        ("category=nope", ["category"]),
        ("category=session&category=nope", ["category"]),
        ("category=Session", ["category"]),
        ("framework=GDPR2", ["framework"]),
        ("operation=user_login_failed", ["operation"]),
        ("action=USER_LOGOUT", ["action"]),
        ("outcome=failed", ["outcome"]),
        ("ip=x", ["ip"]),
        ("ip=192.0.2.0/33", ["ip"]),
        ("ip=192.0.2.0/", ["ip"]),
        ("ip=fe80::1%25eth0", ["ip"]),
        ("ip=192.0.2.7,192.0.2.8", ["ip"]),
        ("context=reason", ["context"]),
        ("context=:x", ["context"]),
        ("context=reason:", ["context"]),
        ("occurred_after=2026-03-01+01:00", ["occurred_after"]),
        ("occurred_after=yesterday", ["occurred_after"]),
        ("occurred_after=2026-02-30", ["occurred_after"]),
        ("occurred_before=2026-03-01T25:00Z", ["occurred_before"]),
        ("recorded_after=7d", ["recorded_after"]),
        ("recorded_before=-99999999d", ["recorded_before"]),
        ("occurred_after=0001-01-01%2B23:00", ["occurred_after"]),
        ("occurred_before=9999-12-31T23:59:59-23:00", ["occurred_before"]),
        ("ip=x&category=nope&who=me", ["category", "ip", "who"]),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(query, names):
    if names is None:
        assert filtered(query).problems == {}
    else:
        assert errors(query) == names


@pytest.mark.parametrize("name", sorted(FIXED))
def test_no_filter_takes_nul_or_overlong_or_too_many_values(name):
    assert errors(asked(**{name: "a\0b"})) == [name]
    assert errors(asked(**{name: "a" * 2049})) == [name]
    assert errors(asked(**{name: ["a"] * 201})) == [name]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["source", "user_id", "resource_id", "correlation_id", "q", "context"]
)
def test_any_text_is_a_value(name):
    hostile = [
        "'",
        '"',
        "\\",
        "%",
        "_",
        "😀",
        "\ue000",
        "=1+1",
        "(",
        ":*",
        "&|!",
        "\x01",
        "a" * 2000,
    ]
    values = [f"k:{text}" for text in hostile] if name == "context" else hostile
    assert found(**{name: values}) == []
    for value in values:
        assert found(**{name: value}) == []


def test_half_a_surrogate_pair_is_refused():
    """A command line that is no UTF-8 arrives with such characters."""
    for name in ("user_id", "q", "source"):
        assert errors(asked(**{name: "\udcff"})) == [name]
    assert errors(asked(context="k:\udcff")) == ["context"]


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 2000, "1e300",
                                   "[" * 2000, "{}", "null", '"x"'])  # fmt: skip
def test_a_context_value_that_is_odd_json_is_only_text(store, value):
    store({"context": {"reason": value}})
    assert len(found(context=f"reason:{value}")) == 1


@pytest.mark.django_db
def test_as_many_values_as_allowed_work():
    for name in ("user_id", "context", "ip", "q"):
        value = {"context": "k:{}", "ip": "192.0.2.{}"}.get(name, "v{}")
        assert found(**{name: [value.format(number) for number in range(200)]}) == []


# --- every field -------------------------------------------------------------------------------

BY_FILTER = {
    "category": "category", "action": "action", "outcome": "outcome", "source": "source",
    "user_id": "user_id", "resource_type": "resource_type", "resource_id": "resource_id",
    "correlation_id": "correlation_id", "ip_address": "ip", "occurred_at": "occurred_after",
    "recorded_at": "recorded_after", "context": "context", "personal_context": "context",
}  # fmt: skip
NOT_FILTERED = {
    "id": "an event's own page is its address",
    "entry_version": "one value until there is a second version",
    "key": "an API key belongs to one source; the key's page names its events",
    "actor_type": "five values, no index; refine by category and outcome",
    "source_seq": "for finding gaps, per source",
    "purpose": "free words, shown on the event's page",
    "changed": "shown on the event's page",
    "digests": "made from the salt: nothing to look for",
    "leaf_hash": "the proof's page finds it",
    "salt": "secret",
    "text": "the words of the fields that free text looks into",
}


def test_every_field_is_reached_by_a_filter_or_has_a_reason_not_to_be():
    reached = {*BY_FILTER, *searching.SEARCHED}
    fields = {field.name for field in AuditEvent._meta.get_fields()}
    assert reached | NOT_FILTERED.keys() == fields
    assert not reached & NOT_FILTERED.keys()
    assert set(BY_FILTER.values()) <= FIXED
