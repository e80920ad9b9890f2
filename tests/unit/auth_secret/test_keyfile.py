"""The key file: made once, private, with a preferred key and others."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dispy.errors import CredentialsError
from dispy.private import only_one
from dispy_auth_secret import keyfile
from dispy_auth_secret.keyfile import (
    drop_key,
    key_path,
    load_keys,
    new_key,
    parse_keys,
    prefer_key,
    read_keys,
)
from dispy_auth_secret.keys import Key, make_key

PATIENCE_S = 30
"""Nothing here takes a second on an idle machine."""

real_flock = fcntl.flock

FIRST, SECOND, THIRD = (Key(bytes([number] * 32)) for number in range(3))


def put(config: Path, text: str) -> Path:
    config.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config / "key"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_file_is_made_on_first_use_for_the_user_alone(config: Path) -> None:
    (key,) = load_keys()
    assert key_path() == config / "key"
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert load_keys() == read_keys() == [key]
    assert [path.name for path in config.iterdir()] == ["key"]


def test_reading_makes_nothing(config: Path) -> None:
    assert read_keys() == []
    assert not config.exists()


def test_processes_that_start_at_once_agree(config: Path) -> None:
    code = "import sys; from dispy_auth_secret.keyfile import load_keys; from dispy_auth_secret.keys import subkey\n"
    code += (
        "subkey(b'', ''); print('ready', flush=True); sys.stdin.readline(); print(load_keys()[0].fingerprint)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = {process.communicate(timeout=PATIENCE_S)[0].strip() for process in started}
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert told == {load_keys()[0].fingerprint}


def test_who_comes_second_takes_the_key_of_the_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_while_another_is_quicker() -> Key:
        put(config, FIRST.text)
        return SECOND

    monkeypatch.setattr(keyfile, "make_key", make_while_another_is_quicker)
    assert load_keys() == [FIRST]


def test_file_may_have_comments_and_several_keys(config: Path) -> None:
    put(config, f"# mine\n\n  {FIRST.text.upper()}\t# for now\r\n{SECOND.text}\n{FIRST.text}")
    assert load_keys() == [FIRST, SECOND]


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_file_without_a_key_is_told(config: Path, text: str) -> None:
    path = put(config, text)
    with pytest.raises(
        CredentialsError, match=f"^the key file '{path}' holds no key; make one with: dispy key new"
    ):
        load_keys()
    assert path.read_text() == text


def test_wrong_line_is_told_by_its_number_only(config: Path) -> None:
    path = put(config, f"# one\n{FIRST.text}\n{SECOND.text[:-1]}\n")
    with pytest.raises(
        CredentialsError, match=f"^line 3 of the key file '{path}': the key was not copied"
    ) as caught:
        load_keys()
    assert SECOND.text[7:30] not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_file_that_others_can_touch_is_refused(config: Path, mode: int) -> None:
    path = put(config, FIRST.text)
    path.chmod(mode)
    for use in (load_keys, new_key, lambda: prefer_key(SECOND), lambda: drop_key(FIRST.fingerprint)):
        with pytest.raises(CredentialsError, match=f"; run: chmod 600 {path}$"):
            use()
    assert path.read_text() == FIRST.text


def test_folder_that_others_can_write_into_is_refused(config: Path) -> None:
    put(config, FIRST.text)
    config.chmod(0o770)
    with pytest.raises(CredentialsError, match=f"; run: chmod 700 {config}$"):
        load_keys()


def test_links_are_refused(config: Path, tmp_path: Path) -> None:
    path = put(config, FIRST.text)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CredentialsError, match=f"'{path}' is a link"):
        load_keys()
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CredentialsError, match=f"'{path}' is a link"):
        load_keys()
    assert not (tmp_path / "nowhere").exists()


def test_folder_that_is_a_link_is_refused(config: Path, tmp_path: Path) -> None:
    put(config, FIRST.text)
    config.rename(tmp_path / "elsewhere")
    config.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CredentialsError, match=f"'{config}' is a link"):
        load_keys()


def test_key_from_elsewhere_is_the_only_one_of_a_new_machine() -> None:
    assert prefer_key(FIRST) == [FIRST]
    assert load_keys() == [FIRST]


def test_change_of_a_key_accepts_both_until_the_old_one_is_dropped(config: Path) -> None:
    (old,) = load_keys()
    new = new_key()
    assert load_keys() == [new, old]
    assert drop_key(old.fingerprint) == [new]
    assert load_keys() == [new]
    assert stat.S_IMODE((config / "key").stat().st_mode) == 0o600


def test_preferred_key_comes_first_and_comments_stay(config: Path) -> None:
    path = put(config, f"# mine\n{FIRST.text} # first\n# others\n{SECOND.text.upper()}\n")
    assert prefer_key(THIRD) == [THIRD, FIRST, SECOND]
    assert prefer_key(SECOND) == [SECOND, THIRD, FIRST]
    assert prefer_key(SECOND) == [SECOND, THIRD, FIRST]
    assert path.read_text() == f"# mine\n{SECOND.text}\n{THIRD.text}\n{FIRST.text} # first\n# others\n"


def test_key_goes_into_a_file_that_holds_none(config: Path) -> None:
    path = put(config, "# none yet\n")
    assert prefer_key(FIRST) == [FIRST]
    assert path.read_text() == f"# none yet\n{FIRST.text}\n"


def test_file_with_a_wrong_line_is_not_written(config: Path) -> None:
    text = f"{FIRST.text}\nnonsense\n"
    path = put(config, text)
    with pytest.raises(CredentialsError, match="line 3"):
        prefer_key(SECOND)
    assert path.read_text() == text


def test_dropped_key_must_be_there() -> None:
    prefer_key(FIRST)
    prefer_key(SECOND)
    there = f"{SECOND.fingerprint}, {FIRST.fingerprint}"
    for given in (THIRD.fingerprint, THIRD.text, ""):
        with pytest.raises(
            CredentialsError, match=f"^no key has this fingerprint; use one of these: {there}$"
        ):
            drop_key(given)
    assert drop_key(f" {SECOND.fingerprint.upper()} ") == [FIRST]


def test_last_key_stays() -> None:
    prefer_key(FIRST)
    with pytest.raises(
        CredentialsError, match=f"^key {FIRST.fingerprint} is the only one; make another one first"
    ):
        drop_key(FIRST.fingerprint)
    assert load_keys() == [FIRST]


def test_nothing_can_be_dropped_where_no_file_is(config: Path) -> None:
    with pytest.raises(CredentialsError, match="use one of these: none"):
        drop_key(FIRST.fingerprint)
    assert not config.exists()


def test_without_a_home_folder_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_CONFIG_DIR", "relative")
    with pytest.raises(CredentialsError, match="start it with /"):
        load_keys()


def test_keys_in_a_text() -> None:
    assert parse_keys(f"{SECOND.text}\n{FIRST.text}\n", "a text") == [SECOND, FIRST]
    with pytest.raises(CredentialsError, match="^a text holds no key; "):
        parse_keys("\n", "a text")
    with pytest.raises(CredentialsError, match="^line 1 of a text: this is no key"):
        parse_keys("super", "a text")


def test_trouble_while_writing_leaves_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    prefer_key(FIRST)

    def disk_is_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(CredentialsError, match="No space left on device"):
        prefer_key(make_key())
    assert load_keys() == [FIRST]


def test_of_many_changes_at_once_none_is_lost() -> None:
    """Each process adds a key, and none of the others' goes away."""
    load_keys()
    program = (
        "import sys\n"
        "from dispy_auth_secret.keyfile import prefer_key\n"
        "from dispy_auth_secret.keys import Key\n"
        "sys.stdin.read()\n"
        "for number in range(5):\n"
        "    prefer_key(Key(bytes([int(sys.argv[1]), number] * 16)))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], stdin=subprocess.PIPE)
        for number in range(1, 5)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(PATIENCE_S) for process in processes] == [0] * 4
    expected = {Key(bytes([process, number] * 16)) for process in range(1, 5) for number in range(5)}
    assert set(read_keys()) >= expected
    assert len(read_keys()) == 21


@pytest.mark.parametrize("change", [lambda: prefer_key(SECOND), lambda: drop_key(FIRST.fingerprint)])
def test_change_waits_for_the_one_before(
    config: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]
) -> None:
    put(config, f"{FIRST.text}\n{THIRD.text}\n")
    waits = threading.Event()

    def flock(descriptor: int, operation: int) -> None:
        waits.set()
        real_flock(descriptor, operation)

    with only_one(config):
        monkeypatch.setattr(fcntl, "flock", flock)
        other = threading.Thread(target=change)
        other.start()
        assert waits.wait(PATIENCE_S)
        assert read_keys() == [FIRST, THIRD]
    other.join(PATIENCE_S)
    assert read_keys() != [FIRST, THIRD]
