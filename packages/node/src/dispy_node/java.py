"""Jobs that are runs of Java: of a source file, which is compiled at each start, or of an archive.

Java is that of ``JAVA_HOME`` in the node's environment, else the one on its PATH. What it can do stands in a file
``release`` beside it, so that nothing has to be started to find out.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import ClassVar

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest
from dispy_node.executors import arrived, program_plan

SOURCE_VERSION = 11
"""From this version on, Java takes a source file in place of a class."""

COMPILER = "jdk.compiler"
"""Module without which it does not."""

INSTALL = "install a JDK there, as by: apt-get install default-jdk-headless (or dnf install java-latest-openjdk-devel)"


class JavaExecutor(Executor):
    """Jobs are runs of a ``.java`` or ``.jar`` file, which lies in the computation's folder."""

    NAME: ClassVar[str] = "java"
    API_VERSION: ClassVar[int] = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Run source files with the folder and all archives in it as class path; archives see what they name.

        Raises:
            UsageError: the program is not in the folder, or there is no Java here that can run it.
        """
        program = arrived(request)
        java = _find_java(request.name)
        if program.suffix.lower() == ".jar":
            return program_plan(request, [java, "-jar", str(program)])
        version = _check_source_mode(Path(java), request.name)
        places = os.pathsep.join((str(request.folder), str(request.folder / "*")))
        # By itself Java takes only files for source that end in small letters.
        said = ["--source", str(version)] if version and program.suffix != ".java" else []
        return program_plan(request, [java, "--class-path", places, *said, str(program)])


def _find_java(name: str) -> str:
    home = os.environ.get("JAVA_HOME", "")
    found = shutil.which(os.path.join(home, "bin", "java")) if home else shutil.which("java")
    if found is None:
        where = f"in its JAVA_HOME, {home!r}" if home else "on its PATH"
        raise UsageError(f"program {name!r} needs Java, which the node has not {where}: {INSTALL}")
    return os.path.abspath(found)


def _check_source_mode(java: Path, name: str) -> int:
    """Refuse source files where Java is known to be too old for them, or has no compiler.

    Returns:
        its version, or 0 if that is not known.

    Raises:
        UsageError: it is so.
    """
    try:
        text = (java.resolve().parent.parent / "release").read_text()
    except (OSError, UnicodeDecodeError):  # an unusual Java: it will tell by itself what it cannot do
        return 0
    told = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    found = re.match(r"(?:1\.)?(\d+)", told.get("JAVA_VERSION", ""))
    version = int(found[1]) if found else 0
    if 0 < version < SOURCE_VERSION:
        raise UsageError(
            f"program {name!r} is a source file, which Java {told['JAVA_VERSION']} of the node cannot run; "
            f"{SOURCE_VERSION} or newer can: {INSTALL}"
        )
    if "MODULES" in told and COMPILER not in told["MODULES"].split():
        raise UsageError(
            f"program {name!r} is a source file, and the node's Java {str(java)!r} has no compiler: {INSTALL}"
        )
    return version
