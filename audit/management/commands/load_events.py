"""Events from a file of lines, through the same ingest as every other: all of them or none."""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import batched, chain
from typing import Any, BinaryIO
from typing import TextIO

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from audit import wire
from audit.ingest import Rejected, ingest, read_all
from audit.keys import source_named
