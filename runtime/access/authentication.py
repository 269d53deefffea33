"""Who bears a credential: a session's token or an API key, told apart by their form."""

from __future__ import annotations

from domain.api_keys import is_token
from runtime.access.accounts import Accounts
from runtime.access.api_keys import ApiKeys
from runtime.access.identity import Identity


class Authentication:
    """Asks the database about every credential, each time: what was ended a moment ago is not good any more, in whatever process."""

    def __init__(self, accounts: Accounts, api_keys: ApiKeys) -> None:
        self._accounts = accounts
        self._api_keys = api_keys

    async def authenticate(self, token: str) -> Identity | None:
        """Whose token this is; None when it is nobody's (any more). Notes the use, at most once a minute."""
        return await (self._api_keys if is_token(token) else self._accounts).authenticate(token)
