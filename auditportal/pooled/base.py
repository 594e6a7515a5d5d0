"""Django's PostgreSQL backend, whose pool notices at once that the server was started again.

psycopg's own check looks at one connection a time and pauses between them, for longer than a
request waits: with a few dead ones the answer would be 503 although the database is back.
"""

from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError
from psycopg_pool import ConnectionPool


class DatabaseWrapper(base.DatabaseWrapper):
    """Wants `CONN_HEALTH_CHECKS` off where it has a pool: it looks at connections itself."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        pool: ConnectionPool | None = self.pool
        if pool and not _is_alive(connection):
            pool.putconn(connection)
            pool.check()  # where one is dead, most are
            connection = super().get_new_connection(self.get_connection_params())
        return connection


def _is_alive(connection: Connection) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except OperationalError:
        return False
    return True
