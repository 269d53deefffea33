"""Who comes in and who that is: logins, sessions, API keys, passwords, and the log of access."""
