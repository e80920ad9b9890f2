"""``python -m dispy_node.runner``: the control socket is the descriptor named by DISPY_RUNNER_FD, or 3."""

from __future__ import annotations

import os

from dispy_node.runner.main import main

main(control=int(os.environ.pop("DISPY_RUNNER_FD", "3")))
