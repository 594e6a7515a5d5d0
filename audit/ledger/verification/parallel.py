"""Reading events block by block, in order, by one process or by several at the same snapshot.

Processes are started afresh and know no Django: what they need is handed to them.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from audit.ledger.verification.events import Found, Log, read

BLOCK = 32 * 256
"""How many leaves are read at once: whole tiles, so that a block's hashes need no other's."""

WORTH_IT = 4 * BLOCK
"""From how many leaves on it is quicker to start processes than to do without."""

Block = tuple[int, int]


def blocks(start: int, size: int) -> Iterator[Block]:
    """The leaves from `start`, where a tile begins, to before `size`."""
    for at in range(start, size, BLOCK):
        yield at, min(at + BLOCK, size)


def read_all(
    connection: psycopg.Connection[Any], log: Log, wanted: Iterable[Block], processes: int
) -> Iterator[Found]:
    """What stands in each block, one after the other, as the connection's transaction sees it."""
    if processes <= 1:
        for start, end in wanted:
            yield read(connection, log, start, end)
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_open,
        initargs=(_address(connection), _snapshot(connection)),
    )
    with pool:
        try:
            yield from _in_order(pool, log, wanted, 2 * processes)
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, log: Log, wanted: Iterable[Block], most: int
) -> Iterator[Found]:
    """At most `most` blocks are in work or wait to be taken: memory stays flat."""
    waiting: deque[Future[Found]] = deque()
    for start, end in wanted:
        waiting.append(pool.submit(_read, log, start, end))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _address(connection: psycopg.Connection[Any]) -> str:
    info = connection.info
    return make_conninfo(**info.get_parameters(), password=info.password or None)


def _snapshot(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


# --- in the other processes --------------------------------------------------------------------

_connections: list[psycopg.Connection[Any]] = []


def _open(address: str, snapshot: str) -> None:
    gc.disable()  # rows make no cycles, and looking for them takes a tenth of the time
    connection = psycopg.connect(address)
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    _connections.append(connection)


def _read(log: Log, start: int, end: int) -> Found:
    return read(_connections[0], log, start, end)
