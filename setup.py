"""The one thing setup.cfg cannot say: cffi writes mptcpd/nl/_attrs_abi.py from its build script."""

from __future__ import annotations

from setuptools import setup

setup(cffi_modules=["mptcpd/nl/_attrs_build.py:ffi"])
