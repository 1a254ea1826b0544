"""A Multipath TCP daemon for Linux."""

__version__ = "0.1.0"
