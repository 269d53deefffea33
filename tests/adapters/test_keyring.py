"""The keys of secrets: the file that is made, files that are refused, and values that only their own key and context open."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.keyring import Keyring, Sealed, key_id, parse_key
from domain.secrets import KeyProblem


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def test_a_file_is_made_at_first_use_and_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "data/secrets.key"
    ring = Keyring(file)
    assert ring.current_id() is None
    assert not file.exists()
    sealed = ring.seal(b"value", b"context")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    again = Keyring(file)
    assert again.open(sealed, b"context") == b"value"
    assert again.current_id() == sealed.key_id == key_id(parse_key(file.read_text()))


def test_processes_that_start_together_make_one_key(tmp_path: Path) -> None:
    rings = [Keyring(tmp_path / "secrets.key") for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        identities = set(threads.map(lambda ring: ring.current_id(make=True), rings))
    assert len(identities) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secrets.key"
    Keyring(file).current_id(make=True)
    file.chmod(mode)
    with pytest.raises(KeyProblem, match="can be read by others"):
        Keyring(file).seal(b"value", b"")


@pytest.mark.parametrize("text", ["", "x", "A" * 42, "A" * 60, "ä" * 43, "!" * 44])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secrets.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(KeyProblem, match="a key is 32 bytes"):
        Keyring(file).current_id()


def test_a_file_of_raw_bytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    file.write_bytes(bytes(range(224, 256)))
    file.chmod(0o600)
    with pytest.raises(KeyProblem, match="a key is 32 bytes in base64"):
        Keyring(file).current_id()


def test_a_key_is_durable_before_anything_is_encrypted_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    Keyring(tmp_path / "secrets.key").seal(b"value", b"context")
    assert synced == [False, True]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyProblem, match="cannot be made"):
        Keyring(tmp_path / "file/secrets.key").current_id(make=True)


def test_a_value_opens_with_its_key_and_context_alone(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "k", key(1))
    sealed = ring.seal(b"value", b"context")
    assert b"value" not in sealed.cipher
    assert ring.seal(b"value", b"context") != sealed
    with pytest.raises(KeyProblem, match="damaged, or belongs elsewhere"):
        ring.open(sealed, b"another")
    with pytest.raises(KeyProblem, match="damaged"):
        ring.open(Sealed(sealed.key_id, sealed.nonce, sealed.cipher[:-1] + bytes([sealed.cipher[-1] ^ 1])), b"context")
    with pytest.raises(KeyProblem, match="is not here"):
        Keyring(tmp_path / "k", key(2)).open(sealed, b"context")
    after = Keyring(tmp_path / "k", key(2), [key(3), key(1)])
    assert after.open(sealed, b"context") == b"value"
    assert after.seal(b"x", b"").key_id == key_id(parse_key(key(2)))
    assert not (tmp_path / "k").exists()


def test_both_alphabets_are_read() -> None:
    raw = bytes(range(224, 256))
    assert parse_key(base64.b64encode(raw).decode()) == parse_key(base64.urlsafe_b64encode(raw).decode().rstrip("=")) == raw
