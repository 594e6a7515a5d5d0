"""What a compliance officer should find among the sample events, and that nothing is missing.

A story is a function of the stage, its size (events, roughly) and the time it begins (µs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from audit.enums import AuditAction
from audit.samples import operations
from audit.samples.people import SCRIPT_AGENT
from audit.samples.stage import MINUTE, SECOND, Scene, Stage

Told = Callable[[Stage, int, int], None]


class Story(NamedTuple):
    """`hour` of the day (UTC) it begins; `share` of all events, between `least` and `most`."""

    tell: Told
    hour: int
    share: float
    least: int
    most: int

    def size(self, count: int) -> int:
        return min(max(int(count * self.share), self.least), self.most)


def password_guessing(stage: Stage, size: int, at: int) -> None:
    """One address tries a password on many accounts, some of which do not exist."""
    address = f"203.0.113.{stage.random.randint(10, 60)}"
    for number, person in enumerate(stage.random.sample(stage.cast.users, size // 2)):
        scene = stage.visit_scene(person, address, SCRIPT_AGENT)
        said: dict[str, Any] = {"method": "password", "attempts": 1, "reason": "invalid_password"}
        if number % 4 == 3:
            scene.fields.pop("user_id")
            scene.fields["actor_type"] = "anonymous"
            scene.facts["email"] = person.email.replace("@", ".old@")
            said["reason"] = "user_not_found"
        scene = Scene("web-app", scene.fields, scene.facts)
        stage.play(at, "user_login", scene, action="user_login_failed", **said)
        at += 3 * SECOND


def guessed_at_last(stage: Stage, size: int, at: int) -> None:
    """One account: failure after failure, then a success, and the password is changed."""
    scene = stage.visit_scene(stage.anyone(), f"203.0.113.{stage.random.randint(70, 120)}")
    for attempts in range(1, size // 2 + 1):
        said = {"method": "password", "attempts": attempts, "reason": "invalid_password"}
        at = stage.play(at, "user_login", scene, action="user_login_failed", **said) + 20 * SECOND
    said = {"method": "password", "mfa": False}
    at = stage.play(at, "user_login", scene, action="user_login_success", **said) + MINUTE
    stage.play(at, "user_password_change", scene, action="user_password_changed")


def denied_again_and_again(stage: Stage, size: int, at: int) -> None:
    """One user tries what is not theirs, until it is noticed."""
    scene = stage.visit_scene(stage.anyone())
    at = stage.sign_in(at, scene) + MINUTE
    for _ in range(size // 2):
        said = {"resource": "users", "reason": "no_permission"}
        at = stage.play(at, "access", scene, action="access_denied", **said) + 15 * SECOND
    odd: dict[str, Any] = {"activity_type": "probing", "risk_score": 91}
    odd["detection_reason"] = "many denials"
    stage.play(at, "suspicious_session_activity", scene, **odd)


def privilege_at_night(stage: Stage, size: int, at: int) -> None:
    """An administrator gives somebody the highest role when nobody is about."""
    administrator, friend = stage.random.choice(stage.cast.administrators), stage.anyone()
    session = stage.session()
    at = stage.sign_in(at, stage.console_scene(administrator, administrator, session)) + MINUTE
    scene = stage.console_scene(administrator, friend, session)
    scene.fields.pop("purpose")
    at = stage.play(at, "role_assignment", scene, action="role_assigned", role_name="admin")
    stage.play(at + 30 * SECOND, "permission_change", scene, action="permission_changed")


def mass_export(stage: Stage, size: int, at: int) -> None:
    """One user takes everything there is, file after file."""
    scene = stage.visit_scene(stage.anyone())
    at = stage.sign_in(at, scene) + MINUTE
    said: dict[str, Any] = {
        "export_format": "csv",
        "data_scope": "all",
        "export_reason": "user_request",
    }
    for number in range(size // 2):
        said["file_size"] = 734_003_200 + number * 1_048_576
        at = stage.play(at, "data_export", scene, action="data_exported", **said) + 40 * SECOND


STORIES = (
    Story(password_guessing, 4, 0.006, 44, 240),
    Story(guessed_at_last, 22, 0.001, 14, 24),
    Story(denied_again_and_again, 15, 0.002, 24, 80),
    Story(privilege_at_night, 2, 0, 6, 6),
    Story(mass_export, 19, 0.001, 16, 40),
)


def ending(stage: Stage, action: AuditAction, at: int) -> None:
    """One operation that ends with `action`, where it usually happens."""
    person, place = stage.anyone(), operations.usual_place(action.operation)
    if place == "door":
        scene = stage.door_scene(person)
    elif place == "job":
        scene = stage.job_scene(person)
    elif place == "console":
        administrator = stage.random.choice(stage.cast.administrators)
        scene = stage.console_scene(administrator, person, stage.session())
    else:
        scene = stage.visit_scene(person)
    stage.play(at, action.operation, scene, action=action.value)
