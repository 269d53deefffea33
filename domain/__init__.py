"""What can happen: effects, events, states and the pure functions between them.

Nothing here does I/O, reads a clock or draws a random number. Every other folder may import this one; it imports none of them.
"""
