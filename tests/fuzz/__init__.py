"""Hostile input to every reader. What holds for all of them stands in ``harness.py``, what they are given in ``strategies.py``."""
