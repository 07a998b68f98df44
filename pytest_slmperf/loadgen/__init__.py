"""The load generator: client processes that send a slice of a schedule and time the answers.

``client.py`` and what it imports (``frames``, ``timer``, ``arena``, ``connection``, ``wire``, ``tally``) need the
standard library only: a client is a process of its own, a function of its slice.
"""
