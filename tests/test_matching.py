"""Which outcome belongs to which attempt, whatever comes in whichever order."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.enums import OPERATIONS, AuditAction, Phase
from audit.matching import HALVES, LOOKED_AT, WINDOW, Half, match

START = datetime(2026, 3, 1, tzinfo=UTC)
numbers = iter(range(1, 10**9))


def half(is_attempt, seconds=0.0, correlation_id="c", operation="user_login", source="a", **said):
    return Half(
        UUID(int=next(numbers)),
        is_attempt,
        operation,
        source,
        correlation_id,
        START + timedelta(seconds=seconds),
        said,
    )


def attempt(seconds=0.0, correlation_id="c", **said):
    return half(True, seconds, correlation_id, **said)


def outcome(seconds=0.0, correlation_id="c", **said):
    return half(False, seconds, correlation_id, **said)


def joined(*arriving, waiting=()):
    """The ids of the halves that were joined, and whether it was inferred."""
    matches, _ = match(waiting, arriving)
    return [(m.attempt.id, m.outcome.id, m.is_inferred) for m in matches]


def in_blocks(halves, sizes):
    """Match them as a follower does: some at a time, those that wait being kept."""
    waiting, matches = [], []
    while halves:
        size = sizes.pop() if sizes else len(halves)
        block, halves = halves[:size], halves[size:]
        found, waiting = match(waiting, block)
        matches += found
    return matches, waiting


# --- the catalogue -----------------------------------------------------------------------------


def test_an_operation_is_joined_if_it_has_one_attempt_and_what_stands_alone_is_not():
    for members in OPERATIONS.values():
        known = [HALVES[member.value] for member in members if member.value in HALVES]
        assert len(known) == (0 if members[0].phase is Phase.EVENT else len(members))
        assert sum(known) == bool(known)


def test_both_names_of_the_failed_password_reset_are_its_outcomes():
    for action in (
        AuditAction.USER_PASSWORD_RESET_FAILED,
        AuditAction.PASSWORD_RESET_CONFIRM_FAILED,
    ):
        assert action.operation == "password_reset_confirm"
        assert HALVES[action.value] is False


# --- by the correlation id ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 1, 10**6, -5])
def test_a_correlation_id_joins_whenever_the_outcome_came(seconds):
    a, o = attempt(), outcome(seconds)
    assert joined(a, o) == joined(o, a) == [(a.id, o.id, False)]
    assert joined(a, waiting=[o]) == joined(o, waiting=[a]) == [(a.id, o.id, False)]


@pytest.mark.parametrize(
    "other",
    [
        {"correlation_id": "d"},
        {"operation": "user_logout"},
        {"source": "b"},
        {"correlation_id": None, "user_id": "u"},
    ],
)
def test_what_differs_in_correlation_id_operation_or_source_is_not_joined(other):
    assert joined(attempt(user_id="u"), outcome(1, **({"user_id": "u"} | other))) == []


def test_of_several_tries_with_one_correlation_id_the_outcome_closes_the_last_before_it():
    first, second, o, third = attempt(0), attempt(10), outcome(11), attempt(20)
    assert joined(first, second, o, third) == [(second.id, o.id, False)]
    assert joined(third, o, waiting=[first, second]) == [(second.id, o.id, False)]


def test_an_attempt_takes_the_first_outcome_after_it():
    early, a, late = outcome(-9), attempt(0), outcome(9)
    assert joined(a, waiting=[early, late]) == [(a.id, late.id, False)]


# --- without one -------------------------------------------------------------------------------


def guess(seconds=0.0, **said):
    return outcome(seconds, None, **said)


def test_without_a_correlation_id_what_both_say_joins_them_and_that_is_said():
    a = attempt(0, None, ip_address="192.0.2.7", email="ada@example.com")
    o = guess(1, ip_address="192.0.2.7", user_id="u-1")
    assert joined(o, a) == [(a.id, o.id, True)]


@pytest.mark.parametrize(
    "said", [{}, {"ip_address": "192.0.2.8"}, {"ip_address": "192.0.2.7", "user_id": "u-2"}]
)
def test_nothing_shared_or_something_that_differs_joins_nothing(said):
    assert joined(attempt(0, None, ip_address="192.0.2.7", user_id="u-1"), guess(1, **said)) == []


@pytest.mark.parametrize(
    ("seconds", "is_joined"),
    [(0, True), (WINDOW.total_seconds(), True), (WINDOW.total_seconds() + 1, False), (-1, False)],
)
def test_it_is_inferred_only_within_the_window_after_the_attempt(seconds, is_joined):
    a, o = attempt(0, None, user_id="u"), guess(seconds, user_id="u")
    assert bool(joined(a, o)) is bool(joined(a, waiting=[o])) is is_joined


def test_of_several_the_nearest_is_taken():
    far, near = attempt(0, None, user_id="u"), attempt(5, None, user_id="u")
    o = guess(6, user_id="u")
    assert joined(far, o, near) == [(near.id, o.id, True)]


def test_the_nearest_that_differs_hides_no_other():
    right = attempt(0, None, ip_address="192.0.2.7", user_id="u-1")
    wrong = [attempt(n, None, ip_address="192.0.2.7", user_id="u-2") for n in range(1, LOOKED_AT)]
    o = guess(500, ip_address="192.0.2.7", user_id="u-1")
    assert joined(right, *wrong, o) == [(right.id, o.id, True)]


# --- whatever comes ----------------------------------------------------------------------------

halves = st.lists(
    st.builds(
        half,
        st.booleans(),
        st.integers(0, 2_000),
        st.sampled_from([None, "c", "d"]),
        st.sampled_from(["user_login", "access"]),
        st.sampled_from(["a", "b"]),
        user_id=st.sampled_from(["u", "v"]),
        ip_address=st.sampled_from(["192.0.2.7", "192.0.2.8"]),
    ),
    max_size=16,
)
sizes = st.lists(st.integers(1, 6), max_size=8)


@given(halves, sizes)
def test_each_half_is_in_one_pair_or_waits(given_halves, sizes):
    matches, waiting = in_blocks(given_halves, sizes)
    ids = [h.id for m in matches for h in (m.attempt, m.outcome)] + [h.id for h in waiting]
    assert Counter(ids) == Counter(h.id for h in given_halves)


@given(halves, sizes)
def test_what_is_joined_agrees(given_halves, sizes):
    for one, other, is_inferred in in_blocks(given_halves, sizes)[0]:
        assert (one.is_attempt, other.is_attempt) == (True, False)
        assert (one.operation, one.source) == (other.operation, other.source)
        assert one.correlation_id == other.correlation_id
        assert is_inferred is (one.correlation_id is None)
        if is_inferred:
            assert one.identifiers == other.identifiers
            assert timedelta() <= other.occurred_at - one.occurred_at <= WINDOW


@given(halves, sizes, st.randoms(use_true_random=False))
def test_a_correlation_id_closes_as_many_in_any_order_and_any_blocks(given_halves, sizes, random):
    shuffled = [*given_halves]
    random.shuffle(shuffled)

    def closed(matches):
        return Counter(
            (m.attempt.operation, m.attempt.source, m.attempt.correlation_id)
            for m in matches
            if not m.is_inferred
        )

    expected = Counter()
    for key in {(h.operation, h.source, h.correlation_id) for h in given_halves}:
        of_key = [h for h in given_halves if (h.operation, h.source, h.correlation_id) == key]
        attempts = sum(h.is_attempt for h in of_key)
        if key[2] is not None:
            expected[key] = min(attempts, len(of_key) - attempts)
    assert closed(in_blocks(given_halves, [*sizes])[0]) == +expected
    assert closed(in_blocks(shuffled, [*sizes])[0]) == +expected


@given(halves, st.randoms(use_true_random=False))
def test_within_a_block_the_order_of_arrival_does_not_matter(given_halves, random):
    shuffled = [*given_halves]
    random.shuffle(shuffled)
    assert set(joined(*given_halves)) == set(joined(*shuffled))
