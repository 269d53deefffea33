"""Puts the parts together: composition root, settings, unit of work, executor, reactor, scheduler, supervisor and command line."""
