"""Encryption of what is at rest: AES-256-GCM under keys that are known by an id, one of them for what is encrypted from now on.

The ciphers are loaded by the first value that needs them.

The current key comes from the settings, or from a file that is made at its first use and that nobody else may read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from domain.secrets import KeyProblem

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Sealed(msgspec.Struct, frozen=True):
    """An encrypted value, and the id of its key."""

    key_id: str
    nonce: bytes
    cipher: bytes


class Keyring:
    """`current` None: the key in `file`. `old` are keys that values may still be encrypted with."""

    def __init__(self, file: Path, current: str | None = None, old: Sequence[str] = ()) -> None:
        self._file = file
        self._known = {key_id(key): key for key in map(parse_key, old)}
        self._current = None if current is None else self._add(parse_key(current))

    def current_id(self, *, make: bool = False) -> str | None:
        """The id of the key for what is encrypted from now on; with `make` there is one. Raises KeyProblem when the file cannot be used."""
        if self._current is None and (make or self._file.exists()):
            if not self._file.exists():
                _make_file(self._file)
            self._current = self._add(_read_file(self._file))
        return self._current

    def knows(self, identity: str) -> bool:
        """Whether what is encrypted with that key can be decrypted. Raises KeyProblem."""
        return self.current_id() == identity or identity in self._known

    def seal(self, value: bytes, context: bytes) -> Sealed:
        """Encrypt with the current key, for this context alone. Raises KeyProblem."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        identity = self.current_id(make=True)
        assert identity is not None
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Sealed(identity, nonce, AESGCM(self._known[identity]).encrypt(nonce, value, context))

    def open(self, sealed: Sealed, context: bytes) -> bytes:
        """Decrypt. Raises KeyProblem when the key is not there, or value or context are not those that were encrypted."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not self.knows(sealed.key_id):
            raise KeyProblem(f"the key {sealed.key_id} that this value is encrypted with is not here: see PICLOUD_SECRETS_KEY and PICLOUD_SECRETS_OLD_KEYS")
        try:
            return AESGCM(self._known[sealed.key_id]).decrypt(sealed.nonce, sealed.cipher, context)
        except InvalidTag:
            raise KeyProblem("this value was damaged, or belongs elsewhere") from None

    def _add(self, key: bytes) -> str:
        identity = key_id(key)
        self._known[identity] = key
        return identity


def key_id(key: bytes) -> str:
    """What a key is known by. It tells nothing of the key."""
    return hashlib.sha256(b"picloud key id\x00" + key).hexdigest()[:12]


def parse_key(text: str) -> bytes:
    """A key as people write it: 32 bytes in base64, of either alphabet. Raises KeyProblem."""
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/") + "=" * (-len(text.strip()) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyProblem(f"a key is {KEY_BYTES} bytes in base64: make one with `openssl rand -base64 32`")
    return key


def _read_file(file: Path) -> bytes:
    try:
        with file.open() as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & _OTHERS:
                raise KeyProblem(f"the key file {file} can be read by others: chmod 600 it, and consider what it protects as known")
            return parse_key(opened.read())
    except UnicodeDecodeError:
        return parse_key("")
    except OSError as error:
        raise KeyProblem(f"the key file {file} cannot be read: {error.strerror}") from error


def _make_file(file: Path) -> None:
    """Make the file whole or not at all; of several processes one makes it."""
    text = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".secrets-")  # 0600
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"{text}\n")
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(name, file)
        except FileExistsError:
            pass  # somebody else was faster
        finally:
            Path(name).unlink()
        _sync(file.parent)
    except OSError as error:
        raise KeyProblem(f"the key file {file} cannot be made: {error.strerror}") from error


def _sync(folder: Path) -> None:
    """Make the name of the file durable: what is encrypted with a key is lost when that is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
