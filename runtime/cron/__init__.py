"""Cron: when schedules are due (`schedule`), and the ticks of those that are (`scheduler`)."""
