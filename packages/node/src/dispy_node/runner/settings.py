"""What the daemon tells the runner once, in CONFIGURE."""

from __future__ import annotations

import os
import sys

from dispy_node.runner.bare import parse_json


class Settings:
    """Options of a runner; a plain class, because ``dataclasses`` imports 20 modules.

    Attributes:
        reuse: workers that run many jobs, rather than a process for each.
        spawn: processes of jobs are fresh interpreters, rather than forked; always, where the system cannot fork.
        folder: working directory of the jobs.
        spool: private folder for results that are too large for a frame.
        inline_bytes: largest body that travels inside a frame.
        output_bytes: how much of each output stream of a job is kept.
        max_file_bytes: largest file that jobs may send; 0 for no limit.
        program: command line of each job before its own arguments; empty if jobs are function calls.
        node: name of the node.
        address: address of the node, as its client reaches it.
        computation: its id, for messages.
        text: the settings themselves, as they came.
        live: the client looks at output as it comes.
        log_level: records of `logging` from this level on are told to the client; -1: none.
        grace_s: from SIGINT to SIGTERM, and from SIGTERM to SIGKILL, for jobs that are cancelled.
    """

    __slots__ = (
        "address",
        "computation",
        "folder",
        "grace_s",
        "inline_bytes",
        "live",
        "log_level",
        "max_file_bytes",
        "node",
        "output_bytes",
        "program",
        "reuse",
        "spawn",
        "spool",
        "text",
    )

    def __init__(self, given: dict[str, object], text: bytes = b"") -> None:
        self.text = text
        self.reuse = given.get("isolation", "process") == "worker"
        self.spawn = given.get("start_method") == "spawn" or not hasattr(os, "fork")
        self.folder = str(given["folder"])
        self.spool = str(given["spool"])
        self.inline_bytes = _number(given.get("inline_bytes", 64 * 1024))
        self.max_file_bytes = _number(given.get("max_file_bytes", 0))
        self.output_bytes = _number(given.get("output_bytes", 10_000_000))
        program = given.get("program") or []
        self.program = [str(part) for part in program] if isinstance(program, list) else [str(program)]
        self.node = str(given.get("node", ""))
        self.address = str(given.get("address", ""))
        self.computation = str(given.get("computation", ""))
        grace = given.get("cancel_grace_s", [5.0, 2.0])
        first, second = grace if isinstance(grace, list) else (5.0, 2.0)
        self.grace_s = (float(first), float(second))
        self.live = given.get("live") is True
        self.log_level = _number(given.get("log_level", -1))

    @property
    def place(self) -> str:
        """Where this is, for messages."""
        version = sys.version_info
        return f"node {self.node} (Python {version.major}.{version.minor}.{version.micro})"


def read_settings(payload: bytes) -> Settings:
    """Read the payload of CONFIGURE.

    Raises:
        ValueError: it is not a JSON object.
        KeyError: ``folder`` or ``spool`` is missing.
    """
    given = parse_json(payload.decode())
    if not isinstance(given, dict):
        raise ValueError("the settings of a runner are not an object")
    return Settings(given, payload)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"not a number of bytes: {value!r}")
    return value
