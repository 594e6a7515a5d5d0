"""Evidence of reviews: what the ZIP holds, that it can be checked, and who may take it away."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from audit import tasks
from audit.enums import Category, PortalAction
from audit.ledger.copying import write_copy
from audit.ledger.storage import head
from audit.models import SignOff
from audit.review import evidence
from audit.review.alerts import decide_benign
from audit.review.findings import About, close, confirm, open_finding
from audit.review.signing import sign_second
from tests.test_pages import recorded, seen
from tests.test_review_days import (
    CALENDAR,
    TODAY,
    YESTERDAY,
    an_alert,
    at_work,
    happened,
    sign,
    staff,
)

VERIFIER = Path(__file__).parent.parent / "static" / "audit" / "verify_log.py"
ZIP = f"{CALENDAR}evidence.zip"
THAT_DAY = {"from": str(YESTERDAY), "to": str(YESTERDAY)}


@pytest.fixture
def reviewed(own_database: str) -> User:
    """A day on which everything happened: an alert, an exception, two signatures, a late event."""
    eve, bob = staff("eve"), staff("bob", "Manager")
    happened({"user_id": "eve"}, {"user_id": "u-2"})
    benign, bad = an_alert(), an_alert()
    decide_benign(benign.pk, "a typing error", by="eve")
    finding = open_finding(
        About(alerts=[bad.pk]), title="Guessing", reason="too many", owner="bob", severity="high",
        due=TODAY + timedelta(days=3), by="eve", token=uuid4(),
    )  # fmt: skip
    close(finding.pk, "event", "blocked the address", by="eve")
    confirm(finding.pk, "looked at it", by="bob")
    sign_second(bob, sign(eve, comment="=1+1"), comment="fine")
    happened({"user_id": "late"})
    sign(bob, comment="one late event")
    tasks.seal_pending()
    return bob


def unpacked(content: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def download(user: User, **asked: Any) -> dict[str, bytes]:
    answer = at_work(user).get(ZIP, asked)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/zip"
    return unpacked(b"".join(answer.streaming_content))


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_evidence_of_a_day_holds_all_of_it(reviewed):
    files = download(reviewed, **THAT_DAY)
    first, second = (
        row for row in rows(files["signoffs.csv"]) if row["category"] == "authentication"
    )
    assert (first["signed_by"], first["second_by"], first["events"]) == ("eve", "bob", "2")
    assert first["comment"] == "'=1+1", "a spreadsheet runs nothing"
    assert (second["number"], second["signed_by"], second["events"]) == ("2", "bob", "3")
    kept = json.loads(files["signoffs.json"])
    assert [one["totals"] for one in kept] == [{"user_login_failed": 2}, {"user_login_failed": 3}]
    assert [one["title"] for one in kept[0]["exceptions"]] == ["Guessing"]
    assert {"failed-sign-ins-user"} <= {rule["rule"] for rule in kept[0]["rule_versions"]}
    assert [len(one["log_entries"]) for one in kept] == [2, 1]
    for one in kept:
        assert files[f"checkpoints/{one['tree_size']:020}"].decode() == one["checkpoint"]

    alerts = json.loads(files["alerts.json"])
    assert sorted(alert["status"] for alert in alerts) == ["benign", "exception"]
    history = [step for alert in alerts for step in alert["history"]]
    assert "a typing error" in [step["text"] for step in history]
    [finding] = json.loads(files["exceptions.json"])
    assert [step["kind"] for step in finding["history"]] == ["opened", "close_asked", "closed"]
    assert [step["by"] for step in finding["history"]] == ["eve", "eve", "bob"]
    assert finding["alerts"] == [alert["id"] for alert in alerts if alert["status"] == "exception"]

    assert {"day": str(YESTERDAY), "zone": "UTC", "category": "authentication",
            "action": "user_login_failed", "outcome": "failure",
            "events": "3"} in rows(files["totals.csv"])  # fmt: skip
    calendar = {row["category"]: row for row in rows(files["calendar.csv"])}
    assert calendar["authentication"]["state"] == "signed"
    assert calendar["authentication"]["signatures"] == "2"
    rules = json.loads(files["rules.json"])
    assert all(rule["clauses"] and rule["words"] for rule in rules)
    assert b"verify_log.py proofs" in files["README.txt"]


def test_a_file_says_of_each_of_the_others_its_sum(reviewed):
    files = download(reviewed, **THAT_DAY)
    lines = files.pop("SHA256SUMS").decode().splitlines()
    assert dict(reversed(line.split("  ")) for line in lines) == {
        name: sha256(content).hexdigest() for name, content in files.items()
    }


def test_the_evidence_names_nobody_whom_an_event_is_about(reviewed):
    for name, content in download(reviewed, **THAT_DAY).items():
        assert b"u-2" not in content, name
        assert b"192.0.2.7" not in content, name
        assert b"ada@example.com" not in content, name


def test_an_assessor_checks_the_evidence_against_the_log_as_the_readme_says(reviewed, tmp_path):
    for name, content in download(reviewed, **THAT_DAY).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    told = (tmp_path / "README.txt").read_text()
    commands = re.findall(r"^ {5}(\S.*)$", told, re.MULTILINE)
    assert len(commands) == 3
    done = subprocess.run(commands[0].split(), cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout
    write_copy(tmp_path / "FOLDER", head())
    for command in commands[1:]:
        python, script, *arguments = command.split()
        assert (python, script) == ("python3", "verify_log.py")
        run = [sys.executable, str(VERIFIER), *arguments]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
    entries = [json.loads(path.read_text()) for path in (tmp_path / "proofs").glob("*.entry")]
    assert sorted(entry["action"] for entry in entries) == [
        "portal_day_countersigned", "portal_day_signed_off", "portal_day_signed_off",
    ]  # fmt: skip
    assert {entry["context"]["count"] for entry in entries} == {2, 3}


def test_a_days_totals_are_of_the_zone_in_which_it_was_signed(reviewed, settings):
    settings.AUDITPORTAL_REVIEW_ZONE = "Pacific/Kiritimati"  # there, noon is tomorrow
    files = download(reviewed, **THAT_DAY)
    signed, total = rows(files["signoffs.csv"])[-1], rows(files["totals.csv"])[0]
    assert [total[name] for name in ("day", "zone", "category", "events")] == [
        signed[name] for name in ("day", "zone", "category", "events")
    ]
    assert len(json.loads(files["alerts.json"])) == 2


def test_taking_evidence_away_is_recorded_as_an_export(reviewed):
    download(reviewed, **THAT_DAY, category=["authentication", "session"])
    attempt, done = recorded(
        PortalAction.PORTAL_EXPORT_ATTEMPTED, PortalAction.PORTAL_EVENTS_EXPORTED
    )
    assert attempt.correlation_id == done.correlation_id
    assert (done.user_id, done.context["format"], done.context["count"]) == ("bob", "zip", 2)
    assert done.context["size"] > 1_000
    chosen = f"from={YESTERDAY}&to={YESTERDAY}&category=authentication&category=session"
    assert done.personal_context["filter"] == chosen


def test_only_chosen_days_and_categories_are_in_it(reviewed):
    files = download(reviewed, **THAT_DAY, category="session")
    assert rows(files["signoffs.csv"]) == []
    assert json.loads(files["alerts.json"]) == []
    before = str(YESTERDAY - timedelta(days=1))
    files = download(reviewed, **{"from": before, "to": before})
    assert json.loads(files["signoffs.json"]) == json.loads(files["exceptions.json"]) == []
    assert {row["day"] for row in rows(files["calendar.csv"])} == {before}


def test_only_who_may_export_takes_evidence_away(reviewed):
    assert at_work(User.objects.get(username="eve")).get(ZIP, THAT_DAY).status_code == 403
    assert at_work(User.objects.create_user("x", is_staff=True)).get(ZIP).status_code == 403
    assert recorded(PortalAction.PORTAL_EXPORT_ATTEMPTED) == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "is no day; write it like 2026-03-01"),
        ({"from": "x", "to": "y"}, "from: 'x' is no day"),
        ({"from": str(TODAY), "to": str(YESTERDAY)}, "lies after the last one"),
        ({"from": "2026-01-01", "to": str(TODAY)}, "at most 92 days"),
        ({"from": "9999-12-31", "to": "9999-12-31"}, "between 1970 and today"),
        ({"from": "0001-01-01", "to": "0001-01-01"}, "between 1970 and today"),
        ({**THAT_DAY, "category": "nothing"}, "there is no category 'nothing'"),
    ],
)
def test_days_that_make_no_evidence_are_told(reviewed, asked, told):
    answer = at_work(reviewed).get(ZIP, asked, follow=True)
    assert "No evidence was made" in seen(answer).text
    assert told in answer.content.decode().replace("&#x27;", "'")


def test_the_command_writes_the_same(reviewed, tmp_path, capsys):
    output = tmp_path / "review.zip"
    day = str(YESTERDAY)
    call_command("export_review", "--from", day, "--to", day, "-o", str(output))
    files = unpacked(output.read_bytes())
    same = ("signoffs.csv", "signoffs.json", "alerts.json", "exceptions.json", "rules.json")
    other = download(reviewed, **THAT_DAY)
    assert {name: files[name] for name in same} == {name: other[name] for name in same}
    assert f"holds the reviews of {day} to {day}" in capsys.readouterr().out
    [done] = recorded(PortalAction.PORTAL_EVENTS_EXPORTED)[:1]
    assert done.actor_type == "system"


def test_the_command_says_what_is_wrong(reviewed, tmp_path):
    day, before = str(YESTERDAY), str(YESTERDAY - timedelta(days=1))
    with pytest.raises(CommandError, match="lies after the last one"):
        call_command("export_review", "--from", day, "--to", before, "-o", str(tmp_path / "x"))
    with pytest.raises(CommandError, match="is no day"):
        call_command("export_review", "--from", "x", "--to", day, "-o", str(tmp_path / "x"))
    with pytest.raises(CommandError, match="No such file"):
        call_command("export_review", "--from", day, "--to", day, "-o", str(tmp_path / "a" / "x"))


def test_a_days_evidence_of_nothing_is_complete_too(own_database, tmp_path):
    tasks.seal_pending()
    with (tmp_path / "x.zip").open("wb") as file:
        count = evidence.write(
            file, evidence.chosen(YESTERDAY, YESTERDAY, list(Category), datetime.now(UTC))
        )
    files = unpacked((tmp_path / "x.zip").read_bytes())
    assert count == 0 == SignOff.objects.count()
    assert json.loads(files["signoffs.json"]) == []
    assert len(rows(files["calendar.csv"])) == 9
