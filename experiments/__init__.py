"""Experiments: short files that say which commands make which table, and the runner that runs them."""
