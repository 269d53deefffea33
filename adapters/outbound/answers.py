"""Reading an answer: as it comes, decompressed as far as it is read, and no more of either than the cap."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import anyio.lowlevel
from aiohttp import ClientResponse

from domain.outbound import MAX_BODY_BYTES, CallFailed, HttpAnswer

ACCEPTED: Final = "gzip, deflate"
"""Codings that are undone. Others, and stacked ones, are handed over as they are."""

_CHUNK_BYTES: Final = 64 * 1024
_MAX_MEMBERS: Final = 64
"""Of a gzip stream; each copies what is behind it."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_ABOUT_CODING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


async def read_answer(response: ClientResponse) -> HttpAnswer:
    """Read an answer to its end. Raises CallFailed when it is too large or malformed."""
    headers = _headers(response)
    coding = headers.get("content-encoding", "").strip().lower()
    decoder = _decoder(coding)
    length = response.content_length
    if length is not None and length > MAX_BODY_BYTES and response.method != "HEAD":
        raise _too_large()
    body, received = bytearray(), 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        received += len(chunk)
        if received > MAX_BODY_BYTES:
            raise _too_large()
        for piece in (chunk,) if decoder is None else decoder.pieces(chunk):
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise _too_large()
            await anyio.lowlevel.checkpoint()  # few bytes may become many pieces
    if decoder is not None and received:
        decoder.check_end()
        headers = {name: value for name, value in headers.items() if name not in _ABOUT_CODING}
    return HttpAnswer(status=response.status, headers=headers, body=bytes(body))


class _Decoder(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` decompresses to, in pieces of bounded size."""
        ...

    def check_end(self) -> None:
        """Raise CallFailed when the stream is cut off."""
        ...


class _Inflate:
    """gzip and deflate. What is called deflate is zlib's format, but for servers that send it bare."""

    def __init__(self, window_bits: int | None) -> None:
        self._window_bits = window_bits
        self._stream = None if window_bits is None else zlib.decompressobj(window_bits)
        self._members = 1

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """See `_Decoder`."""
        try:
            is_full = False
            while data or is_full:
                piece = self._piece(data)
                yield piece
                data = self._rest()
                # What did not fit into a full piece may wait inside the stream, without any input left to show for it.
                is_full = len(piece) == _CHUNK_BYTES and not self._ended()
        except zlib.error:
            raise CallFailed("malformed", "the answer is not compressed as it says") from None

    def check_end(self) -> None:
        """See `_Decoder`."""
        if not self._ended():
            raise CallFailed("failed", "connection lost (the compressed answer is cut off)")

    def _ended(self) -> bool:
        return self._stream is not None and self._stream.eof

    def _piece(self, data: bytes) -> bytes:
        if self._stream is None:
            self._window_bits = zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
            self._stream = zlib.decompressobj(self._window_bits)
        elif self._stream.eof:
            self._members += 1
            if self._members > _MAX_MEMBERS or self._window_bits != _GZIP:
                raise CallFailed("malformed", "the compressed answer has something behind its end")
            self._stream = zlib.decompressobj(_GZIP)
        return self._stream.decompress(data, _CHUNK_BYTES)

    def _rest(self) -> bytes:
        assert self._stream is not None
        return self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail


def _decoder(coding: str) -> _Decoder | None:
    if coding in {"gzip", "x-gzip"}:
        return _Inflate(_GZIP)
    return _Inflate(None) if coding == "deflate" else None


def _too_large() -> CallFailed:
    return CallFailed("too_large", f"the answer is larger than {MAX_BODY_BYTES} bytes")


def _headers(response: ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _text(raw: bytes) -> str:
    """UTF-8 where it is, ISO 8859-1 otherwise; without NUL, which nothing behind this could store."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\x00", "")
