"""`secrets`: which secrets an app has, and the ids of their values in the vault."""

from __future__ import annotations

from projections.secrets.names import SecretNames

__all__ = ["SecretNames"]
