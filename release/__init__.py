"""What export.py does: a released folder with its card, and the web images that the model owes something to."""
