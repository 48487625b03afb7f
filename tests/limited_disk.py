"""Code in a process whose files may grow to a few bytes only, as on a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
"""


def run_limited(code: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code that calls ``limit(n_bytes)`` before it writes."""
    return subprocess.run(
        [sys.executable, "-c", _LIMIT + code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
