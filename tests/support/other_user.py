"""Has another user run this Python, wherever it is installed; only root can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispy_node.confine.accounts import find_account, find_closed_folder

USER = "nobody"

# Puts an empty folder in place of $1, which is closed to other users, and only $2 back into it: for one process and
# those below it.
OPEN_THE_WAY = """
set -e
closed=$1 kept=$2; shift 2
aside=$(mktemp -d)
mount --bind "$kept" "$aside"
mount -t tmpfs -o mode=0755 tmpfs "$closed"
mkdir -p "$kept"
mount --bind "$aside" "$kept"
umount "$aside"; rmdir "$aside"
exec "$@"
"""


def open_the_way() -> list[str]:
    """Return what to put before a command so that `USER` can run this Python in it; skip the test if none helps."""
    closed = find_closed_folder(find_account(USER), Path(sys.executable))
    if closed is None:
        return []
    kept = os.path.realpath(sys.base_prefix)
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OPEN_THE_WAY, "sh"]
    prefix += [str(closed), kept]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{USER} cannot reach this Python, because of {closed}: {done.stderr.strip()}")
    return prefix
