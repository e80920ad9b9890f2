"""Runs every fenced code block of the README and the docs.

What happens to a block depends on its language:

- ``python``: run as a program of its own in an empty folder, where it must end with status 0.
- ``console``: each line that begins with ``$`` is run by a shell in an empty folder and must end with status 0.
- ``sh``: the whole block is run by ``sh -e``.
- ``toml``, ``json``: must be well-formed.
- ``text``, ``mermaid``, ``diff``: is not code.

Comments directly above a block say more:

- ``<!-- run: skip because REASON -->``: only check its syntax.
- ``<!-- continues -->``: run it after the code of the block of the same language before it.
- ``<!-- file: NAME -->``: do not run it, but put it in the folder of the blocks after it on the page.
- ``<!-- nodes: NAME... -->``: run nodes on this machine and put their addresses in place of these names.
- ``<!-- daemon -->``: its ``dispy node`` is run on a free port, must accept connections, and is then ended.
- ``<!-- output -->``: what the block above prints must be this (for ``text``), or the lines between the commands
  must be what they print (for ``console``). ``...`` stands for anything.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK_TIMEOUT_S = 60
NODE_START_S = 20
NODE_COMMAND = [sys.executable, "-c", "from dispy_node.command import main; main()"]
DIRECTIVES = {"run", "continues", "file", "nodes", "daemon", "output"}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
COMMENT = re.compile(r"^ *<!--\s*(?P<word>[a-z]+)(?::\s*(?P<value>.*?))?\s*-->\s*$")


@dataclass
class Block:
    """A fenced block and what the comments above it say."""

    page: Path
    line: int
    language: str
    text: str
    directives: dict[str, str]
    before: Block | None = None
    """The block that this one continues, or whose output this one is."""
    files: dict[str, str] = field(default_factory=dict)
    """Files that blocks above it have made, name to contents."""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def program(self) -> str:
        """Its text after that of the blocks that it continues."""
        if "continues" in self.directives:
            assert self.before is not None, f"{self.name} continues a block that is not there"
            return f"{self.before.program}\n{self.text}"
        return self.text


def blocks_of(page: Path) -> list[Block]:
    """Cut the fenced blocks out of a page."""
    blocks: list[Block] = []
    files: dict[str, str] = {}
    comments: dict[str, str] = {}
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        if comment := COMMENT.match(line):
            comments[comment["word"]] = comment["value"] or ""
        elif fence := FENCE.match(line):
            text = fenced_text(lines, fence["indent"])
            block = Block(page, number, fence["language"], text, comments, files=dict(files))
            block.before = next((b for b in reversed(blocks) if is_before(b, block)), None)
            if "file" in comments:
                files[comments["file"]] = text
            blocks.append(block)
            comments = {}
        elif line.strip():
            comments = {}
    return blocks


def fenced_text(lines: Iterator[tuple[int, str]], indent: str) -> str:
    """Take the lines up to the end of the fence."""
    taken = []
    for _, line in lines:
        if line.strip() == "```":
            break
        taken.append(line.removeprefix(indent))
    return "".join(f"{line}\n" for line in taken)


def is_before(earlier: Block, block: Block) -> bool:
    return (block.language == "text" and "output" in block.directives) or earlier.language == block.language


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def selected(*languages: str) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks of these languages that have something to run."""
    chosen = [b for b in BLOCKS if b.language in languages and "file" not in b.directives]
    return pytest.mark.parametrize("block", chosen, ids=[block.name for block in chosen])


@pytest.fixture
def folder(block: Block) -> Iterator[Path]:
    """Make an empty folder, but for the files of the blocks above. Its path is short: sockets may lie in it."""
    with tempfile.TemporaryDirectory(prefix="dispy-docs-") as name:
        for file, text in block.files.items():
            path = Path(name, "work", file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        Path(name, "work").mkdir(exist_ok=True)
        yield Path(name, "work")


@pytest.fixture(scope="module")
def node_address() -> Iterator[Callable[[str], str]]:
    """Give a function from the name of a machine to the address of a node that plays it."""
    with contextlib.ExitStack() as stack:
        addresses: dict[str, str] = {}

        def address(name: str) -> str:
            if name not in addresses:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispy-docs-")))
                port = free_port()
                command = [*NODE_COMMAND, "--name", name, "--cpus", "2", "-p", str(port - 1)]
                stack.enter_context(running_node(command, home, port))
                addresses[name] = f"127.0.0.1:{port}"
            return addresses[name]

        yield address


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def running_node(command: list[str], home: Path, port: int) -> Iterator[None]:
    """Run a node until the end of the context; it must come up and end well."""
    with subprocess.Popen(
        command,
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_listening(process, port)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                _, log = process.communicate(timeout=NODE_START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0, log


def wait_listening(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + NODE_START_S
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert process.poll() is None, f"the node ended: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"the node does not listen on port {port}"
        time.sleep(0.05)


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which `python3` and `dispy` are those under test, and no settings are seen.

    All have one folder of keys, as those of one user have, though each block has a home of its own.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "DISPY"))}
    programs = str(Path(sys.executable).parent)
    return {
        **kept,
        "HOME": str(home),
        "DISPY_CONFIG_DIR": os.environ["DISPY_CONFIG_DIR"],
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}",
    }


def run(command: list[str], folder: Path) -> str:
    """Run a command, which must end with status 0; return what it printed on stdout."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder.parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, told = process.communicate(timeout=BLOCK_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what a shell has started, too
            printed, told = process.communicate()
            pytest.fail(f"no end after {BLOCK_TIMEOUT_S} s: {command}\n{printed}\n{told}")
    assert process.returncode == 0, f"status {process.returncode} from {command}\n{printed}\n{told}"
    return printed


def run_python(block: Block, folder: Path, text: str) -> str:
    program = folder / "program.py"
    program.write_text(text)
    return run([sys.executable, str(program)], folder)


def with_addresses(block: Block, text: str, node_address: Callable[[str], str]) -> str:
    """Put the addresses of nodes in place of the names that the block's comment lists."""
    for name in block.directives.get("nodes", "").split():
        text, count = re.subn(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", node_address(name), text)
        assert count, f"{block.name} does not name {name}"
    return text


def assert_prints(wanted: str, printed: str) -> None:
    checker = doctest.OutputChecker()
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert checker.check_output(wanted, printed, options), f"wanted:\n{wanted}\nprinted:\n{printed}"


def commands_of(text: str) -> list[tuple[str, str]]:
    """Return (command, lines of output after it) for a session at a terminal."""
    found: list[tuple[str, str]] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"this line comes before any command: {line!r}"
            command, output = found[-1]
            found[-1] = (command, f"{output}{line}\n")
    return found


def skips(block: Block) -> bool:
    """Tell whether the block is only checked for its syntax."""
    wish = block.directives.get("run")
    if wish is None:
        return False
    assert re.fullmatch(r"skip because \S.{10,}", wish), f"{block.name}: not a reason: {wish!r}"
    return True


def test_pages_have_code() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_block_is_of_a_known_kind(block: Block) -> None:
    assert block.language in {"python", "console", "sh", "toml", "json", "text", "mermaid", "diff"}
    assert not set(block.directives) - DIRECTIVES, "a comment above the block that this file does not know"
    assert not {"continues", "output"} & set(block.directives) or block.before or block.language == "console"


@selected("python")
def test_python_block(block: Block, folder: Path, node_address: Callable[[str], str]) -> None:
    compile(block.program, block.name, "exec", ast.PyCF_ONLY_AST)
    if not skips(block):
        run_python(block, folder, with_addresses(block, block.program, node_address))


@selected("console")
def test_console_block(block: Block, folder: Path, node_address: Callable[[str], str]) -> None:
    for command, wanted in commands_of(with_addresses(block, block.text, node_address)):
        run(["sh", "-n", "-c", command], folder)
        if skips(block):
            continue
        if "daemon" in block.directives:
            port = free_port()
            words = [*shlex.split(command), "--host", "127.0.0.1", "-p", str(port - 1)]
            assert words[:2] == ["dispy", "node"]
            with running_node([*NODE_COMMAND, *words[2:]], folder.parent, port):
                pass
            continue
        printed = run(["sh", "-e", "-c", command], folder)
        if "output" in block.directives:
            assert_prints(wanted, printed)


@selected("sh")
def test_shell_block(block: Block, folder: Path, node_address: Callable[[str], str]) -> None:
    script = with_addresses(block, block.text, node_address)
    run(["sh", "-n", "-c", script], folder)
    if not skips(block):
        run(["sh", "-e", "-c", script], folder)


@selected("text")
def test_output_block(block: Block, folder: Path, node_address: Callable[[str], str]) -> None:
    if "output" in block.directives:
        assert block.before is not None
        assert block.before.language == "python"
        printed = run_python(block, folder, with_addresses(block.before, block.before.program, node_address))
        assert_prints(block.text, printed)


@selected("toml", "json")
def test_data_block(block: Block) -> None:
    {"toml": tomllib.loads, "json": json.loads}[block.language](block.text)
