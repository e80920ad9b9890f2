#!/usr/bin/env python3
"""The ``dispy`` program under the name that it had in the original: ``dispy.py -f FILE -a "ARGS" PROGRAM``.

A script that lies in the same folder (``dispynode``, or one of the user's) and says ``import dispy`` finds this file
in place of the package, since Python looks in the script's folder first. Then this file steps aside.
"""

import importlib
import os
import sys


def import_package():
    """Import the package ``dispy``, as if this file were not there, into ``sys.modules["dispy"]``."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if os.path.realpath(entry or os.curdir) != folder]
    sys.modules.pop("dispy", None)
    try:
        importlib.import_module("dispy")
    finally:
        # What else lies in the folder may be wanted by the script; the name dispy is settled now.
        sys.path[:] = path


if __name__ == "dispy":
    import_package()
elif __name__ == "__main__":
    import_package()
    from dispy_cli.main import main

    main()
