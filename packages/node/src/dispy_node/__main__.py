"""``python -m dispy_node`` is ``dispynode``."""

from __future__ import annotations

from dispy_node.command import main

main()
