"""Captions without a captioner: the words of the ImageNet classes that a timm classifier sees. It runs anywhere, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config

from captions.captioners.base import CaptionerSettings, caption_readable
from modules.pretrained import load_whole_classifier
from utils.distributed import Runtime
from utils.errors import UserError

DEFAULT_NETWORK = "tf_efficientnet_lite0"
# A class is named if its probability is at least this, at most so many of them; the first is named whatever it is.
LEAST, MOST = 0.1, 3


def tag_words() -> list[str]:
    """The words that the captioner writes, one for each ImageNet class."""
    info = ImageNetInfo("imagenet-1k")
    # A class has several names ("ram, tup"); the first is the usual one.
    return [info.index_to_description(i).split(",")[0].strip() for i in range(info.num_classes())]


class TagCaptioner:
    """Writes "ox, ram" for an image in which the classifier sees an ox, and perhaps a ram.

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
        self.origin = {"captioner": "tags", "model": network, "pretrained": pretrained}
        self.model = timm.create_model(network)
        load_whole_classifier(self.model, network, pretrained)
        self.model = self.model.to(runtime.device).eval()
        self.transform = create_transform(**resolve_model_data_config(self.model), is_training=False)
        self.words = tag_words()

    @torch.inference_mode()
    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One line for each RGB image."""
        batch = torch.stack([self.transform(image) for image in images]).to(self.runtime.device)
        with self.runtime.autocast():
            probability = self.model(batch).float().softmax(dim=1)
        values, indices = probability.topk(MOST, dim=1)
        return [self._sentence(v, i) for v, i in zip(values.tolist(), indices.tolist(), strict=True)]

    def _sentence(self, values: list[float], indices: list[int]) -> str:
        seen = [i for rank, (v, i) in enumerate(zip(values, indices, strict=True)) if rank == 0 or v >= LEAST]
        return ", ".join(self.words[i] for i in seen)

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """One line for each file, or the fault of one that cannot be read."""
        return caption_readable(paths, self.caption)


def make(settings: CaptionerSettings, runtime: Runtime) -> TagCaptioner:
    """The captioner of ``--captioner tags``."""
    return TagCaptioner(runtime, settings.model or DEFAULT_NETWORK)
