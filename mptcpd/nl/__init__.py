"""Knows bytes: the netlink protocol stack, from datagrams to values and back.

Nothing here knows what a path manager wants. Only ``sock`` touches a socket and only
``namespaces`` enters a namespace; every other module turns bytes into values or values into
bytes, and can be tested without a kernel.
"""
