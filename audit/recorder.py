"""Recording from inside Django: what staff do in the portal comes back as events.

from audit.recorder import audit
await audit.record(action=AuditAction.USER_LOGIN_SUCCESS, user_id="ada", …)
with audit.operation("user_login", user_id="ada") as op: …

An event is committed on a connection of its own: a rollback around it does not take it along.
Inside a request it knows by itself who asks, from where, and under which request id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from audit import operations
from audit.context import client_address, current_request
from audit.enums import AuditAction, PortalAction
from audit.ingest import PORTAL, Receipt, ingest
from audit.models import ApiKey

logger = logging.getLogger(__name__)

ASYNC_THREADS = 4
"""How many threads write for coroutines, in each process; each has a connection of its own,
or takes turns with the others where there is a pool.

Not asgiref's one sensitive thread: there an event would wait for whatever sync view runs in it.
"""

_threads = ThreadPoolExecutor(ASYNC_THREADS, thread_name_prefix="audit-recorder")


class Recorder:
    """Writes one event at a time through `audit.ingest`, as the portal itself."""

    def __init__(self, using: str) -> None:
        self.using = using
        """The alias of the database connection that nobody else uses."""

    def record_sync(self, *, action: AuditAction | PortalAction, **fields: Any) -> Receipt:
        """Store one event for good and return its receipt. `fields` are those of the wire format.

        What is not given of user, address, user agent and request id is the request's. Raises
        `audit.ingest.Rejected` where a field is bad.
        """
        connection = connections[self.using]
        _let_go(connection)  # a long process outlives its connections
        try:
            return _write(self.using, action, fields)
        finally:
            _let_go(connection)  # out of a pool, it goes back

    async def record(self, *, action: AuditAction | PortalAction, **fields: Any) -> Receipt:
        """`record_sync` for coroutines; it waits for no sync view, and blocks no loop."""
        write = sync_to_async(self._record_in_thread, thread_sensitive=False, executor=_threads)
        return await write(action, fields)

    def record_in_transaction(
        self, *, action: AuditAction | PortalAction, using: str = "default", **fields: Any
    ) -> Receipt:
        """Store one event together with the transaction that is open on `using`, or not at all.

        For the portal's own data: a key that was issued and the event that says so are both there
        or neither is. Raises `TransactionManagementError` outside of a transaction.
        """
        if not connections[using].in_atomic_block:
            raise TransactionManagementError(f"no transaction is open on {using!r}")
        return _write(using, action, fields)

    def operation(
        self, name: str, /, *, context: Mapping[str, Any] | None = None, **fields: Any
    ) -> Operation:
        """A block, with or async with, that tries an operation of the catalogue.

        Raises ValueError with the closest names for an unknown operation.
        """
        return Operation(self, name, context or {}, fields)

    def _record_in_thread(
        self, action: AuditAction | PortalAction, fields: dict[str, Any]
    ) -> Receipt:
        try:
            return self.record_sync(action=action, **fields)
        finally:
            for connection in connections.all(initialized_only=True):  # the request's user is read
                _let_go(connection)


class Operation:
    """One try: recorded at once as attempted; on leaving the block, with how it ended.

    When the block raises or `fail` was called, that is the failure, with the reason. An operation
    that stands alone is one event, recorded on leaving well: otherwise nothing has happened. The
    same goes for a failure that the catalogue has no action for: the attempt stays alone.

    An attempt that cannot be recorded raises, and the block does not run. So does a success, after
    it. A failure that cannot be recorded is logged, and the block's own exception goes on.
    """

    def __init__(
        self, recorder: Recorder, name: str, context: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.context = dict(context)
        """The outcome's context; each action takes those keys out of it that are its own."""
        self.fields = {**fields, "correlation_id": fields.get("correlation_id") or str(uuid4())}
        """The other fields of its events, such as a `resource_id` that is known only afterwards."""
        self._recorder = recorder
        self._course = operations.course(name)
        self._is_failed = False
        self._reason: str | None = None

    @property
    def correlation_id(self) -> str:
        """What ties the outcome to its attempt."""
        return str(self.fields["correlation_id"])

    def fail(self, reason: str | None = None, **context: Any) -> None:
        """End as a failure although the block raises nothing. The block goes on."""
        self._is_failed = True
        self._reason = reason
        self.context |= context

    deny = fail

    def __enter__(self) -> Operation:
        if event := self._attempt():
            self._recorder.record_sync(**event)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if event := self._outcome(error):
                self._recorder.record_sync(**event)
        except Exception:
            self._raise_or_log(error)

    async def __aenter__(self) -> Operation:
        if event := self._attempt():
            attempt = asyncio.ensure_future(self._recorder.record(**event))
            try:
                await asyncio.shield(attempt)
            except asyncio.CancelledError as error:
                await asyncio.wait([attempt])  # whoever ends the loop cancels what nobody awaits
                await self.__aexit__(type(error), error, None)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if event := self._outcome(error):
                await asyncio.shield(self._recorder.record(**event))
        except Exception:
            self._raise_or_log(error)

    def _attempt(self) -> dict[str, Any] | None:
        action = self._course.attempt
        if action is None:
            return None
        return self._event(action, operations.context_for(action, self.context))

    def _outcome(self, error: BaseException | None) -> dict[str, Any] | None:
        _, success, failure = self._course
        if error is None and not self._is_failed:
            return self._event(success, operations.context_for(success, self.context))
        if failure is None:
            return None
        context = operations.failure_context(
            failure, self.context, reason=self._reason, error=error
        )
        return self._event(failure, context)

    def _event(self, action: AuditAction | PortalAction, context: dict[str, Any]) -> dict[str, Any]:
        return self.fields | {"action": action, "context": context}

    def _raise_or_log(self, error: BaseException | None) -> None:
        """Within `except`: raise the fault in recording, unless the block's own error goes on."""
        if error is None:
            raise
        logger.exception("the failure of %s could not be recorded", self.name)


audit = Recorder(using="evidence")


def caller() -> dict[str, Any]:
    """Who is asking and from where, as fields of an event: staff by name, a key by its prefix.

    Read at this moment, as signing in changes it. Empty outside of a request.
    """
    request = current_request()
    if request is None:
        return {}
    fields: dict[str, Any] = {
        "ip_address": client_address(
            request.META.get("REMOTE_ADDR", ""),
            request.headers.get("X-Forwarded-For", ""),
            settings.TRUSTED_PROXIES,
        ),
        "user_agent": request.headers.get("User-Agent", "")[:1024].replace("\0", "") or None,
        "request_id": getattr(request, "request_id", None),
    }
    key, user = getattr(request, "auth", None), getattr(request, "user", None)
    if isinstance(key, ApiKey):
        fields |= {"user_id": f"api-key:{key.prefix}", "actor_type": "service"}
    elif user is not None and user.is_authenticated:
        fields |= {"user_id": user.get_username(), "actor_type": "user"}
    return fields


def _let_go(connection: BaseDatabaseWrapper) -> None:
    """What Django does with connections between requests: close one that is old or broken."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


_ACTOR = ("user_id", "actor_type")


def _write(using: str, action: AuditAction | PortalAction, fields: dict[str, Any]) -> Receipt:
    """Through ingest, with the request's fields beneath those given; an actor is never mixed."""
    found = caller()
    if any(name in fields for name in _ACTOR):
        found = {name: value for name, value in found.items() if name not in _ACTOR}
    row = found | fields | {"action": action.value}
    return ingest([row], source=PORTAL, using=using)[0]
