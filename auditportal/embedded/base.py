"""Django's PostgreSQL backend, with the embedded server running before the first connection.

`settings.DATABASES` names it `{"ENGINE": "auditportal.embedded", "NAME": …, "USER": …}`, and
`settings.AUDITPORTAL_DATA_DIR` (a Path) says where the server keeps its data.
"""

from typing import Any

from django.conf import settings

from auditportal.embedded import cluster, server
from auditportal.pooled import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Starts nothing until a connection is wanted; a server that crashed is started again then."""

    def get_connection_params(self) -> dict[str, Any]:
        """Every road to a connection leads through here, the pool's and the test runner's too."""
        if self._pool_has_one():
            return {}  # nobody looks at them: the connection is there
        embedded = server.running(settings.AUDITPORTAL_DATA_DIR)
        params: dict[str, Any] = super().get_connection_params()
        return {**params, "host": str(embedded.socket_dir), "port": cluster.PORT}

    def _pool_has_one(self) -> bool:
        """With a pool every request gets here; looking for the server takes a tenth of a ms.

        That a connection is dead is found out when it is taken; then it comes here again.
        """
        pool = self._connection_pools.get(self.alias)  # type: ignore[attr-defined]
        return pool is not None and pool.get_stats()["pool_available"] > 0
