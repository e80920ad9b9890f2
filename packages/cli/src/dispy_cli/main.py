"""Entry point of ``dispy``, also installed as ``dispy_cmd.py`` and ``dispy.py``.

It imports nothing that takes time until it can answer Ctrl-C.
"""

from __future__ import annotations

import sys


def main(program: str = "") -> None:
    """Run the program and end the process; *program* is its name, by default that of the file that was started."""
    try:
        from pathlib import Path

        from dispy_cli.diagnostics import log_to_stderr
        from dispy_cli.umbrella import make_umbrella, run_umbrella

        log_to_stderr()
        status = run_umbrella(make_umbrella(), None, program or Path(sys.argv[0]).name)
    except KeyboardInterrupt:  # before there was anything to end, or after
        print("dispy: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
