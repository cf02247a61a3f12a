"""Masks of images that nobody has labelled: what predict.py reads, looks at and writes."""
