"""The ground floor: devices and ranks, checkpoints, schedules, metrics, logs, manifests, images, pages, files written whole, scripts' ends.

Imports nothing of the project above it; ``table`` and ``measure_noun`` are published names of commands that live higher up.
"""
