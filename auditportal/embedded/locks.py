"""Locks on folders, held against other processes and against our own other threads."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds a lock (flock) on a folder. With LOCK_NB, BlockingIOError when another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        # Said, not left to closing: a fork made meanwhile has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
