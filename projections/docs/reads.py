"""Reading `documents`, by id and by filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from domain.docs.filters import Filter
from domain.docs.queries import Query
from domain.ports import Reader
from domain.statements import Statement, load_sql
from projections.docs.compile import Compiler

_SQL: Final = load_sql("projections.docs", "reads.sql")
_MOST_INDEXED: Final = 2048
"""The first of more documents than that, by id, are looked for in the order of ids."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document; `data` is the JSON text of an object."""

    collection: str
    id: str
    data: msgspec.Raw
    version: int
    created_at: datetime
    updated_at: datetime


class DocCollection(msgspec.Struct, frozen=True):
    """A collection and how many documents it has."""

    collection: str
    documents: int


async def read_document(reader: Reader, app_id: UUID, collection: str, doc_id: str) -> Document | None:
    """One document, None when there is none."""
    rows = await reader.fetch(_SQL["get"], app_id, collection, doc_id)
    return _document(collection, rows[0]) if rows else None


async def find_documents(
    reader: Reader, app_id: UUID, collection: str, query: Query, *, max_bytes: int, without: Sequence[str] = ()
) -> tuple[list[Document], bool]:
    """The documents that a query finds, those of some ids left out, and whether more follow.

    At most the query's limit, and no more once their data has `max_bytes`.
    """
    statement = find_statement(app_id, collection, query, max_bytes, without)
    rows = await reader.fetch(statement.sql, *statement.args)
    found = [_document(collection, row) for row in rows[: query.limit]]
    return found, bool(rows) and rows[0]["found"] > len(found)


async def count_documents(reader: Reader, app_id: UUID, collection: str, only: Filter, *, without: Sequence[str] = ()) -> int:
    """How many documents pass a filter, those of some ids left out."""
    statement = count_statement(app_id, collection, only, without)
    rows = await reader.fetch(statement.sql, *statement.args)
    return int(rows[0]["documents"])


async def page_collections(reader: Reader, app_id: UUID, after: str | None, limit: int) -> list[DocCollection]:
    """Up to `limit` collections by name, after a name."""
    return [DocCollection(row["collection"], row["documents"]) for row in await reader.fetch(_SQL["collections"], app_id, after, limit)]


def find_statement(app_id: UUID, collection: str, query: Query, max_bytes: int, without: Sequence[str] = ()) -> Statement:
    """The statement of `find_documents`; it asks for one row more than the limit."""
    compiler = Compiler(app_id, collection)
    keys = compiler.sort_keys(query.sort)
    conditions = _conditions(compiler, query.only, without)
    if query.after is not None:
        conditions.append(compiler.after(keys, query.after))
    named = [(f"key_{number}", key, descending) for number, (key, descending) in enumerate(keys)]
    hits = {
        "condition": " AND ".join(conditions),
        "keys": "".join(f", {key} AS {name}" for name, key, _ in named),
        "order": ", ".join([*(f"{name} {'DESC' if descending else 'ASC'}" for name, _, descending in named), "id"]),
        "limit": compiler.bind(query.limit + 1, "bigint"),
    }
    indexed, found = _hits(compiler, query, hits)
    sql = _filled("find", indexed=indexed, hits=found, order=hits["order"], max_bytes=compiler.bind(max_bytes, "bigint"))
    return Statement(sql, tuple(compiler.args))


def count_statement(app_id: UUID, collection: str, only: Filter, without: Sequence[str] = ()) -> Statement:
    """The statement of `count_documents`."""
    compiler = Compiler(app_id, collection)
    condition = " AND ".join(_conditions(compiler, only, without))
    index_condition = compiler.index_condition(only)
    if index_condition is None:
        sql = _filled("count", indexed="", documents="documents", condition=condition)
    else:
        sql = _filled("count", indexed=_filled("indexed", index_condition=index_condition), documents="indexed", condition=condition)
    return Statement(sql, tuple(compiler.args))


def _conditions(compiler: Compiler, only: Filter, without: Sequence[str]) -> list[str]:
    left_out = [f"id <> ALL ({compiler.bind(list(without), 'text[]')})"] if without else []
    return [compiler.condition(only), *left_out]


def _hits(compiler: Compiler, query: Query, parts: Mapping[str, str]) -> tuple[str, str]:
    """What goes before the statement, and the documents that are found, in order."""
    index_condition = compiler.index_condition(query.only)
    if index_condition is None:
        return "", _filled("hits", documents="documents", **parts)
    if query.sort:
        return _filled("indexed", index_condition=index_condition), _filled("hits", documents="indexed", **parts)
    most = compiler.bind(_MOST_INDEXED, "bigint")
    ways = {way: {**parts, "condition": f"{_filled(f'are_{way}', most=most)} AND {parts['condition']}"} for way in ("few", "many")}
    few, many = _filled("hits", documents="indexed", **ways["few"]), _filled("hits", documents="documents", **ways["many"])
    return _filled("some_indexed", index_condition=index_condition, most=most), _filled("few_or_many", few=few, many=many)


def _filled(block: str, **parts: str) -> str:
    """A block with the parts that the compiler has written."""
    sql = _SQL[block]
    for name, part in parts.items():
        sql = sql.replace(f"{{{name}}}", part)
    return sql


def _document(collection: str, row: Mapping[str, Any]) -> Document:
    return Document(
        collection=collection,
        id=row["id"],
        data=msgspec.Raw(row["data"].encode()),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
