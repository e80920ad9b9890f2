"""``python -m dispy_cli`` is ``dispy``."""

from __future__ import annotations

from dispy_cli.main import main

if __name__ == "__main__":
    main("dispy")
