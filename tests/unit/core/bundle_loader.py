"""Loads a bundle and runs jobs of it in a process of its own, as a node's runner does. Not a test.

    python bundle_loader.py FOLDER

FOLDER holds ``code`` (the bundle) and ``body-0``, ``body-1``, ... (the bodies of jobs). For each, ``end-N`` is
written: a pickle of (True, pickled result) or (False, text of the traceback).
"""

from __future__ import annotations

import importlib
import io
import json
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any


class NamespaceUnpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> dict[str, Any]:
        kind, name = pid
        assert kind == "namespace"
        return sys.modules.setdefault(name, ModuleType(name)).__dict__


def load(code: bytes) -> Any:
    """Return what is to be called; its names are in the namespace of ``__main__``."""
    namespace = sys.modules["__main__"].__dict__
    if code[:1] == b"P":
        content = NamespaceUnpickler(io.BytesIO(code[1:])).load()
        namespace.update(content["names"])
        return content["compute"]
    assert code[:1] == b"S"
    content = json.loads(code[1:])
    for source in content["sources"]:
        exec(compile(source["text"], source["name"], "exec"), namespace)
    return namespace[content["compute"]]


def end_of(folder: Path, body: Path) -> tuple[bool, bytes | str]:
    try:
        compute = load.compute  # type: ignore[attr-defined]
        args, kwargs = pickle.loads(body.read_bytes())
        result = compute(*args, **kwargs)
        try:
            return True, pickle.dumps(result)
        except Exception:
            return True, importlib.import_module("cloudpickle").dumps(result)
    except Exception:
        return False, traceback.format_exc()


def main(folder: Path) -> None:
    sys.modules["__main__"] = ModuleType("__main__")
    load.compute = load((folder / "code").read_bytes())  # type: ignore[attr-defined]
    number = 0
    while (body := folder / f"body-{number}").exists():
        (folder / f"end-{number}").write_bytes(pickle.dumps(end_of(folder, body)))
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
