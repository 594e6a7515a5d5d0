"""The sample events: the same every time, as many as wanted, and as the catalogue wants them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from audit import wire
from audit.enums import OPERATIONS, AuditAction, Outcome, Phase, action
from audit.samples import SOURCES, Sample, sample_events
from audit.samples.operations import HABITS, mix
from audit.samples.people import make_cast

COUNT = 6_000
START = datetime(2026, 8, 26, tzinfo=UTC)
END = START + timedelta(days=90)
DOCUMENTATION = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": int | float, "boolean": bool, "list": list,
    "object": dict, "any": object, "string or object": str | dict,
}  # fmt: skip

Operation = list[dict[str, Any]]


def made(count: int = COUNT, *, seed: int = 1, end: datetime = END) -> list[Sample]:
    return list(sample_events(count, seed=seed, start=START, end=end))


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    return made()


@pytest.fixture(scope="module")
def operations(samples: Sequence[Sample]) -> list[Operation]:
    """The events of each correlation id, in their order."""
    found: dict[str, Operation] = defaultdict(list)
    for _, event in samples:
        if "correlation_id" in event:
            found[event["correlation_id"]].append(event)
    return list(found.values())


def actions(samples: Sequence[Sample]) -> Counter[Any]:
    return Counter(action(sample.event["action"]) for sample in samples)


def named(samples: Sequence[Sample], name: AuditAction) -> list[dict[str, Any]]:
    return [event for _, event in samples if event["action"] == name]


# --- the stream --------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_events(samples: Sequence[Sample]) -> None:
    assert made() == samples


def test_another_seed_gives_other_events(samples: Sequence[Sample]) -> None:
    assert made(seed=2) != samples


@pytest.mark.parametrize("count", [0, 1, 2, 17, 500, 4_999, COUNT])
def test_there_are_exactly_as_many_as_wanted(count: int) -> None:
    assert len(made(count)) == count


@pytest.mark.parametrize("period", [timedelta(seconds=1), timedelta(hours=1), timedelta(days=400)])
def test_they_fill_any_period(period: timedelta) -> None:
    times = [sample.event["occurred_at"] for sample in made(1_000, end=START + period)]
    assert len(times) == 1_000
    assert min(times) >= START
    assert max(times) < START + period


def test_parts_of_one_seed_are_other_events_of_the_same_people() -> None:
    first, second = (
        list(sample_events(2_000, seed=1, part=part, start=START, end=END)) for part in (0, 1)
    )
    assert first == made(2_000)
    assert first != second
    assert _people(first) & _people(second)
    mails = dict(_people(first))
    assert all(mails[user] == mail for user, mail in _people(second) if user in mails)


def _people(samples: Sequence[Sample]) -> set[tuple[str, str]]:
    """Who signed in, with the e-mail address they used."""
    return {
        (event["user_id"], event["context"]["email"])
        for _, event in samples
        if event["action"] == "user_login_attempted" and "email" in event["context"]
    }


def test_a_large_platform_has_many_users_with_an_address_each() -> None:
    cast = make_cast(Random(1), 5_000)
    for name in ("user_id", "email"):
        found = {getattr(person, name) for person in (*cast.users, *cast.administrators)}
        assert len(found) == 5_012


def test_a_period_without_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="later than their start"):
        sample_events(1, seed=1, start=START, end=START)


def test_they_come_in_order_of_time(samples: Sequence[Sample]) -> None:
    times = [sample.event["occurred_at"] for sample in samples]
    assert times == sorted(times)
    assert all(time.tzinfo is UTC and START <= time < END for time in times)


def test_each_application_numbers_its_events_without_gap(samples: Sequence[Sample]) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for source, event in samples:
        numbers[source].append(event["source_seq"])
    assert set(numbers) == set(SOURCES)
    for found in numbers.values():
        assert found == list(range(1, len(found) + 1))


def test_working_hours_are_busier_than_nights_and_weekends(samples: Sequence[Sample]) -> None:
    times = [sample.event["occurred_at"] for sample in samples]
    assert sum(9 <= time.hour < 17 for time in times) > 2 * sum(time.hour < 6 for time in times)
    assert sum(time.weekday() < 5 for time in times) > 3 * sum(
        time.weekday() >= 5 for time in times
    )


# --- attempts and outcomes ---------------------------------------------------------------------


def test_no_outcome_is_without_its_attempt(samples: Sequence[Sample]) -> None:
    paired = {name for name, found in OPERATIONS.items() if len(found) > 1}
    for _, event in samples:
        assert ("correlation_id" in event) == (action(event["action"]).operation in paired)


def test_attempt_and_outcome_belong_together(operations: list[Operation]) -> None:
    for attempt, *outcomes in operations:
        assert action(attempt["action"]).phase is Phase.ATTEMPTED
        assert len(outcomes) <= 1
        for outcome in outcomes:
            assert action(outcome["action"]).operation == action(attempt["action"]).operation
            took = outcome["occurred_at"] - attempt["occurred_at"]
            assert timedelta(milliseconds=20) <= took <= timedelta(seconds=30)


def test_attempt_and_outcome_tell_the_same(operations: list[Operation]) -> None:
    for attempt, *outcomes in operations:
        keys = action(attempt["action"]).keys_by_name
        for outcome in outcomes:
            for name, key in action(outcome["action"]).keys_by_name.items():
                if name in keys and keys[name].meaning == key.meaning:
                    told = [
                        each["context"][name]
                        for each in (attempt, outcome)
                        if name in each["context"]
                    ]
                    assert all(one == other for one, other in pairwise(told))


def test_few_attempts_stay_open(operations: list[Operation]) -> None:
    still_open = sum(len(events) == 1 for events in operations)
    assert 0 < still_open < len(operations) * 0.01


# --- what happens ------------------------------------------------------------------------------


def test_every_action_occurs(samples: Sequence[Sample]) -> None:
    assert set(actions(samples)) == set(AuditAction)


def test_every_action_occurs_from_5000_events_on_whatever_the_seed() -> None:
    for seed in range(3):
        assert set(actions(made(5_000, seed=seed))) == set(AuditAction)


@pytest.mark.parametrize("count", [5_000, 40_000])
def test_a_few_outcomes_are_failures(count: int) -> None:
    outcomes = Counter[Outcome]()
    for found, times in actions(made(count)).items():
        outcomes[found.outcome] += times
    decided = outcomes[Outcome.FAILURE] + outcomes[Outcome.SUCCESS]
    assert 0.03 < outcomes[Outcome.FAILURE] / decided < 0.08


def test_every_operation_has_its_habits_and_a_place() -> None:
    places = {
        name for place in ("visit", "door", "console", "job") for name in mix(place).operations
    }
    theirs = {member.operation for member in AuditAction}
    assert set(HABITS) == theirs
    assert theirs - places == {"user_login", "user_logout"}


def test_one_address_guesses_at_many_accounts(samples: Sequence[Sample]) -> None:
    accounts = defaultdict(set)
    for event in named(samples, AuditAction.USER_LOGIN_FAILED):
        accounts[event["ip_address"]].add(event["context"].get("email"))
    assert max(len(emails) for emails in accounts.values()) >= 20


def test_one_account_is_entered_after_many_failures(samples: Sequence[Sample]) -> None:
    failed = named(samples, AuditAction.USER_LOGIN_FAILED)
    last = next(event for event in failed if event["context"].get("attempts") == 7)
    entered = named(samples, AuditAction.USER_LOGIN_SUCCESS)
    hour = timedelta(hours=1)
    assert any(
        timedelta(0) < event["occurred_at"] - last["occurred_at"] < hour
        and event["user_id"] == last["user_id"]
        and event["ip_address"] == last["ip_address"]
        for event in entered
    )


def test_one_user_is_denied_again_and_again(samples: Sequence[Sample]) -> None:
    users = Counter(event["user_id"] for event in named(samples, AuditAction.ACCESS_DENIED))
    assert max(users.values()) >= 10


def test_the_highest_role_is_given_at_night(samples: Sequence[Sample]) -> None:
    assert any(
        event["context"].get("role_name") == "admin" and event["occurred_at"].hour == 2
        for event in named(samples, AuditAction.ROLE_ASSIGNED)
    )


def test_one_user_exports_everything(samples: Sequence[Sample]) -> None:
    users = Counter(
        event["user_id"]
        for event in named(samples, AuditAction.DATA_EXPORTED)
        if event["context"].get("file_size", 0) > 700_000_000
    )
    assert max(users.values()) >= 7


# --- what they say -----------------------------------------------------------------------------


def test_ingest_would_take_each_of_them(samples: Sequence[Sample]) -> None:
    for _, event in samples:
        assert wire.read(event).changed == []


def test_few_contexts_are_untidy(samples: Sequence[Sample]) -> None:
    codes = Counter(warning.code for _, event in samples for warning in wire.read(event).warnings)
    assert set(codes) == {"missing_key", "unknown_key"}
    assert 0.005 < codes["missing_key"] / COUNT < 0.02
    assert 0.002 < codes["unknown_key"] / COUNT < 0.01


def test_values_are_of_the_type_and_among_those_that_the_catalogue_names(
    samples: Sequence[Sample],
) -> None:
    for _, event in samples:
        keys = action(event["action"]).keys_by_name
        for name, value in event["context"].items():
            if (key := keys.get(name)) is None:
                continue
            assert isinstance(value, TYPES[key.type]), (event["action"], name, value)
            if key.examples and not key.open:
                assert set(value if key.type == "list" else [value]) <= set(key.examples)


def test_addresses_are_those_reserved_for_documentation(samples: Sequence[Sample]) -> None:
    networks = [ip_network(network) for network in DOCUMENTATION]
    for address in {event["ip_address"] for _, event in samples}:
        assert any(ip_address(address) in network for network in networks)


def test_mail_goes_to_nobody(samples: Sequence[Sample]) -> None:
    for _, event in samples:
        for name in {"email", "user_email"} & event["context"].keys():
            assert event["context"][name].endswith(("@example.com", "@example.org", "@example.net"))


def test_a_session_goes_on_through_a_visit(samples: Sequence[Sample]) -> None:
    """What a session did is found under its id, from the sign-in's event to the sign-out."""
    seen: dict[str, set[str]] = defaultdict(set)
    for _, event in samples:
        if session := event["context"].get("session_id"):
            seen[session].add(action(event["action"]).operation)
    assert sum("user_logout" in found and len(found) > 1 for found in seen.values()) > 50
