"""mptcpctl: see and steer MPTCP. One module an object; ``main`` says how they are joined.

Stands on ``mptcpd.nl``, and imports nothing that the command at hand does not need.
"""
