"""Record audit events from an application. One file to copy: it needs `httpx` and Python 3.11.

    client = AuditClient("https://audit.example.org", key, spool="/var/lib/shop/audit.sqlite3")
    client.record(action="user_logout", user_id="u-17", context={"session_id": "s-1"})
    with client.operation("user_login", user_id="u-17", context={"method": "password"}) as login:
        login.context["mfa"] = check(password)  # an exception is recorded, as the failure
    client.close()

`record` writes to a spool, an SQLite file on this machine, and never waits for the network. A
thread sends from there in batches. An event leaves the spool only when the portal has answered that
it is stored, so neither a crash nor a day without the portal loses one; as each has an id of its
own, one that is sent twice is stored once. Processes may share a spool, and may fork.
"""

from __future__ import annotations

import asyncio
import atexit
import encodings.idna  # noqa: F401 - else imported on connecting: see `_Sender.start`
import gzip
import json
import logging
import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from itertools import accumulate
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4
from weakref import WeakSet

import httpx

try:
    import fcntl
except ImportError:  # Windows: several processes may send the same event, which is stored once
    fcntl = None  # type: ignore[assignment]

__all__ = ["AsyncAuditClient", "AuditClient", "DeadLetter", "Operation", "SpoolFull", "Stats"]

MAX_BODY = 8 << 20
"""Bytes of one request at most, far below what the portal and common proxies take."""
MAX_PAUSE, MAX_RETRY_AFTER = 60.0, 900.0
"""Seconds between two attempts at most, of ourselves and as asked for by the portal."""

log = logging.getLogger("auditclient")


class SpoolFull(RuntimeError):
    """The event was NOT recorded: the spool has reached its bound, or the disk is full."""


class Stats(NamedTuple):
    """How a client is doing; `sent` counts from the start, what follows is of the whole spool.

    `state` is `ok`; `retrying` when the portal cannot be reached or is busy; `blocked` when it
    takes nothing until somebody helps (a key that is not valid, a wrong address): see `problem`.
    """

    state: str
    problem: str
    sent: int
    waiting: int
    dead_letters: int
    bytes: int


class DeadLetter(NamedTuple):
    """An event that the portal refused for good, and why."""

    id: UUID
    reason: str
    refused_at: str
    event: dict[str, Any]


class _Row(NamedTuple):
    seq: int
    id: str
    text: str  # the event as JSON
    unresolved: str | None  # operation, outcome and reason as JSON: the action is still to be found


class _Later(Exception):
    """The portal did not take the events; they stay. `after` is in seconds, as the portal asked."""

    def __init__(self, problem: str, *, after: float = 0, blocked: bool = False) -> None:
        super().__init__(problem)
        self.after, self.state = min(after, MAX_RETRY_AFTER), "blocked" if blocked else "retrying"


# --- the spool ---------------------------------------------------------------------------------

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,"
    " event TEXT NOT NULL, unresolved TEXT)",
    "CREATE INDEX IF NOT EXISTS unresolved ON events (seq) WHERE unresolved IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS dead_letters (seq INTEGER PRIMARY KEY, id TEXT NOT NULL,"
    " event TEXT NOT NULL, unresolved TEXT, reason TEXT NOT NULL, refused_at TEXT NOT NULL)",
)
_USED = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_COLUMNS = "seq, id, event, unresolved"

# One for all spools of the process, so that a fork can be made while none is in use.
_mutex = threading.Lock()


class _Spool:
    """The events on disk, in the order in which they were recorded. For any thread."""

    def __init__(self, path: str, max_bytes: int, *, durable: bool) -> None:
        self.path, self.max_bytes, self.durable = os.path.abspath(path), max_bytes, durable
        self._db: sqlite3.Connection | None = None
        with suppress(FileExistsError):  # events tell about people: for this user only
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
        with self.transaction() as db:
            for statement in _SCHEMA:
                db.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with _mutex:
            self._db = db = self._db or self._connect()
            try:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    yield db
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise SpoolFull(f"the disk of the spool {self.path} is full") from error
                raise

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        return db

    def disconnect(self) -> None:
        """For who holds the mutex; the next transaction connects again."""
        if self._db:
            self._db.close()
            self._db = None

    def add(self, event: dict[str, Any], unresolved: str | None, *, numbered: bool) -> None:
        with self.transaction() as db:
            if db.execute(_USED).fetchone()[0] >= self.max_bytes:
                raise SpoolFull(f"the spool {self.path} has reached its {self.max_bytes} bytes")
            if numbered:
                last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
                event["source_seq"] = (last.fetchone() or [0])[0] + 1
            row = (event["id"], _text(event), unresolved)
            db.execute("INSERT INTO events (id, event, unresolved) VALUES (?, ?, ?)", row)

    def first(self, count: int, *, unresolved: bool = False) -> list[_Row]:
        """The oldest events that can be sent, or those whose action has still to be found."""
        which = "IS NOT NULL" if unresolved else "IS NULL"
        query = f"SELECT {_COLUMNS} FROM events WHERE unresolved {which} ORDER BY seq LIMIT ?"
        with self.transaction() as db:
            return [_Row(*row) for row in db.execute(query, [count])]

    def is_empty(self) -> bool:
        with self.transaction() as db:
            return db.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None

    def remove(self, rows: Sequence[_Row]) -> None:
        with self.transaction() as db:
            db.executemany("DELETE FROM events WHERE seq = ?", [[row.seq] for row in rows])

    def resolve(self, events: Mapping[_Row, dict[str, Any]]) -> None:
        changes = [[_text(event), row.seq] for row, event in events.items()]
        with self.transaction() as db:
            db.executemany("UPDATE events SET event = ?, unresolved = NULL WHERE seq = ?", changes)

    def bury(self, reasons: Mapping[_Row, str]) -> None:
        """Move events to the dead letters."""
        at = datetime.now(UTC).isoformat()
        for row, reason in reasons.items():
            log.error("the portal refused event %s for good: %s", row.id, reason)
        with self.transaction() as db:
            dead = [[*row, reason, at] for row, reason in reasons.items()]
            db.executemany("INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?)", dead)
            db.executemany("DELETE FROM events WHERE seq = ?", [[row.seq] for row in reasons])

    def dead_letters(self) -> list[DeadLetter]:
        query = "SELECT id, reason, refused_at, event FROM dead_letters ORDER BY seq"
        with self.transaction() as db:
            found = db.execute(query).fetchall()
        return [DeadLetter(UUID(id), why, at, json.loads(text)) for id, why, at, text in found]

    def forget_dead_letters(self, *, again: bool) -> int:
        with self.transaction() as db:
            if again:  # under their old numbers, which are free for ever
                db.execute(f"INSERT INTO events SELECT {_COLUMNS} FROM dead_letters")
            return db.execute("DELETE FROM dead_letters").rowcount

    def sizes(self) -> tuple[int, int, int]:
        """Events waiting, dead letters, bytes in use."""
        counts = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM dead_letters)"
        with self.transaction() as db:
            waiting, dead = db.execute(counts).fetchone()
            return waiting, dead, db.execute(_USED).fetchone()[0]


# --- what the portal answers -------------------------------------------------------------------


def _json(answer: httpx.Response) -> dict[str, Any]:
    """The object in an answer's body; an empty one where there is none."""
    with suppress(ValueError):
        found = answer.json()
        return found if isinstance(found, dict) else {}
    return {}


def _is_receipt(answer: httpx.Response, rows: Sequence[_Row]) -> bool:
    """Whether these very events are stored; a 2xx of something before the portal is no proof."""
    results = _json(answer).get("results") if answer.is_success else None
    return isinstance(results, list) and [
        receipt.get("id") for receipt in results if isinstance(receipt, dict)
    ] == [row.id for row in rows]


def _is_refusal(answer: httpx.Response) -> bool:
    """Whether it is the events that are wrong, and no answer of a proxy or about the request."""
    about_request = str(_json(answer).get("type")).endswith((":bad-request", ":bad-parameter"))
    return answer.status_code in (400, 409, 413) and bool(_json(answer)) and not about_request


def _later(answer: httpx.Response) -> _Later:
    problem = f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}"
    problem += f": {_json(answer).get('detail', 'not an answer of the portal')}"
    code = answer.status_code
    busy = code in (408, 425, 429) or code >= 500 or answer.is_success
    return _Later(problem, after=_retry_after(answer), blocked=not busy)


def _retry_after(answer: httpx.Response) -> float:
    """Seconds; RFC 9110, section 10.2.3: a number or a date."""
    given = answer.headers.get("Retry-After", "")
    if given.isascii() and given.isdigit():
        return float(given)
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    return 0.0


def _faults(answer: httpx.Response, rows: Sequence[_Row]) -> dict[_Row, str]:
    """The events that a refusal names by their index, each with all that is wrong with it."""
    reasons: dict[_Row, str] = {}
    errors = _json(answer).get("errors")
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < len(rows):
            row, said = rows[index], [error.get(name) for name in ("code", "pointer", "detail")]
            reason = f"{answer.status_code} {' '.join(str(word) for word in said if word)}"
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return reasons


# --- what the catalogue tells ------------------------------------------------------------------

_REASON_KEYS = ("failure_reason", "reason", "error_code", "rejection_reason")
"""Where a failure's reason goes: the first of these that its action knows."""


class _Action(NamedTuple):
    value: str
    keys: dict[str, list[str]]  # of the context, each with its usual values


_Steps = dict[str, _Action]  # of an operation, by their outcome


def _operations(answer: httpx.Response) -> dict[str, _Steps]:
    """The catalogue. Of two actions for one step that one counts that is named as the operation."""
    found: dict[str, _Steps] = {}
    try:
        actions = _json(answer)["results"]
        for action in sorted(actions, key=lambda a: not a["value"].startswith(a["operation"])):
            keys = {key["name"]: key["examples"] for key in action["context_keys"]}
            steps = found.setdefault(action["operation"], {})
            steps.setdefault(action["outcome"], _Action(action["value"], keys))
    except (KeyError, TypeError, AttributeError):
        raise _later(answer) from None
    alone = {name: {"success": next(iter(s.values()))} for name, s in found.items() if len(s) == 1}
    return found | alone


def _resolved(row: _Row, steps: _Steps) -> dict[str, Any] | None:
    """The event of a step of an operation, with those keys of the context that are its own.

    None where there is no such event: what stands alone has no attempt, and some no failure.
    """
    _, outcome, reason, is_stated = json.loads(row.unresolved or "")
    if outcome not in steps:
        return None
    event, action = json.loads(row.text), steps[outcome]
    of_any = {key for step in steps.values() for key in step.keys}
    context = {k: v for k, v in event["context"].items() if k in action.keys or k not in of_any}
    if outcome == "failure":
        key = next((key for key in _REASON_KEYS if key in action.keys), "reason")
        if "pending" in steps and key in steps["pending"].keys:
            context.pop(key, None)  # the motive: why it was wanted
        short = (reason or "").removesuffix("_error")
        reason = short if short in action.keys.get(key, ()) and not is_stated else reason
        context |= {key: reason} if reason and (is_stated or key not in context) else {}
    return {"action": action.value} | event | {"context": context}


# --- sending -----------------------------------------------------------------------------------


class _Sender:
    """The thread that empties the spool. Only one at a time sends from one spool."""

    def __init__(
        self, spool: _Spool, url: str, key: str | Callable[[], str], options: dict[str, Any]
    ) -> None:
        self.spool, self.url, self.key = spool, url.rstrip("/") + "/api/v1/", key
        self.batch: int = options.pop("batch")
        self.interval: float = options.pop("flush_interval")
        self.compress: bool = options.pop("compress")
        self.options = options
        self.lock: int | None = None
        self.start_over()

    def start_over(self) -> None:
        """Have no thread yet: in the beginning, and in a forked child."""
        if self.lock is not None:  # the parent keeps its own copy
            os.close(self.lock)
        self.lock = None
        self.thread: threading.Thread | None = None
        self.wake, self.new = threading.Event(), 0
        self.deadline = float("inf")  # of closing
        self.not_before = self.asked = 0.0
        self.failures = self.sent = 0
        self.state, self.problem = "ok", ""
        self.catalogue: dict[str, _Steps] = {}

    def start(self) -> None:
        """Have the thread running."""
        with _mutex:
            if self.thread:
                return
            # Made here, as it imports modules: a fork in the middle of an import hangs the child.
            http = httpx.Client(
                headers={"User-Agent": "auditclient/1"},
                limits=httpx.Limits(keepalive_expiry=2),  # servers hang up after 5 seconds
                **self.options,
            )
            run = threading.Thread(target=self._run, args=[http], name="auditclient", daemon=True)
            run.start()
            self.thread = run

    def noticed(self) -> None:
        """There is one more event; a whole batch is sent at once."""
        self.new += 1
        if self.new >= self.batch:
            self.wake.set()

    def hurry(self) -> None:
        """Send now, also while pausing after a failure, unless the portal asked for the pause."""
        self.not_before = self.asked
        self.wake.set()

    def stop(self, timeout: float) -> None:
        """Have the thread send what it can, and end."""
        self.deadline = time.monotonic() + timeout
        self.hurry()
        if self.thread:
            self.thread.join(timeout)

    def _run(self, http: httpx.Client) -> None:
        with http:
            while time.monotonic() < self.deadline:
                self._wait()
                self._try_all(http)
                if self.deadline < float("inf") and self.spool.is_empty():
                    return

    def _wait(self) -> None:
        self.wake.wait(max(0, min(self.interval, self.deadline - time.monotonic())))
        self.wake.clear()
        while (pause := min(self.not_before, self.deadline) - time.monotonic()) > 0:
            self.wake.wait(pause)
            self.wake.clear()

    def _try_all(self, http: httpx.Client) -> None:
        self.new = 0
        try:
            if not self.spool.is_empty():
                self._send_all(http)
            self.failures, self.state, self.problem = 0, "ok", ""
        except _Later as later:
            self._postpone(later)
        except Exception as error:  # the thread has to live: whatever it is may pass
            log.exception("sending audit events failed")
            self._postpone(_Later(repr(error)))

    def _postpone(self, later: _Later) -> None:
        """Exponential backoff with full jitter, on top of what the portal asked for."""
        self.failures += 1
        self.state, self.problem = later.state, str(later)
        blocked = later.state == "blocked"
        say = log.error if blocked else log.warning
        say("audit events stay in the spool %s: %s", self.spool.path, later)
        self.asked = time.monotonic() + later.after
        longest = min(MAX_PAUSE, 2.0 ** min(self.failures, 9) / 4)
        self.not_before = self.asked + random.uniform(0, longest)  # noqa: S311

    def _send_all(self, http: httpx.Client) -> None:
        with self._alone() as alone:
            while alone and time.monotonic() < self.deadline:
                if rows := _of_size(self.spool.first(self.batch)):
                    self._send(http, rows)
                elif unresolved := self.spool.first(self.batch, unresolved=True):
                    self._resolve(http, unresolved)
                else:
                    return

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process or client sends from this spool; none does meanwhile."""
        with _mutex:  # so that no fork misses what is open
            self.lock = os.open(f"{self.spool.path}-sender", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            yield _locked(self.lock)
        finally:
            with _mutex:
                os.close(self.lock)
                self.lock = None

    def _request(self, http: httpx.Client, path: str, body: bytes | None) -> httpx.Response:
        key = self.key if isinstance(self.key, str) else self.key()
        headers = {"Authorization": f"Api-Key {key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if body is not None and self.compress:
            body, headers["Content-Encoding"] = gzip.compress(body, 6), "gzip"
        try:
            return http.request(
                "GET" if body is None else "POST", self.url + path, content=body, headers=headers
            )
        except httpx.HTTPError as error:
            raise _Later(f"{self.url} cannot be reached: {error!r}") from error

    def _send(self, http: httpx.Client, rows: list[_Row]) -> None:
        body = f"[{','.join(row.text for row in rows)}]".encode()
        answer = self._request(http, "events/", body)
        if _is_receipt(answer, rows):
            self.spool.remove(rows)
            self.sent += len(rows)
        elif reasons := _faults(answer, rows) if _is_refusal(answer) else {}:
            self.spool.bury(reasons)  # the others are the first of the next batch
        elif len(rows) > 1 and (_is_refusal(answer) or answer.status_code == 413):
            self._send(http, rows[: len(rows) // 2])
            self._send(http, rows[len(rows) // 2 :])
        elif _is_refusal(answer):
            self.spool.bury({rows[0]: f"{answer.status_code} {_json(answer).get('detail', '')}"})
        else:
            raise _later(answer)

    def _resolve(self, http: httpx.Client, rows: list[_Row]) -> None:
        """Find the actions of operations, which only the portal's catalogue tells."""
        names = {row: json.loads(row.unresolved or "")[0] for row in rows}
        if not self.catalogue.keys() >= set(names.values()):
            self.catalogue = _operations(self._request(http, "actions/", None))
        unknown = {row: name for row, name in names.items() if name not in self.catalogue}
        self.spool.bury({row: f"there is no operation {name!r}" for row, name in unknown.items()})
        events = {row: _resolved(row, self.catalogue.get(name, {})) for row, name in names.items()}
        self.spool.resolve({row: event for row, event in events.items() if event})
        self.spool.remove([row for row, event in events.items() if not event])


def _locked(descriptor: int) -> bool:
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _of_size(rows: list[_Row]) -> list[_Row]:
    """The first of the rows, as many as one request may hold."""
    ends = accumulate(len(row.text.encode()) + 1 for row in rows)
    return [row for row, end in zip(rows, ends, strict=True) if end < MAX_BODY] or rows[:1]


# --- recording ---------------------------------------------------------------------------------


def _text(event: Mapping[str, Any]) -> str:
    """An event as JSON. Half a surrogate pair stays, escaped: to refuse it is the portal's task."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, date):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)


def _uuid7(at: int) -> UUID:
    """RFC 9562, section 5.7, from nanoseconds; the fraction of the millisecond keeps the order."""
    milliseconds, rest = divmod(at, 1_000_000)
    fraction, noise = rest * 4096 // 1_000_000, int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | noise)


class AuditClient:
    """Records events on disk and sends them to the portal in the background. For any thread.

    `key` has the scope `write`; a function is asked for each request, so that a new key takes hold.
    `spool` is a file of one portal and one key's source, on a local disk; it may be shared by
    processes. With `durable` each `record` waits until the event is on the disk, some milliseconds;
    without, an event survives a crash of the application, but the last ones no power cut.
    With `number_events` events carry `source_seq`, by which the portal sees gaps: only where a
    source has one spool, whose file is never replaced. `compress` needs a portal that takes gzip.
    Units: `batch` events a request, `flush_interval` seconds that an event waits for others,
    `max_spool_bytes` with the dead letters, `timeout` seconds for each step of a request. Any
    other options are those of `httpx.Client`, such as `verify`.
    """

    def __init__(
        self, url: str, key: str | Callable[[], str], *, spool: str | os.PathLike[str],
        batch: int = 500, flush_interval: float = 1.0, max_spool_bytes: int = 1 << 30,
        durable: bool = True, number_events: bool = False, compress: bool = False,
        timeout: float = 10.0, **options: Any,
    ) -> None:  # fmt: skip
        self._spool = _Spool(os.fspath(spool), max_spool_bytes, durable=durable)
        options |= {"batch": batch, "flush_interval": flush_interval, "timeout": timeout}
        self._sender = _Sender(self._spool, url, key, options | {"compress": compress})
        self._numbered, self._closed = number_events, False
        _clients.add(self)
        self._sender.start()

    def record(self, *, action: str | Enum, **fields: Any) -> UUID:
        """Keep one event on disk to be sent, and return its id. `fields` are the wire format's.

        Raises `SpoolFull`, or another `sqlite3.Error` or `OSError` where the disk fails, and
        ValueError for an event that no request could hold: then nothing was recorded. What else may
        be wrong with an event only the portal finds out: see `dead_letters`.
        """
        return self._keep({"action": action} | fields)

    def operation(self, name: str, **fields: Any) -> Operation:
        """The attempt at once, and its outcome at the end of the `with` (or `async with`) block.

        `name` is an operation of the catalogue; `fields` are for both events. The actions are
        looked up in the portal's catalogue when the events are sent.
        """
        return Operation(self._keep, name, fields)

    def _keep(self, fields: dict[str, Any], unresolved: str | None = None) -> UUID:
        if self._closed:
            raise RuntimeError("the audit client is closed: the event was not recorded")
        at = time.time_ns()
        event = {"id": _uuid7(at), "occurred_at": datetime.fromtimestamp(at / 1e9, UTC)} | fields
        event["id"] = str(UUID(str(event["id"])))
        if len(_text(event)) > MAX_BODY:
            raise ValueError("the event is too large for any portal")
        try:
            self._spool.add(event, unresolved, numbered=self._numbered)
        except SpoolFull as full:
            log.critical("an audit event was NOT recorded: %s", full)
            raise
        self._sender.start()
        self._sender.noticed()
        return UUID(str(event["id"]))

    def flush(self, timeout: float = 10.0) -> int:
        """Send everything now; returns how many events are left after at most `timeout` seconds."""
        self._sender.start()
        self._sender.hurry()
        end = time.monotonic() + timeout
        while not self._spool.is_empty() and time.monotonic() < end:
            time.sleep(0.01)
            if not self._sender.failures:  # what came since, or was another process's to send
                self._sender.wake.set()
        return self.stats().waiting

    def close(self, timeout: float = 5.0) -> int:
        """Send what can be sent in `timeout` seconds, and end; returns how many events are left.

        They stay in the spool, and the next client of this spool sends them. Done at exit.
        """
        self._closed = True
        self._sender.stop(timeout)
        left = self.stats().waiting
        if left:
            log.warning("%d audit events are left in the spool %s", left, self._spool.path)
        with _mutex:
            self._spool.disconnect()
        return left

    def stats(self) -> Stats:
        """How it is doing, for a metric or a health check. Counts the whole spool."""
        sender = self._sender
        return Stats(sender.state, sender.problem, sender.sent, *self._spool.sizes())

    def dead_letters(self) -> list[DeadLetter]:
        """The events that were refused for good, oldest first. They take room in the spool."""
        return self._spool.dead_letters()

    def retry_dead_letters(self) -> int:
        """Send them once more, say after the portal has learnt a new action; returns how many."""
        return self._spool.forget_dead_letters(again=True)

    def discard_dead_letters(self) -> int:
        """Remove them for good; returns how many."""
        return self._spool.forget_dead_letters(again=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncAuditClient:
    """`AuditClient` for coroutines: the same, where the disk is waited for in a thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.sync = AuditClient(*args, **options)
        self.operation = self.sync.operation  # for `async with`
        self.stats, self.dead_letters = self.sync.stats, self.sync.dead_letters

    async def record(self, *, action: str | Enum, **fields: Any) -> UUID:
        return await asyncio.to_thread(self.sync.record, action=action, **fields)

    async def flush(self, timeout: float = 10.0) -> int:
        return await asyncio.to_thread(self.sync.flush, timeout)

    async def close(self, timeout: float = 5.0) -> int:
        return await asyncio.to_thread(self.sync.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class Operation:
    """An attempt and its outcome, under one `correlation_id`.

    What is known only on the way goes into `context`; of it each event takes the keys that are its
    own. An exception makes the outcome a failure and goes on; `fail` does without one. An attempt
    or a success that cannot be recorded raises; a failure is logged, so that it hides nothing.
    """

    def __init__(self, keep: Callable[..., UUID], name: str, fields: dict[str, Any]) -> None:
        self._keep, self._name, self._fields = keep, name, fields
        self.correlation_id: str = fields.setdefault("correlation_id", str(uuid4()))
        self.context: dict[str, Any] = dict(fields.pop("context", None) or {})
        self._failed, self._reason = False, None  # type: tuple[bool, str | None]

    def fail(self, reason: str | None = None, **context: Any) -> None:
        """Have it end as a failure (or a denial) although the block raises nothing."""
        self._failed, self._reason = True, reason
        self.context |= context

    def _record(self, outcome: str, reason: str | None = None) -> None:
        unresolved = json.dumps([self._name, outcome, reason, self._reason is not None])
        self._keep(self._fields | {"context": self.context}, unresolved)

    def __enter__(self) -> Self:
        self._record("pending")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        try:
            if error is None and not self._failed:
                self._record("success")
            else:
                self._record("failure", self._reason or _reason_of(error))
        except Exception as lost:
            if error is None:
                raise
            log.critical("the failure of %s was NOT recorded: %r", self._name, lost)

    async def __aenter__(self) -> Self:
        try:
            return await asyncio.shield(asyncio.to_thread(self.__enter__))
        except asyncio.CancelledError as error:
            await self.__aexit__(type(error), error, None)
            raise

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.shield(asyncio.to_thread(self.__exit__, *error))


def _reason_of(error: BaseException | None) -> str | None:
    """A code, never the message, which may quote a secret: a `reason` or `code` of the exception's
    own that looks like one, else the name of its class.
    """
    if error is None:
        return None
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit
        return "interrupted"
    for stated in (getattr(error, "reason", None), getattr(error, "code", None)):
        if isinstance(stated, str) and re.fullmatch(r"(?=.{1,64}\Z)[a-z]+(_[a-z0-9]+)*", stated):
            return stated
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(error).__name__)
    return words.lower()[:64]


# --- the end, and forks ------------------------------------------------------------------------

_clients: WeakSet[AuditClient] = WeakSet()


@atexit.register
def _close_all() -> None:
    for client in list(_clients):
        client.close()


def _before_fork() -> None:
    """SQLite's connections and locks do not survive a fork, so there are none during one."""
    _mutex.acquire()
    for client in _clients:
        client._spool.disconnect()


def _after_fork_in_child() -> None:
    for client in _clients:
        client._sender.start_over()
    _mutex.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_mutex.release,
        after_in_child=_after_fork_in_child,
    )
