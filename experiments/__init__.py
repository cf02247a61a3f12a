"""Experiments: short files that say which commands make which table, and their runner."""
