"""The commands that write: load_events and issue_api_key."""

import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from audit.ingest import PORTAL, ingest, now
from audit.keys import issue_key, revoke_key
from audit.management.commands import load_events
from audit.models import ApiKey, AuditEvent, Source

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

GOOD = '{"action":"user_logout","context":{"session_id":"s","logout_method":"explicit"}}'


def run(*args: str) -> tuple[str, str]:
    """What a command prints on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*args, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def written() -> Any:
    return AuditEvent.objects.exclude(source=PORTAL)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes lines into a file and gives its name."""

    def made(*lines: str | bytes) -> str:
        path = tmp_path / "events.ndjson"
        path.write_bytes(
            b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        )
        return str(path)

    return made


# --- load_events -------------------------------------------------------------------------------


def test_all_events_of_a_file_are_stored(file: Any) -> None:
    out, _ = run("load_events", file(GOOD, "", GOOD, '{"action":"user_logout"}'))
    assert out == "stored 3 events (2 warnings)\n"
    assert set(written().values_list("source", "key")) == {("load-events", "")}


def test_standard_input_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{GOOD}\n".encode())))
    out, _ = run("load_events", "-", "--source", "sshd")
    assert out == "stored 1 events (0 warnings)\n"
    assert written().get().source == "sshd"


def test_more_than_a_batch_is_stored(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_events, "BATCH", 4)
    out, _ = run("load_events", file(*[GOOD] * 10))
    assert out.startswith("stored 10 events")
    assert written().count() == 10


def test_bad_lines_are_named_and_nothing_is_stored(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_events, "BATCH", 2)
    name = file(GOOD, GOOD, GOOD, '{"action":"nope"}', "", b"\xff", GOOD, '{"foo":1}')
    with pytest.raises(CommandError) as error:
        run("load_events", name, "--source", "new")
    lines = str(error.value).splitlines()
    assert lines[0] == "nothing was stored:"
    assert lines[1].startswith("  line 4, /action: unknown action 'nope'")
    assert lines[2].startswith("  line 6: not UTF-8")
    assert lines[3].startswith("  line 8, /action: ")
    assert lines[4].startswith("  line 8, /foo: ")
    assert not written().exists()
    assert not Source.objects.filter(name="new").exists()


def test_of_many_bad_lines_a_hundred_are_named(file: Any) -> None:
    with pytest.raises(CommandError) as error:
        run("load_events", file(*["{"] * 130))
    lines = str(error.value).splitlines()
    assert len(lines) == 102
    assert lines[-1] == "  and 30 more"


def test_an_endless_line_is_passed_over(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_events, "LONGEST_LINE", 100)
    with pytest.raises(CommandError) as error:
        run("load_events", file(GOOD, "x" * 350, "{}"))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  line 2", "  line 3, /action"]


def test_every_batch_says_what_is_wrong_with_it(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_events, "LONGEST_LINE", 100)
    monkeypatch.setattr(load_events, "BATCH", 1)
    with pytest.raises(CommandError) as error:
        run("load_events", file(*[GOOD] * 9, "x" * 350, "{}", *[GOOD] * 9))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  line 10", "  line 11, /action"]
    assert not written().exists()


def test_a_file_that_is_stored_already_changes_nothing(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_events, "BATCH", 2)
    numbers = range(int(now().timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62, 2**128)[:5]
    lines = [json.dumps({"id": str(UUID(int=n)), "action": "user_logout"}) for n in numbers]
    for _ in range(2):
        out, _ = run("load_events", file(*lines))
        assert out.startswith("stored 5 events")
    assert written().count() == 5


def test_an_id_that_is_taken_names_its_line(file: Any) -> None:
    id = str(UUID(int=int(now().timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62 | 4711))
    ingest([{"id": id, "action": "user_logout", "user_id": "ada"}], source="load-events")
    again = json.dumps({"id": id, "action": "user_logout", "user_id": "eve"})
    with pytest.raises(CommandError, match="line 2, /id: the id"):
        run("load_events", file(GOOD, again))
    assert written().count() == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nowhere/at/all"], "/nowhere/at/all: No such file"),
        (["/tmp"], "/tmp: Is a directory"),
        (["FILE", "--source", "Bad Name"], "lower-case"),
        (["FILE", "--source", PORTAL], "the portal's own"),
    ],
)
def test_a_bad_argument_is_one_clear_sentence(arguments: list[str], says: str, file: Any) -> None:
    name = file(GOOD)
    with pytest.raises(CommandError, match=says):
        run("load_events", *[name if argument == "FILE" else argument for argument in arguments])
    assert not written().exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_it_is_and_then_nothing_of_it(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(load_events, "BATCH", 1)
    run("load_events", file(GOOD, GOOD))
    steps = terminal.getvalue().split("\r")
    assert steps[1].startswith(f"[{'#' * 20}{' ' * 20}]  5")
    assert steps[2].startswith(f"[{'#' * 40}] 100%")
    assert steps[-2].strip() == ""


# --- issue_api_key -----------------------------------------------------------------------------


def test_a_key_is_printed_alone_and_opens_what_its_scopes_say() -> None:
    out, err = run("issue_api_key", "crm.eu", "--scopes", "write,read", "--name", "nightly")
    assert out.count("\n") == 1
    key = ApiKey.objects.get()
    assert out.strip().startswith(f"{key.prefix}.")
    assert (key.source.name, key.name, key.scopes) == ("crm.eu", "nightly", ["write", "read"])
    assert "cannot be shown again" in err
    client = Client(headers={"Authorization": f"Api-Key {out.strip()}"})
    assert client.get("/api/v1/events/").status_code == 200


def test_a_key_may_write_unless_more_is_said() -> None:
    run("issue_api_key", "crm")
    run("issue_api_key", "crm")
    assert [key.scopes for key in ApiKey.objects.all()] == [["write"], ["write"]]
    assert Source.objects.count() == 1


def test_issuing_a_key_is_recorded() -> None:
    run("issue_api_key", "crm", "--expires", "2999-12-31")
    key = ApiKey.objects.get()
    event = AuditEvent.objects.get(action="portal_api_key_issued")
    assert event.context == {
        "key_prefix": key.prefix,
        "source": "crm",
        "scopes": ["write"],
        "expires_at": "3000-01-01T00:00:00.000000Z",
    }
    assert (event.source, event.actor_type) == (PORTAL, "system")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Bad Name"], "lower-case"),
        ([PORTAL], "the portal's own"),
        (["crm", "--scopes", "write,root"], "'root' is no scope"),
        (["crm", "--scopes", ""], "'' is no scope"),
        (["crm", "--expires", "soon"], "'soon' is no day"),
        (["crm", "--expires", "9999-12-31"], "'9999-12-31' is no day"),
        (["crm", "--expires", "2020-01-01"], "ended already"),
        (["crm", "--name", "x" * 51], "at most 50"),
    ],
)
def test_a_key_that_cannot_be_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run("issue_api_key", *arguments)
    assert not ApiKey.objects.exists()
    assert not Source.objects.exists()
    assert not AuditEvent.objects.exists()


def test_revoking_a_key_ends_it_and_is_recorded_once() -> None:
    key, text = issue_key(source="crm", name="x", scopes=["read"])
    revoke_key(key, reason="leaked", who={"user_id": "ada", "actor_type": "user"})
    revoke_key(key, reason="leaked")
    client = Client(headers={"Authorization": f"Api-Key {text}"})
    assert client.get("/api/v1/events/").status_code == 401
    event = AuditEvent.objects.get(action="portal_api_key_revoked")
    assert event.user_id == "ada"
    assert event.context == {"key_prefix": key.prefix, "source": "crm", "reason": "leaked"}
