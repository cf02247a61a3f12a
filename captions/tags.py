"""Captions without a captioner: the words of the ImageNet classes that a timm classifier sees. It runs anywhere, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config

from dataset.decode import DecodeError, load_image
from modules.pretrained import load_whole_classifier
from utils.distributed import Runtime

DEFAULT_NETWORK = "tf_efficientnet_lite0"
# A class is named if its probability is at least this, at most so many of them; the first is named whatever it is.
LEAST, MOST = 0.1, 3


class TagCaptioner:
    """Writes "ox, ram" for an image in which the classifier sees an ox, and perhaps a ram.

    Args:
        runtime: device and precision.
        network: timm's name of a classifier of the 1000 ImageNet classes.
        pretrained: its weights: imagenet or a file.

    Raises:
        UserError: the weights cannot be had.
    """

    def __init__(self, runtime: Runtime, network: str = DEFAULT_NETWORK, pretrained: str = "imagenet") -> None:
        self.runtime = runtime
        self.model = timm.create_model(network)
        load_whole_classifier(self.model, network, pretrained)
        self.model = self.model.to(runtime.device).eval()
        self.transform = create_transform(**resolve_model_data_config(self.model), is_training=False)
        info = ImageNetInfo("imagenet-1k")
        self.words = [info.index_to_description(i) for i in range(info.num_classes())]

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
        # A class has several names ("ram, tup"); the first is the usual one.
        return ", ".join(self.words[i].split(",")[0].strip() for i in seen)

    def caption_files(self, paths: Sequence[Path]) -> list[str]:
        """One line for each file; empty for a file that cannot be read."""
        found = [""] * len(paths)
        images = []
        for index, path in enumerate(paths):
            try:
                images.append((index, load_image(path)))
            except DecodeError:
                continue
        if images:
            for (index, _), text in zip(images, self.caption([image for _, image in images]), strict=True):
                found[index] = text
        return found
