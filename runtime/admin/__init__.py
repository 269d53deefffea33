"""Administration: one service per resource, what the control plane's handlers call.

A service reads the current state with its versions, decides purely, and appends with exact expectations; when somebody else was faster it reads again. Whoever
calls has authorised the principal already; services say what may be done to a thing, not by whom.
"""
