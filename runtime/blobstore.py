"""Which store the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from adapters.blobs.local import LocalBlobs
from domain.blobs import BlobStore
from runtime.blobs import Blobs
from runtime.environment import Secret
from runtime.metrics import Metrics
from runtime.settings import Files, Settings


def open_blobs(settings: Settings, metrics: Metrics) -> Blobs:
    """The blobs of an instance. Nothing is connected to or made on disk before it is used."""
    files = settings.files
    return Blobs(_store(files, settings.data_dir), metrics, max_file_bytes=files.max_file_bytes, max_run_bytes=files.max_run_bytes)


def _store(files: Files, data_dir: Path) -> BlobStore:
    if files.url is None:
        return LocalBlobs(data_dir / "blobs")
    from adapters.blobs.objects import ObjectBlobs, S3Place  # noqa: PLC0415  # with its library, only where it is used

    url = urlsplit(files.url.value)
    place = S3Place(
        bucket=url.netloc,
        prefix=url.path.strip("/"),
        endpoint=_revealed(files.endpoint),
        region=files.region or "us-east-1",
        access_key_id=_revealed(files.access_key_id),
        secret_access_key=_revealed(files.secret_access_key),
    )
    return ObjectBlobs(place, data_dir / "spool")


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.value
