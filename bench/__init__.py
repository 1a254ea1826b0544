"""Load and measurements: what the daemon does when connections come by the ten thousand.

    make bench                        everything, a few minutes
    .venv/bin/python -m bench NAME... only these (``-m bench --help`` lists them)

Needs root (large receive buffers, many descriptors). Prints numbers and judges nothing; the tests
that judge are in ``tests/kernel/test_load.py``. Runs in private network namespaces (``lab``).
"""
