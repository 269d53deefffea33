"""Live projections: whoever follows a topic, or a collection of entries or documents, gets every change after a position, once each and in order.

The log is the only source. Each app that is followed has one `Feed` in a process: it follows the app's log and gives every event that somebody waits for to
its `Channel`, as a frame that is encoded once. Subscribers of a channel share its window of recent frames, each with a place of its own in it. Whoever is too
slow and falls out of the window reads the log, page by page, until it is within the window again; nobody waits for it, and nothing is lost or repeated,
because a subscriber's state is one number: the position up to which it has everything.
"""
