"""Segmenters of other libraries learn a new class: their images, their scores, the table."""
