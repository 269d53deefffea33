"""How much an app may use: rates of requests, quotas of a day, storage, and what was used."""
