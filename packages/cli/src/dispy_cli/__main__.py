"""``python -m dispy_cli`` is ``dispy``."""

from __future__ import annotations

import sys

from dispy_cli.diagnostics import log_to_stderr
from dispy_cli.main import make_umbrella, run_umbrella

if __name__ == "__main__":
    log_to_stderr()
    sys.exit(run_umbrella(make_umbrella(), None, "dispy"))
