"""Watches a daemon from inside: in a node, nothing may run or load code, or unpickle, once it can be reached.

Python imports this when it starts with this folder in ``PYTHONPATH``, before anything of dispy. Only nodes are
watched; runners and jobs, whose task it is to run code, do not even get the variable that names the file.

Lines of the file: ``active PID`` when a node starts, ``armed PID`` when it makes its first socket, and then
``hit PID EVENT STACK`` for whatever is forbidden.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

FORBIDDEN = frozenset(
    {"pickle.find_class", "marshal.load", "marshal.loads", "compile", "exec", "code.__new__"}
)
IMPORTER = "<frozen importlib._bootstrap>"
"""Code below it in a stack belongs to a module that is being imported, which is ours or a library's."""


def is_node(words: list[str]) -> bool:
    """Tell whether a command line starts a node."""
    if "-m" in words:
        module, rest = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
        return module in ("dispy_node", "dispy_node.embedded") or (
            module == "dispy_cli" and rest[:1] == ["node"]
        )
    names = [os.path.basename(word) for word in words]
    return "dispynode" in names or ("dispy" in names and "node" in words)


def install(path: str) -> None:
    """Watch this process."""
    armed = False
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def tell(*words: object) -> None:
        os.write(target, (" ".join(map(str, words)) + "\n").encode("utf-8", "backslashreplace"))

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal armed
        if not armed:
            if event == "socket.__new__":
                armed = True
                tell("armed", os.getpid())
                forget_folder()  # not before: a node that was given a secret by -s starts itself once more
        elif event in FORBIDDEN:
            stack = list(frames(sys._getframe(1)))
            if not is_harmless(stack):
                where = " < ".join(f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in stack[:6])
                tell("hit", os.getpid(), event, where)

    tell("active", os.getpid())
    sys.addaudithook(hook)


def frames(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and those that called it."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def is_harmless(stack: list[FrameType]) -> bool:
    """Tell whether a module is being imported, or a line of our own source is looked at for a traceback."""
    files = {frame.f_code.co_filename for frame in stack}
    return IMPORTER in files or os.path.join(os.path.dirname(os.__file__), "traceback.py") in files


def forget_folder() -> None:
    """Have the processes that this one starts not find this folder."""
    folder = os.path.dirname(os.path.abspath(__file__))
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder]
    os.environ.pop("PYTHONPATH", None)
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


if "DISPY_TEST_AUDIT" in os.environ and is_node(sys.orig_argv):
    install(os.environ["DISPY_TEST_AUDIT"])
