"""WiderResNet-38 A2 (arXiv 1611.10080) with activated batch norm, in the published layout of keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from modules.bodies import Body
from utils.errors import UserError

Norm = Callable[[int], nn.Module]

BLOCKS = (3, 3, 6, 3, 1, 1)
CHANNELS = ((128, 128), (256, 256), (512, 512), (512, 1024), (512, 1024, 2048), (1024, 2048, 4096))
DILATIONS = (1, 1, 1, 2, 4, 4)
# Share of the channels that training drops before a block's last convolution, by module.
DROPOUT = {6: 0.3, 7: 0.5}


class PreActivationBlock(nn.Module):
    """Norm and activation before each convolution; a projecting shortcut starts after the first of them."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], norm: Norm, stride: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.bn1 = norm(channels)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if len(widths) == 2:
            layers["conv1"] = _conv3(channels, widths[0], stride, dilation)
            layers["bn2"] = norm(widths[0])
            layers["conv2"] = _conv3(widths[0], widths[1], 1, dilation)
        else:
            layers["conv1"] = nn.Conv2d(channels, widths[0], 1, stride=stride, bias=False)
            layers["bn2"] = norm(widths[0])
            layers["conv2"] = _conv3(widths[0], widths[1], 1, dilation)
            layers["bn3"] = norm(widths[1])
            layers["conv3"] = nn.Conv2d(widths[1], widths[2], 1, bias=False)
        if dropout:
            last = list(layers)[-1]
            convolution = layers.pop(last)
            layers["dropout"] = nn.Dropout2d(dropout)
            layers[last] = convolution
        self.convs = nn.Sequential(layers)
        self.projects = stride != 1 or channels != widths[-1]
        if self.projects:
            self.proj_conv = nn.Conv2d(channels, widths[-1], 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        if not self.projects:
            # The first norm must not write into the input, which the shortcut still needs.
            return x + self.convs(self.bn1(x.clone() if _in_place(self.bn1) else x))
        activated = self.bn1(x)
        shortcut = self.proj_conv(activated)
        return shortcut + self.convs(activated)


def _conv3(channels: int, out: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


def _in_place(norm: nn.Module) -> bool:
    """Whether the layer writes over its input, as the package inplace-abn does."""
    return type(norm).__module__.startswith("inplace_abn")


class WiderResNetA2(Body):
    """The body: (B, 3, H, W) to its last feature map (B, 4096, H / 8, W / 8) and a finer one (B, 256, H / 4, W / 4).

    The finer one is the input of module 4 after its first norm. Training draws channel dropout in modules 6 and 7.

    Args:
        norm: constructor of the norm layers.
    """

    out_channels = 4096
    mid_channels = 256
    image_stats = "imagenet"
    pool2: nn.Module
    pool3: nn.Module
    mod2: nn.Sequential
    mod3: nn.Sequential
    mod4: nn.Sequential
    mod5: nn.Sequential
    mod6: nn.Sequential
    mod7: nn.Sequential

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.mod1 = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 64, 3, padding=1, bias=False)))
        channels = 64
        for index, (count, widths, dilation) in enumerate(zip(BLOCKS, CHANNELS, DILATIONS, strict=True), start=2):
            if index <= 3:
                setattr(self, f"pool{index}", nn.MaxPool2d(3, stride=2, padding=1))
            module: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(count):
                stride = 2 if index == 4 and block == 0 else 1
                module[f"block{block + 1}"] = PreActivationBlock(
                    channels, widths, norm, stride, dilation, DROPOUT.get(index, 0.0)
                )
                channels = widths[-1]
            setattr(self, f"mod{index}", nn.Sequential(module))
        self.bn_out = norm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Last feature map, and what module 4's first block sees after its first norm."""
        x = self.mod1(x)
        x = self.mod2(self.pool2(x))
        x = self.mod3(self.pool3(x))
        first = self.mod4[0]
        assert isinstance(first, PreActivationBlock)
        mid = first.bn1(x)
        x = self.mod4[1:](first.proj_conv(mid) + first.convs(mid))
        return self.bn_out(self.mod7(self.mod6(self.mod5(x)))), mid


def make(name: str, output_stride: int, norm: Norm) -> WiderResNetA2:
    """The body called ``wider_resnet38_a2``; its stride is 8."""
    if output_stride != 8:
        raise UserError(f"--backbone {name}: its output stride is 8; give --output_stride 8")
    return WiderResNetA2(norm)
