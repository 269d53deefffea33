"""What is wrong with a database as a whole, said to whoever starts PiCloud on it."""

from __future__ import annotations

from domain.errors import PiCloudError


class DatabaseUnusable(PiCloudError):
    """The database cannot be used as it is."""

    CODE = "database_unusable"
