"""Adding a class to a segmenter: its inputs checked, its stages planned, its sizes chosen (``add_class.py``)."""
