"""Documents: JSON objects in collections, `docs:<collection>:<id>` streams, and the language in which scripts and people ask for them.

A document exists when its last event is not a `DocDeleted`. Versions go on after a delete, so a version never names two contents.

- `events`: what happens to documents, and how it is decided.
- `filters`: `parse_filter(raw)` makes a `Filter` of untrusted JSON; `queries`: `parse_query(raw)` takes the modifiers `$sort`, `$limit`, `$cursor` as well.
- `evaluate`: `matches(filter, data)` and the order of documents, in exact arithmetic. The SQL of `projections.docs` means the same.
- `merge_patch`: RFC 7396.
"""

from __future__ import annotations

from domain.docs.evaluate import matches
from domain.docs.events import AGGREGATE, DocCreated, DocDeleted, DocUpdated, check_collection, check_id, doc_stream
from domain.docs.filters import Filter, parse_filter

__all__ = ["AGGREGATE", "DocCreated", "DocDeleted", "DocUpdated", "Filter", "check_collection", "check_id", "doc_stream", "matches", "parse_filter"]
