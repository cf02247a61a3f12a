"""Captions without a captioner: the words of the ImageNet classes that a timm classifier sees. It runs anywhere, offline.

Before them stand the classes of ``classes.json`` that they show (``captions/imagenet.py``): "horse, sorrel". Of an unsure classifier,
which spreads a horse over sorrel, Saluki and horse cart, the classes that show a horse are added up.

Source: docs/method.md, "Words of a classifier".
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from captions import imagenet
from captions.captioners.base import CaptionerSettings, caption_readable
from modules.pretrained import load_whole_classifier
from utils.distributed import Runtime
from utils.errors import UserError

DEFAULT_NETWORK = "tf_efficientnet_lite0"
# A class of ImageNet is named if its probability is at least this, at most so many of them; the first is named whatever it is.
LEAST, MOST = 0.1, 3
# A class of the vocabulary is named where the probabilities of all classes of ImageNet that show it are at least this.
LEAST_SHOWN = 0.1


def tag_words() -> list[str]:
    """The words that the captioner may write: of each class of ImageNet, then of the classes that they show."""
    return [*imagenet.words(), *(shown.word for shown in imagenet.shown())]


def _table_digest() -> str:
    """Changes with the words and what they show; captions of two tables are not mixed."""
    table = [imagenet.words(), [(shown.word, shown.by, shown.least) for shown in imagenet.shown()]]
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]


class TagCaptioner:
    """Writes "cow, sheep, ox, ram" for an image in which the classifier sees an ox, and perhaps a ram.

    Args:
        runtime: device and precision.
        network: timm's name of a classifier of the 1000 ImageNet classes.
        pretrained: its weights: imagenet or a file.

    Raises:
        UserError: there is no such network, or its weights cannot be had.
    """

    def __init__(self, runtime: Runtime, network: str = DEFAULT_NETWORK, pretrained: str = "imagenet") -> None:
        if not timm.is_model(network):
            raise UserError(f"--model {network}: timm has no network of this name")
        self.runtime = runtime
        self.origin = {"captioner": "tags", "model": network, "pretrained": pretrained, "table": _table_digest()}
        self.model = timm.create_model(network)
        load_whole_classifier(self.model, network, pretrained)
        self.model = self.model.to(runtime.device).eval()
        self.transform = create_transform(**resolve_model_data_config(self.model), is_training=False)
        self.words, self.shown = imagenet.words(), imagenet.shown()
        self.shows = torch.zeros(imagenet.CLASSES, len(self.shown), device=runtime.device)
        # Which classes each class of ImageNet shows.
        self.of: dict[int, set[int]] = defaultdict(set)
        for column, one in enumerate(self.shown):
            self.shows[list(one.by), column] = 1
            for i in one.by:
                self.of[i].add(column)

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One line for each RGB image."""
        return self.lines(self.probability(images))

    @torch.inference_mode()
    def probability(self, images: Sequence[Image.Image]) -> Tensor:
        """(B, 1000) float32 of ImageNet's classes in RGB images, on the captioner's device."""
        batch = torch.stack([self.transform(image) for image in images]).to(self.runtime.device)
        with self.runtime.autocast():
            logits: Tensor = self.model(batch)
        return logits.float().softmax(dim=1)

    def lines(self, probability: Tensor, least: float = LEAST_SHOWN) -> list[str]:
        """The caption of each row of (B, 1000) probabilities; a class that is shown is named from a sum of ``least`` on."""
        values, indices = probability.topk(MOST, dim=1)
        sums = (probability @ self.shows).tolist()
        return [self._line(*row, least) for row in zip(values.tolist(), indices.tolist(), sums, strict=True)]

    def _line(self, values: list[float], indices: list[int], sums: list[float], least: float) -> str:
        named = [
            i for i, (one, value) in enumerate(zip(self.shown, sums, strict=True))
            if value >= (least if one.least is None else one.least)
        ]  # fmt: skip
        named.sort(key=lambda i: -sums[i])
        seen = [i for rank, (v, i) in enumerate(zip(values, indices, strict=True)) if rank == 0 or v >= LEAST]
        # A word would name what it shows, though all that show it are too improbable; said where nothing else is.
        sure = [i for i in seen if i not in self.of or self.of[i] & set(named)]
        said = [*(self.shown[i].word for i in named), *(self.words[i] for i in sure)]
        return ", ".join(dict.fromkeys(said or [self.words[i] for i in seen]))

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """One line for each file, or the fault of one that cannot be read."""
        return caption_readable(paths, self.caption)


def make(settings: CaptionerSettings, runtime: Runtime) -> TagCaptioner:
    """The captioner of ``--captioner tags``."""
    return TagCaptioner(runtime, settings.model or DEFAULT_NETWORK)
