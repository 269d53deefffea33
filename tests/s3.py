"""An S3-compatible server on loopback, with a bucket `blobs`, for the tests that ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

CREDENTIALS: Final = {"access_key_id": "an-id", "secret_access_key": "a-very-secret-key"}


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Its address."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # it takes seconds, which other tests need not wait

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    client(address).create_bucket(Bucket="blobs")
    yield address
    server.stop()


def client(address: str) -> Any:
    """Amazon's own client for it."""
    import boto3  # noqa: PLC0415  # as above

    keys = {f"aws_{name}": value for name, value in CREDENTIALS.items()}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
