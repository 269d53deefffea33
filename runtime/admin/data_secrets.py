"""Secrets for people: which there are, set and deleted. Their values are never shown again."""

from __future__ import annotations

from uuid import UUID

from domain.errors import Conflict, NotFound, Unavailable
from domain.ports import Reader
from domain.secrets import MAX_SECRETS, DeleteSecret, KeyProblem, SecretDeleted, SecretSet, SetSecret, check_name, check_value
from domain.units import Change
from projections.secrets.reads import SecretView, count_others, page_secrets
from runtime.admin.writing import Acting, AdminWriter
from runtime.secrets import Secrets


class SecretsData:
    """The secrets of all apps."""

    def __init__(self, reader: Reader, secrets: Secrets, writer: AdminWriter) -> None:
        self._reader = reader
        self._secrets = secrets
        self._writer = writer

    async def page(self, app_id: UUID, after: str | None, limit: int) -> list[SecretView]:
        """Secrets by name."""
        return await page_secrets(self._reader, app_id, after, limit)

    async def put(self, app_id: UUID, name: str, value: str, acting: Acting) -> SecretView:
        """Set a secret. Raises Invalid, Conflict when the app has too many, Unavailable when there is no key to encrypt it with."""
        check_name(name)
        check_value(value)
        if await count_others(self._reader, app_id, name) >= MAX_SECRETS:
            raise Conflict(f"an app has at most {MAX_SECRETS} secrets", code="too_many_secrets")
        try:
            value_id = await self._secrets.store(app_id, name, value)
        except KeyProblem as error:
            raise Unavailable(f"secrets: {error}", retry_after_s=60) from error
        (recorded,) = await self._writer.append(app_id, acting, [Change(SetSecret(name=name, value_id=value_id))])
        assert isinstance(recorded.event, SecretSet)
        if recorded.event.replaces is not None:
            await self._secrets.forget(app_id, recorded.event.replaces)
        return SecretView(name=name, version=recorded.version, updated_at=recorded.recorded_at)

    async def delete(self, app_id: UUID, name: str, acting: Acting) -> None:
        """Delete a secret. Raises Invalid, or NotFound when it is absent."""
        events = await self._writer.append(app_id, acting, [Change(DeleteSecret(name=check_name(name)))])
        if not events:
            raise NotFound("there is no such secret")
        assert isinstance(events[0].event, SecretDeleted)
        await self._secrets.forget(app_id, events[0].event.value_id)
