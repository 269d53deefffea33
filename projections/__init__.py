"""Read models: each folder owns its tables, turns events into statements, and can be dropped and rebuilt to the same rows.

A projection is a pure function from a run of events to statements. It sees no driver, no clock and no other projection's tables, so replay gives the same rows.
"""
