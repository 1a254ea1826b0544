"""Knows state: what the network and the kernel have, and what plugins were told.

Uses ``mptcpd.nl`` for bytes and must not know policy (plugins) or people (cli). Nothing here reads
arguments or the environment; the world (sockets, clock, configuration) comes in through
constructors. The one exception is ``loader``, which reads plugin files.
"""
