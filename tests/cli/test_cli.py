"""The command line: what it says, what it refuses, and that it can be stopped at any time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from tests.cli.conftest import TinyTrio
