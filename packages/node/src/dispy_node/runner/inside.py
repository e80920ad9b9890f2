"""What a job can do while it runs, as the names that it finds in its namespace.

Everything here is made in the runner and inherited by its children, so nothing is imported before a job needs it:
each page of memory more makes every fork dearer.
"""

from __future__ import annotations

import os
import sys
import types

from dispy_node.runner.news import NotSent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any, Protocol

    from dispy_node.runner.settings import Settings

    class Speaker(Protocol):
        """The child that runs the job."""

        def tell_result(self, value: object) -> bool:
            """Send an intermediate result; raises `NotSent`."""

        def tell_file(self, path: str) -> bool:
            """Send a file; raises `NotSent`."""

        def say(self, level: int, text: str) -> bool:
            """Send a line for the node's log."""


MAIN_NAME = "__dispy_job__"
"""Name in the namespace of jobs by which `dispy.job` finds the `Inside` of this process."""

MODULES = (
    *(
        "argparse",
        "copy",
        "dispy",
        "errno",
        "glob",
        "hashlib",
        "io",
        "marshal",
        "multiprocessing",
        "os",
        "pickle",
    ),
    *("platform", "re", "shutil", "signal", "socket", "stat", "struct", "subprocess", "sys", "tempfile"),
    *("threading", "time", "traceback"),
)
"""Modules that jobs of the original found in their namespace without importing them."""

OPTIONAL_MODULES = ("netifaces", "psutil", "pycos")
"""The same, where they are installed; else the name is None."""


class Inside:
    """What jobs of one runner can do.

    Args:
        settings: what the daemon said.

    Attributes:
        speaker: who speaks with the runner, once there is one.
        ask_end: tells the daemon that the node is to end; there while cleanup runs.
    """

    def __init__(self, settings: Settings) -> None:
        self.node_name = settings.node
        self.node_ip_addr = settings.address
        self.job_path = settings.folder
        self.logger: Any = NodeLogger(self)
        self.speaker: Speaker | None = None
        self.ask_end: Callable[[], object] | None = None

    def provisional_result(self, value: object, relay: bool = False, timeout: object = None) -> int:
        """Send an intermediate result to the client and go on.

        Args:
            value: the result.
            relay, timeout: of the original, accepted without effect: there is one way to the client, and whether it
                is there is found by heartbeats.

        Returns:
            0; -1 if it could not be sent, because the client is away for long, or the disk of the node is full.

        Raises:
            TypeError: it cannot be sent as results are.
            RuntimeError: no job runs in this process.
        """
        return _status(self._speaker("dispy_provisional_result").tell_result, value)

    def send_file(self, path: str | os.PathLike[str], relay: bool = False, timeout: object = None) -> int:
        """Send a file to the client and wait until it is there, or has been refused.

        Args:
            path: the file.
            relay, timeout: as with `provisional_result`.

        Returns:
            0 if the client has it; -1 if it could not be sent, or the client could not or would not take it.

        Raises:
            OSError: there is no such file, or it cannot be read.
            RuntimeError: no job runs in this process.
        """
        return _status(self._speaker("dispy_send_file").tell_file, os.fspath(path))

    def shutdown(self) -> None:
        """Have the node end when all is done that it has, if its owner allows that (``--client_shutdown``).

        Raises:
            RuntimeError: cleanup does not run.
        """
        if self.ask_end is None:
            raise RuntimeError(
                "dispynode_shutdown works in cleanup only; call it in the cleanup of the cluster"
            )
        self.ask_end()

    def names(self) -> dict[str, Any]:
        """Give what stands in the namespace of jobs."""
        names: dict[str, Any] = {name: sys.modules.get(name) or LateModule(name) for name in MODULES}
        for name in OPTIONAL_MODULES:
            names[name] = LateModule(name) if _is_installed(name) else None
        names |= {
            "dispy_send_file": self.send_file,
            "dispy_provisional_result": self.provisional_result,
            "dispy_node_name": self.node_name,
            "dispy_node_ip_addr": self.node_ip_addr,
            "dispy_job_path": self.job_path,
            "dispynode_logger": self.logger,
            "dispynode_shutdown": self.shutdown,
            MAIN_NAME: self,
        }
        return names

    def _speaker(self, what: str) -> Speaker:
        if self.speaker is None:
            raise RuntimeError(f"{what} was called while no job runs; call it in the function of the cluster")
        return self.speaker


class LateModule(types.ModuleType):
    """Stands for a module until one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        import importlib

        module = importlib.import_module(self.__name__)
        main = sys.modules["__main__"].__dict__
        if main.get(self.__name__) is self:
            main[self.__name__] = module
        return getattr(module, name)

    def __reduce__(self) -> Any:
        """Give the module itself away."""
        import importlib

        return importlib.import_module, (self.__name__,)


class NodeLogger:
    """Becomes a `logging.Logger` when it is used; its lines appear in the log of the node."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._logger: logging.Logger | None = None

    def __getattr__(self, name: str) -> Any:
        if self._logger is None:
            import logging

            inside = self._inside

            class Handler(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    speaker = inside.speaker
                    try:
                        text = self.format(record)
                        if speaker is None or not speaker.say(record.levelno, text):
                            print(text, file=sys.stderr)
                    except Exception:
                        self.handleError(record)

            logger = self._logger = logging.Logger("dispynode", logging.INFO)
            logger.addHandler(Handler())
        return getattr(self._logger, name)

    def __reduce__(self) -> Any:
        """Refuse to be sent: it belongs to the node."""
        raise TypeError("dispynode_logger belongs to the node and cannot be sent to the client")


def _status(tell: Any, what: object) -> int:
    try:
        return 0 if tell(what) else -1
    except NotSent as reason:
        print(f"dispy: {reason}", file=sys.stderr)
        return -1


def _is_installed(name: str) -> bool:
    if name in sys.modules:
        return True
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(name, None) is not None:
            return True
    return False
