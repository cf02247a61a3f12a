"""The engine: what trains, validates, tests, labels and keeps the state of a run."""
