"""``python -m dispy_node.runner``: the environment variable DISPY_RUNNER_FD tells the control socket's descriptor."""

from __future__ import annotations

import os

from dispy_node.runner.main import main

main(control=int(os.environ.pop("DISPY_RUNNER_FD", "3")))
