"""The outside world: PostgreSQL, the sandbox. Foreign errors are translated here, once."""
