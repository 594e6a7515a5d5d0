"""How gunicorn serves the portal, here and in deployments; any of it may be given on its command
line or in GUNICORN_CMD_ARGS instead:

    gunicorn -c auditportal/gunicorn.py auditportal.wsgi
"""

import os
from typing import Any

bind = "127.0.0.1:8000"  # a proxy that speaks TLS stands before it
proc_name = "auditportal"

# Threads, because exports are streams that may take many minutes: a worker of the kind `sync` says
# nothing while it serves one, and is killed for it; here the heartbeat is not the requests' thread.
worker_class = "gthread"
workers = 2
threads = 4

timeout = 60  # seconds without a heartbeat, not the length of a request
graceful_timeout = 30  # seconds that running requests and exports get when the portal is stopped
keepalive = 5  # seconds; saves a browser its connection between a page and its pictures
limit_request_line = 8190  # bytes, the most it takes: every filter lives in the address

# Heartbeats on a disk that is busy can block a worker long enough to be killed.
_memory = "/dev/shm"  # noqa: S108
worker_tmp_dir = _memory if os.path.isdir(_memory) else None


# What is logged here is no evidence: that is kept by the portal itself. "-" is standard error.
accesslog = None
errorlog = "-"
loglevel = "warning"

# From gunicorn 25 on whoever can open this socket commands the server; signals do all we need.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Bound the connections to the database: workers × threads, twice: the recorder has its own.

    With 2 workers of 4 threads these are 16, and DATABASE_POOL_SIZE may set another size.
    """
    os.environ.setdefault("DATABASE_POOL_SIZE", str(server.cfg.threads))
