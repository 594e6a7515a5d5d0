"""The catalogue's rules. They hold for every line of the table; none of them copies the table."""

from collections import Counter
from io import StringIO
from typing import get_args

import pytest
from django.core.management.base import CommandError

from audit.enums import (
    ACTIONS,
    CONTEXT_KEYS,
    FRAMEWORKS,
    OPERATIONS,
    AuditAction,
    Category,
    KeyType,
    Outcome,
    Phase,
    PortalAction,
    Sensitivity,
    action,
    action_choices,
    parse_keys,
)
from audit.management.commands.describe_actions import Command, describe_key, row

EVERY_SLOT = [(member, key) for member in ACTIONS.values() for key in member.context_keys]


def outcomes_by_operation():
    """Operation → how often each outcome occurs, over the applications' actions."""
    counts = {member.operation: Counter() for member in AuditAction}
    for member in AuditAction:
        counts[member.operation][member.outcome] += 1
    return counts


def test_there_are_110_actions_in_sections_of_the_known_sizes():
    sizes = Counter(member.category.value for member in AuditAction)
    assert sizes == {
        "authentication": 37,
        "authorization": 12,
        "data_access": 10,
        "administrative": 13,
        "provider": 14,
        "session": 9,
        "data_sync": 12,
        "rate_limit": 3,
    }
    assert sizes.total() == 110


def test_sections_are_contiguous_and_in_the_order_of_the_categories():
    order = list(Category)
    positions = [order.index(member.category) for member in ACTIONS.values()]
    assert positions == sorted(positions)


def test_every_category_is_kept_for_a_framework_except_the_portals_own():
    assert tuple(FRAMEWORKS) == ("PCI-DSS", "SOC 2", "GDPR", "Security")
    assert {category for category in Category if not category.frameworks} == {Category.PORTAL}
    assert {name for category in Category for name in category.frameworks} == set(FRAMEWORKS)


@pytest.mark.parametrize("member", ACTIONS.values())
def test_an_action_is_its_value_wherever_a_string_is_expected(member):
    assert member.value == member.name.lower() == str(member) == f"{member}"
    assert member == member.value
    assert isinstance(member, str)
    assert len(member.value) <= 64
    assert type(member)(member.value) is member
    assert member.frameworks == member.category.frameworks


def test_values_are_unique_over_both_enums():
    assert len(ACTIONS) == len(AuditAction) + len(PortalAction)


def test_labels_are_unique_short_phrases():
    labels = [member.label for member in ACTIONS.values()]
    assert len(set(labels)) == len(labels)
    assert all(label[0].isupper() and label[-1].isalnum() for label in labels)
    assert max(map(len, labels)) <= 48


def test_phases_and_outcomes_have_the_known_totals():
    assert Counter(member.phase.value for member in AuditAction) == {
        "attempted": 34,
        "failed": 32,
        "succeeded": 32,
        "event": 8,
        "denied": 2,
        "granted": 1,
        "allowed": 1,
    }
    assert Counter(member.outcome.value for member in AuditAction) == {
        "pending": 34,
        "failure": 35,
        "success": 40,
        "informational": 1,
    }


def test_34_operations_have_an_attempt_and_8_stand_alone():
    alone = {member.operation for member in AuditAction if member.phase is Phase.EVENT}
    tried = {member.operation for member in AuditAction if member.phase is Phase.ATTEMPTED}
    assert (len(tried), len(alone), len(outcomes_by_operation())) == (34, 8, 42)
    assert not tried & alone


def test_every_attempt_can_succeed_in_one_way_and_fail_in_one_way():
    excused = {
        "password_reset_request": 0,  # asking for a reset has no failure of its own
        "password_reset_confirm": 2,  # one failure that goes by two names
    }
    for operation, counts in outcomes_by_operation().items():
        if counts[Outcome.PENDING]:
            failures = excused.get(operation, 1)
            assert counts == Counter(pending=1, success=1, failure=failures), operation


def test_an_action_that_stands_alone_is_the_only_one_of_its_operation():
    for member in AuditAction:
        if member.phase is Phase.EVENT:
            assert OPERATIONS[member.operation] == (member,)


def test_every_action_belongs_to_one_operation_within_one_category():
    assert sorted(m for members in OPERATIONS.values() for m in members) == sorted(ACTIONS)
    for operation, members in OPERATIONS.items():
        assert len({member.category for member in members}) == 1, operation


def test_the_portals_own_actions_are_told_apart_by_name_and_category():
    for member in PortalAction:
        assert member.value.startswith("portal_")
        assert member.operation.startswith("portal_")
        assert member.category is Category.PORTAL
        assert member.frameworks == ()
    assert not any(member.value.startswith("portal_") for member in AuditAction)


def test_applications_have_96_context_keys_in_284_places():
    names = [key.name for member in AuditAction for key in member.context_keys]
    assert (len(set(names)), len(names)) == (96, 284)


@pytest.mark.parametrize("name", CONTEXT_KEYS)
def test_every_context_key_is_classified_and_described(name):
    key = CONTEXT_KEYS[name]
    assert key.type in get_args(KeyType)
    assert isinstance(key.sensitivity, Sensitivity)
    for text in filter(None, (key.meaning, key.when)):
        assert text == text.strip()
        assert not text.endswith((".", ",", ";"))


def test_no_context_key_is_defined_in_vain():
    used = {(key.name, key.meaning) for _, key in EVERY_SLOT}
    defined = {(name.partition(":")[0], key.meaning) for name, key in CONTEXT_KEYS.items()}
    assert used == defined
    assert len(defined) == len(CONTEXT_KEYS)


def test_every_condition_is_used():
    used = {key.conditional for _, key in EVERY_SLOT}
    assert used == {key.when for key in CONTEXT_KEYS.values()}


def test_one_context_key_has_one_type_and_one_sensitivity_everywhere():
    facts = {(key.name, key.type, key.sensitivity) for _, key in EVERY_SLOT}
    assert len(facts) == len({name for name, _, _ in facts})


def test_only_keys_with_examples_are_open():
    assert not [key for _, key in EVERY_SLOT if key.open and not key.examples]


def test_keys_by_name_finds_every_context_key():
    for member, key in EVERY_SLOT:
        assert member.keys_by_name[key.name] is key
    assert all(len(m.keys_by_name) == len(m.context_keys) for m in ACTIONS.values())


def test_a_line_of_keys_is_read_in_its_order_with_examples_and_conditions():
    scope, user, reason = parse_keys("scope=ip|user|… user_id? reason:motive=manual")
    assert (scope.name, scope.examples, scope.open) == ("scope", ("ip", "user"), True)
    assert (user.name, user.examples, user.open) == ("user_id", (), False)
    assert user.conditional == CONTEXT_KEYS["user_id"].when
    assert (reason.name, reason.examples, reason.open) == ("reason", ("manual",), False)
    assert reason.meaning == CONTEXT_KEYS["reason:motive"].meaning


@pytest.mark.parametrize(
    "mistake",
    [
        "emial",  # no such key
        "reason:mood",  # no such variant
        "email?",  # nothing says when
        "scope=",
        "scope=ip||user",
        "scope=…",
        "scope=ip|…|user",
        "scope=ip,user",
        "Scope",
        "scope?=ip?",
        "email email",
        "reason reason:motive",  # two meanings of one key cannot both be stored
    ],
)
def test_a_mistake_in_a_line_of_keys_is_refused(mistake):
    with pytest.raises(ValueError, match=r"context key|CONTEXT_KEYS"):
        parse_keys(mistake)


def test_an_action_is_found_by_its_value_in_either_enum():
    assert action("user_login_failed") is AuditAction.USER_LOGIN_FAILED
    assert action("portal_event_viewed") is PortalAction.PORTAL_EVENT_VIEWED


def test_an_unknown_action_is_refused_with_the_closest_names():
    with pytest.raises(ValueError, match=r"'user_login_fail'.*user_login_failed"):
        action("user_login_fail")
    with pytest.raises(ValueError, match=r"unknown action 'x+': no action has a similar name"):
        action("x" * 10_000)


def test_choices_hold_every_action_once_under_its_category():
    choices = action_choices()
    assert [label for label, _ in choices] == [category.label for category in Category]
    pairs = [pair for _, group in choices for pair in group]
    assert pairs == [(member.value, member.label) for member in ACTIONS.values()]


def described(**options):
    """What `describe_actions` prints, as lines."""
    out = StringIO()
    Command(stdout=out, no_color=True).handle(**options)
    return out.getvalue().splitlines()


def test_the_catalogue_is_printed_with_a_heading_a_category_and_a_row_an_action():
    lines = described()
    assert [line for line in lines if line.startswith("## ")] == [f"## {c.label}" for c in Category]
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == list(ACTIONS)


def test_one_category_can_be_printed_by_itself():
    lines = described(category="rate_limit")
    assert [line for line in lines if line.startswith("## ")] == ["## Rate limit"]
    assert "Kept for Security" in "\n".join(lines)


def test_an_unknown_category_is_refused_with_the_known_ones():
    parser = Command().create_parser("manage.py", "describe_actions")
    with pytest.raises(CommandError, match=r"'nonsense' \(choose from .*rate_limit"):
        parser.parse_args(["--category", "nonsense"])


def test_a_printed_key_tells_type_sensitivity_condition_meaning_and_examples():
    (key,) = parse_keys("user_id?")
    assert describe_key(key) == f"`user_id` (string, personal, {key.conditional}): {key.meaning}"
    (key,) = parse_keys("scope=ip|user|…")
    assert describe_key(key).endswith(f"(string, plain): {key.meaning}, e.g. `ip`, `user`, …")


def test_a_pipe_cannot_end_a_cell():
    assert row("a|b", "c") == r"| a\|b | c |"
