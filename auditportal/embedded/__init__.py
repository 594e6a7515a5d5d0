"""The database backend `auditportal.embedded`: PostgreSQL 18 from a wheel, started when wanted."""

import sys

from django.core.management.base import CommandError
from django.db import OperationalError


class EmbeddedServerError(CommandError, OperationalError):
    """The embedded server cannot be had; says why in one sentence.

    A CommandError too, because Django's commands print those as one line instead of a traceback.
    """


def say(sentence: str) -> None:
    """One line for whoever sits at the terminal; stdout is left to what commands answer."""
    print(f"auditportal database: {sentence}", file=sys.stderr, flush=True)
