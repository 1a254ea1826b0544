"""Knows people: command lines, configuration files, logs and the words that are printed.

The only layer that reads argv, files and the environment, and the one that joins the others.
"""
