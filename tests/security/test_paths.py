"""Names of files that a client sends along never lead out of the computation's folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attackers import Intruder, greeting, header, own_credential
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy.model import ComputationId
from dispy.places import relative_path
from dispy.wire import messages as msg
from dispy_node.storage import StateFolder

CID = ComputationId("c" * 32)
RACE_S = 60.0 if os.environ.get("DISPY_DEEP") else 2.0

STARTS = (
    "",
    "/",
    "//",
    "\\",
    "C:",
    "c:/",
    "~/",
    "./",
    "../",
    "a/../",
    "a/./",
    "a//",
    "..\\",
    "%2e%2e/",
    "\x00",
    "\n",
)
MIDDLES = ("", "..", "../..", "../../..", ".", "....//", "..;", "a/../../b", "\u2024\u2024", "\uff0e\uff0e")
ENDS = ("", "/", "/.", "/..", "/etc/passwd", "\\..\\x", "/\x00", "\x7f", "/a\rb", "x" * 300)
NAMES = list(
    dict.fromkeys(
        (
            *("".join(parts) for parts in itertools.product(STARTS, MIDDLES, ENDS)),
            *(chr(code) + "name" for code in range(32)),
            *("name" + chr(code) for code in range(32)),
            *(f"{depth}" + "/.." * depth + "/x" for depth in range(1, 30)),
            "a/" * 600 + "b",
            "\ud800",
            "\udcff/../x",
            "x" * 256,
            "\u00e9" * 200,
        )
    )
)


def test_there_are_many_names() -> None:
    assert len(NAMES) > 1000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "outer" / "node")
    yield folder
    folder.close()


def place(state: StateFolder, folder: Path, text: str, mode: int = 0o644) -> str:
    """Place a file; return why it was refused, or ""."""
    writer = state.open_spool(4)
    writer.write(b"evil")
    spooled = writer.finish()
    try:
        state.place_file(folder, text, spooled, mode, 1.0)
    except (UsageError, OSError) as error:
        state.remove_spooled(spooled)
        return str(error)
    return ""


def everything(top: Path) -> set[str]:
    """Return the paths of all that is below a folder."""
    return {os.path.join(base, name) for base, folders, files in os.walk(top) for name in folders + files}


def test_no_name_leads_out(tmp_path: Path, state: StateFolder) -> None:
    placed = refused = 0
    for text in NAMES:
        folder = state.make_folder(CID)
        state.empty_trash()
        before = everything(tmp_path)
        reason = place(state, folder, text)
        new = everything(tmp_path) - before
        assert all(path.startswith(f"{folder}/") for path in new), (text, new)
        if reason:
            assert not new, text
            refused += 1
        else:
            assert str(relative_path(text)) == text
            placed += 1
    assert refused > 900, "most of them are no plain relative paths"
    assert placed, "some only look as if they led somewhere else"


@given(st.text(max_size=60) | st.from_regex(r"([./\\a:~\x00]{1,3}/?){1,8}", fullmatch=True))
def test_no_text_leads_out(text: str) -> None:
    try:
        path = relative_path(text)
    except UsageError:
        return
    assert not path.is_absolute()
    assert not {"..", ".", ""} & set(text.split("/"))
    assert os.path.normpath(f"/base/{path}") == f"/base/{text}"


@pytest.mark.parametrize("mode", [0o4777, 0o2777, 0o1777, 0o6777, 0o7777, 0o777, 0, -1, 2**31 | 0o4777])
def test_set_uid_bits_and_rights_of_others_are_masked(state: StateFolder, mode: int) -> None:
    folder = state.make_folder(CID)
    assert place(state, folder, "tool", mode) == ""
    assert os.stat(folder / "tool").st_mode & 0o7022 == 0


@pytest.mark.parametrize("text", ["link", "link/file", "link/sub/file", "sub/link/file"])
def test_links_are_not_followed(tmp_path: Path, state: StateFolder, text: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = state.make_folder(CID)
    (folder / "sub").mkdir()
    for link in (folder / "link", folder / "sub" / "link"):
        link.symlink_to(outside)
    place(state, folder, text)
    assert everything(outside) == set()


def test_links_that_come_and_go_are_not_followed(
    tmp_path: Path, state: StateFolder, tell_figure: Callable[[str], None]
) -> None:
    """Somebody else exchanges a folder for a link, over and over, while files are placed in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = state.make_folder(CID)
    (folder / "sub").mkdir()
    ended = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        sub = folder / "sub"
        while not ended.is_set():
            swaps += 1
            with contextlib.suppress(OSError):  # the other side was quicker
                sub.rename(folder / f"old{swaps}")
                sub.symlink_to(outside)
                sub.unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        ends_at = time.monotonic() + RACE_S
        tries = 0
        while time.monotonic() < ends_at:
            tries += 1
            place(state, folder, f"sub/file{tries}")
    finally:
        ended.set()
        thread.join()
    tell_figure(
        f"symlink race: {tries} files placed during {swaps} exchanges: {len(everything(outside))} escapes"
    )
    assert min(tries, swaps) > 100
    assert everything(outside) == set()


HOSTILE = ("../escape", "/tmp/escape", "a/../../escape", "a\nb", "x" * 300)


@pytest.mark.parametrize("name", HOSTILE)
def test_rogue_client_at_a_real_node(
    victim: Any, tmp_path: Path, eventually: Callable[..., None], name: str
) -> None:
    offer = msg.FileOffer(name, 4, 0o4755, 1.0, 1)
    computation = f"{HOSTILE.index(name):032x}"
    with Intruder(victim.port, own_credential(), greeting()) as link:
        link.hear_kind(msg.Hello)
        link.tell(msg.OpenComputation(computation, "evil", "function", "process", b"x", files=[offer]))
        link.send(header(4, 1), b"evil")
        link.tell(msg.StreamEnded(1))
        failed = link.hear_kind(msg.ComputationFailed)
    assert "is not a plain relative path" in failed.reason
    assert msgspec.json.encode(failed)
    assert not os.path.exists("/tmp/escape")
    victim.check()
