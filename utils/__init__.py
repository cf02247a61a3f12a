"""The ground floor: losses, metrics, schedules, devices, checkpoints, logs. Imports nothing of the project above it."""
