"""Reads the configuration file, if it may be trusted, and joins it with the command line.

Knows    files and where the default one is.
Not      what the file says (``core.config``), nor whose files are trusted (``core.trust``).
Errors   ConfigError and Untrusted; both are one line for the user, and exit status 1.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from mptcpd.cli import log, paths
from mptcpd.cli.options import Options
from mptcpd.cli.runtime import NONE
from mptcpd.core.config import Config, ConfigError, Settings, parse
from mptcpd.core.trust import trusted


def read(file: str, owners: Collection[int], *, required: bool) -> Settings:
    """What ``file`` says; nothing if it does not exist and is not ``required``.

    Links are followed. Kind, mode and owner are those of what was opened, not of the name.
    """
    try:
        # O_NONBLOCK: opening a FIFO would else wait for a writer before it can be refused.
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        if required:
            raise ConfigError(file, None, f"{error.strerror}") from error
        return Settings()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(file, None, f"{reason}") from error
    try:
        trusted(os.fstat(fd), file, owners)
        with open(fd, "rb", closefd=False) as stream:
            raw = stream.read()
    except OSError as error:
        raise ConfigError(file, None, f"{error.strerror}") from error
    finally:
        os.close(fd)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, line, f"not UTF-8: byte 0x{raw[error.start]:02x}") from error
    return parse(text, file)


def load(options: Options) -> Config:
    """The configuration to go by: command line, then file, then defaults."""
    file = paths.config_file() if options.config is None else options.config
    said = read(file, paths.owners(), required=options.config is not None)
    config = Config.merge(options.settings, said, paths.plugin_dir())
    if options.daemonize:
        for key, name in (("plugin-dir", config.plugin_dir), ("runtime-dir", config.runtime_dir)):
            if not os.path.isabs(name) and name != NONE:
                raise ConfigError("", None, f'{key}: "{name}" has to begin with / with --daemonize')
        if config.log == "stderr":
            config = config._replace(log=log.in_background())
    return config
