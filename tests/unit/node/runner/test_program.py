"""Arguments of programs, and programs that cannot be started; those that can are in tests/e2e/test_runner.py."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.program import NotExecuted, decode_arguments, execute
from dispy_node.runner.replies import INLINE, SPOOLED

texts = st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))


def encode(arguments: list[str]) -> bytes:
    parts = [argument.encode("utf-8", "surrogateescape") + b"\0" for argument in arguments]
    return struct.pack("<I", len(arguments)) + b"".join(parts)


@given(st.lists(texts))
def test_arguments_come_out_as_they_went_in(arguments: list[str]) -> None:
    assert decode_arguments(encode(arguments)) == arguments


@given(st.lists(texts, min_size=1), st.data())
def test_cut_arguments_are_refused(arguments: list[str], data: st.DataObject) -> None:
    body = encode(arguments)
    length = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(ValueError, match="cut off"):
        decode_arguments(body[:length])


@pytest.mark.parametrize(
    "body", [b"\1\0\0\0", b"\0\0\0\0x", b"\0\0\0\0\0", b"\1\0\0\0a\0b\0", b"\2\0\0\0a\0"]
)
def test_counts_must_fit(body: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decode_arguments(body)


def test_a_missing_program_is_told(make_settings) -> None:
    settings = make_settings(program=["/nowhere/found"])
    with pytest.raises(
        NotExecuted, match=r"program '/nowhere/found' is not on node there .*depends=\[\.\.\.\]"
    ):
        execute(settings, INLINE, encode(["one"]))


def test_garbled_arguments_are_told(make_settings) -> None:
    with pytest.raises(NotExecuted, match="the arguments of the program are cut off"):
        execute(make_settings(program=["/nowhere/found"]), INLINE, b"")


def test_a_command_line_with_a_zero_byte_is_told(make_settings) -> None:
    with pytest.raises(NotExecuted, match="cannot be given these arguments"):
        execute(make_settings(program=["/nowhere/found", "\0"]), INLINE, encode([]))


def test_arguments_in_a_file_are_removed_when_they_are_read(make_settings, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(encode(["one"]))
    with pytest.raises(NotExecuted, match="is not on node there"):
        execute(make_settings(program=["/nowhere/found"]), SPOOLED, str(path).encode())
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        execute(make_settings(program=["/nowhere/found"]), SPOOLED, str(path).encode())


def test_a_process_becomes_the_program(run_script) -> None:
    told = run_script(
        """
        import struct
        from dispy_node.runner.program import execute
        from dispy_node.runner.settings import Settings

        told = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(told[1], 1)
            settings = Settings({"folder": ".", "spool": ".", "program": ["/bin/sh", "-c", 'echo "$1-$2"', "sh"]})
            try:
                execute(settings, 0, struct.pack("<I", 2) + b"one\\0two words\\0")
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        told = [os.waitstatus_to_exitcode(status), os.read(told[0], 100).decode()]
        """
    )
    assert told == [0, "one-two words\n"]
