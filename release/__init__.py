"""What export.py does: a released folder with its card, files that run without this project, and who taught a model."""
