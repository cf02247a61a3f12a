"""Tiny segmenters, whose norms do something."""

from __future__ import annotations

import torch
from torch import nn

from modules.description import OWN, Description
from modules.norm import is_norm
from segmentation_module import Segmenter, make_segmenter
from utils import distributed

NAMES = ("background", "cat", "dog", "cow")


def stir(network: nn.Module) -> nn.Module:
    """The network with random statistics, scales (negative ones too) and shifts in its norms, in evaluation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if is_norm(module) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                if module.weight is None:
                    continue
                module.weight.uniform_(-1.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return network.eval()


def described(backbone: str = "timm:test_efficientnet", norm: str = "iabn_sync") -> Description:
    """A segmenter of this project: three classes, and cow as 7; the head's window is 4 pixels of stride 16."""
    network = {
        "library": OWN,
        "backbone": backbone,
        "output_stride": 16,
        "norm_act": norm,
        "pooling": 4,
        "image_stats": "auto",
    }
    return Description(network, ((0, 1, 2), (7,)), NAMES, binary=True)


def segmenter(description: Description | None = None) -> Segmenter:
    """One with random weights that sees every class somewhere in a picture of noise."""
    description = description or described()
    torch.manual_seed(0)
    made = Segmenter(description, stir(make_segmenter(description)).state_dict(), distributed.start("cpu"), "tiny.pth")
    noise = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    logits = made.logits(noise)
    middle, scale = logits.mean((0, 2, 3)), 4 / logits.std((0, 2, 3))
    first = 0
    for classifier in made.model.cls:
        own = slice(first, first + classifier.out_channels)
        classifier.weight.mul_(scale[own, None, None, None])
        classifier.bias.sub_(middle[own]).mul_(scale[own])
        first = own.stop
    return made
