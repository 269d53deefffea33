from typing import Any

class _Pubsub:
    def publish_durable(self, topic: str, message: Any) -> None: ...
    def subscriber_token(self, topics: list[str] | dict[str, list[str]], ttl: float = 3600) -> str: ...

pubsub: _Pubsub
