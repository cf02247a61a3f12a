"""What captions say: WordNet's nouns, and the vocabulary of a class."""
