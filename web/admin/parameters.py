"""How handlers declare parameters. All are text: `domain.cursors` and `web.paths` read them, so that every refusal is ours and names the field."""

from __future__ import annotations

from litestar.params import FromPath, FromQuery

Query = FromQuery[str | None]
"""`limit: Query = None`."""
Segment = FromPath[str]
"""`app: Segment`, of a path like `/apps/{app:str}`."""
