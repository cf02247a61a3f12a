"""The segmenter: a body, a head, and one classifier per step (docs/method.md, "The network").

From Python: ``load_segmenter("OUT").predict("photo.jpg")`` gives mask, names and confidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from modules import hub
from modules.adopted import adopt, is_adopted, make_parts
from modules.adopted.parts import Parts, absence, log_odds
from modules.adopted.settings import AdoptSettings
from modules.bodies import Body, make_body
from modules.deeplab import HEAD_CHANNELS, DeeplabV3
from modules.description import ADDED_BACKGROUND, SOFTMAX, Description
from modules.norm import arithmetic, make_norm
from modules.released import read_released
from tasks import IGNORE
from utils import checkpoint, distributed
from utils.distributed import Runtime
from utils.errors import UserError
from utils.images import load_image
from utils.normalisation import Normalisation

# Stride of the grid on which an adopted network is trained.
GRID = 8


# A body's maps: of this project's the last one and a finer one, of an adopted one all that its head asks, fine ones first.
Maps = Sequence[Tensor]


class Output(NamedTuple):
    """What the segmenter says of images (B, 3, H, W).

    Attributes:
        logits: (B, C, H, W), or (B, C, h, w) where they were not interpolated.
        features: ``body`` (B, D, h, w), ``mid`` (a finer map of the body) and ``head`` (B, 256, h, w).
    """

    logits: Tensor
    features: dict[str, Tensor]


class IncrementalSegmentationModule(nn.Module):
    """Body, head and classifiers; the channels of all classifiers are concatenated.

    Args:
        body: images to (features, finer features).
        head: features to (B, 256, h, w).
        classes: channels of each step's classifier, background in the first.
    """

    def __init__(self, body: Body, head: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.cls = nn.ModuleList(nn.Conv2d(HEAD_CHANNELS, count, 1) for count in classes)

    def body_input(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) as the body sees them."""
        return images

    def forward(self, images: Tensor, interpolate: bool = True, maps: Maps | None = None) -> Output:
        """Logits of ``images`` (B, 3, H, W), at their size or at the features'.

        Args:
            images: normalised.
            interpolate: bring the logits to the images' size.
            maps: what the body gives for ``body_input(images)``, where it was asked already.
        """
        body, mid = self.body(self.body_input(images)) if maps is None else maps
        head = self.head(body)
        logits = torch.cat([classifier(head) for classifier in self.cls], dim=1)
        if interpolate:
            logits = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
        return Output(logits, {"body": body, "mid": mid, "head": head})

    def body_feature(self, maps: Maps, size: Sequence[int]) -> Tensor:
        """The feature ``body`` of an ``Output`` without logits, of the body's maps of images of ``size``, height and width."""
        return maps[0]

    @torch.no_grad()
    def init_new_classifier(self) -> None:
        """Start the last classifier from background, whose probability it shares out (MiB, section 3.3).

        With N new classes (``--init_balanced``) their weights are background's; their bias and background's own become
        b - log(N + 1).
        """
        first, new = self.cls[0], self.cls[-1]
        assert isinstance(first, nn.Conv2d) and isinstance(new, nn.Conv2d)
        assert first.bias is not None and new.bias is not None
        bias = first.bias[0] - math.log(new.weight.shape[0] + 1)
        new.weight.copy_(first.weight[:1].expand_as(new.weight))
        new.bias.fill_(float(bias))
        first.bias[0] = bias


def make_model(
    *, backbone: str, output_stride: int, norm_act: str, classes: Sequence[int], pooling: int
) -> IncrementalSegmentationModule:
    """A segmenter with random weights.

    Args:
        backbone: name of the body (``modules.bodies``).
        output_stride: 8 or 16.
        norm_act: name of the norm (``modules.norm``).
        classes: channels of each step's classifier.
        pooling: side of the head's sliding average in evaluation, feature pixels.

    Raises:
        UserError: an unknown body or norm, or a stride that the body does not have.
    """
    norm = make_norm(norm_act)
    body = make_body(backbone, output_stride, norm)
    head = DeeplabV3(body.out_channels, norm, output_stride, pooling)
    return IncrementalSegmentationModule(body, head, classes)


class AdoptedBody(Body):
    """A library's body; ``out_channels`` are those of its deepest map.

    Args:
        net: images to feature maps, fine ones first.
        out_channels: of the deepest map.
        normalisation: of the images that it wants.
    """

    def __init__(self, net: nn.Module, out_channels: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.net = net
        self.out_channels = self.mid_channels = out_channels
        self.image_stats = normalisation

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to the maps."""
        maps: list[Tensor] = self.net(images)
        return maps


class AdoptedSegmentationModule(nn.Module):
    """A segmenter of another library, and one classifier for each step after it (docs/method.md, "Adopted segmenters").

    The first channels are the library's logits as log-odds of each class against all others; those of later steps are log-odds
    from the start.

    Args:
        parts: body, head and last convolution.
        description: how the network sees, and the classes of its steps.
    """

    def __init__(self, parts: Parts, description: Description) -> None:
        super().__init__()
        network = description.network
        normalisation = Normalisation(tuple(network["mean"]), tuple(network["std"]))
        self.body = AdoptedBody(parts.body, parts.out_channels, normalisation)
        self.head = parts.head
        last = parts.classifier
        self.cls = nn.ModuleList(
            nn.Conv2d(last.in_channels, len(classes), last.kernel_size, padding=last.padding)  # type: ignore[arg-type]
            for classes in description.steps
        )
        self.align_corners = parts.align_corners
        self.bgr: bool = network["bgr"]
        self.multiple: int = network["multiple"]
        self.least: int = network.get("least", 1)
        self.size: list[int] | None = network.get("size")
        self.softmax = network["outputs"] == SOFTMAX
        self.absence = not self.softmax and network["background"] == ADDED_BACKGROUND
        for step in range(1, len(self.cls)):
            self._start_classifier(step)

    def body_input(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) as the body sees them: channels in its order, at a size that it takes."""
        return self._fitted(images.flip(1) if self.bgr else images)

    def forward(self, images: Tensor, interpolate: bool = True, maps: Maps | None = None) -> Output:
        """Log-odds of ``images`` (B, 3, H, W), at their size or, as the features ``body``, on a grid of stride 8.

        Args:
            images: normalised.
            interpolate: bring the log-odds to the images' size.
            maps: what the body gives for ``body_input(images)``, where it was asked already.
        """
        size = images.shape[-2:]
        if maps is None:
            fitted = self.body_input(images)
            seen, maps = fitted.shape[-2:], self.body(fitted)
        else:
            seen = self._fitted_size(size)
        head = self.head(maps)
        logits = torch.cat([classifier(head) for classifier in self.cls], dim=1)
        grid = [-(-side // GRID) for side in size]
        if interpolate:
            logits = self._at_size(logits, seen, size)
        else:
            logits = self._at_grid(logits, seen, grid)
        features = {
            "body": self._at_grid(maps[-1], seen, grid),
            "mid": maps[max(0, len(maps) - 2)],
            "head": head,
        }
        return Output(self._turned(logits), features)

    def body_feature(self, maps: Maps, size: Sequence[int]) -> Tensor:
        """The feature ``body`` of an ``Output`` without logits, of the body's maps of images of ``size``, height and width."""
        return self._at_grid(maps[-1], self._fitted_size(size), [-(-side // GRID) for side in size])

    def _fitted(self, images: Tensor) -> Tensor:
        """Images at the one size that the network takes, or with their edges repeated up to the next one that it takes."""
        if self.size is not None:
            if tuple(images.shape[-2:]) == tuple(self.size):
                return images
            return F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=True)
        height, width = map(self._margin, images.shape[-2:])
        return F.pad(images, (0, width, 0, height), mode="replicate") if height or width else images

    def _margin(self, side: int) -> int:
        """Pixels by which a side is lengthened."""
        return max(self.least - side, -side % self.multiple)

    def _fitted_size(self, size: Sequence[int]) -> torch.Size:
        """The size at which the network sees images of ``size``."""
        return torch.Size(self.size or [side + self._margin(side) for side in size])

    def _at_size(self, logits: Tensor, seen: Sequence[int], size: Sequence[int]) -> Tensor:
        """Logits (B, C, h, w) at the images' size, upsampled as the library does."""
        full = size if self.size is not None else seen
        if self.align_corners and tuple(logits.shape[-2:]) != tuple(seen):
            # Inside the library's network, whose output is brought to another size as any other's.
            logits = F.interpolate(logits, list(seen), mode="bilinear", align_corners=True)
        if tuple(logits.shape[-2:]) != tuple(full):
            logits = F.interpolate(logits, list(full), mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]

    def _at_grid(self, maps: Tensor, seen: Sequence[int], grid: Sequence[int]) -> Tensor:
        """Maps (B, C, h, w) on the grid of training; what was padded falls off."""
        full = grid if self.size is not None else [-(-side // GRID) for side in seen]
        if tuple(maps.shape[-2:]) != tuple(full):
            smaller = maps.shape[-2] > full[0] or maps.shape[-1] > full[1]
            # Of maps in half precision antialiasing is not there on every device.
            maps = F.interpolate(maps.float(), list(full), mode="bilinear", align_corners=False, antialias=smaller).to(
                maps.dtype
            )
        return maps[..., : grid[0], : grid[1]]

    def _turned(self, logits: Tensor) -> Tensor:
        """The library's logits as log-odds, those of later steps beside them."""
        count = self.cls[0].out_channels
        own, later = logits[:, :count], logits[:, count:]
        own = log_odds(own) if self.softmax else absence(own) if self.absence else own
        return torch.cat([own, later.to(own.dtype)], dim=1)

    @torch.no_grad()
    def init_new_classifier(self) -> None:
        """Start the last classifier below every greatest old channel, so that no prediction changes before training.

        The greatest of C log-odds of a softmax is at least -log(C - 1).
        """
        self._start_classifier(len(self.cls) - 1)

    @torch.no_grad()
    def _start_classifier(self, step: int) -> None:
        new = self.cls[step]
        assert isinstance(new, nn.Conv2d) and new.bias is not None
        before = sum(classifier.out_channels for classifier in list(self.cls)[:step])  # type: ignore[misc]
        new.weight.zero_()
        new.bias.fill_(-math.log(before))


SegmentationModule = IncrementalSegmentationModule | AdoptedSegmentationModule


def make_segmenter(description: Description) -> SegmentationModule:
    """A segmenter with random weights, of this project or adopted.

    Raises:
        UserError: an unknown body, norm or library, or a stride that the body does not have.
    """
    network, classes = description.network, [len(step) for step in description.steps]
    if description.adopted:
        return AdoptedSegmentationModule(make_parts(network, classes[0]), description)
    return make_model(
        backbone=network["backbone"],
        output_stride=network["output_stride"],
        # Synchronised or not, of whatever package: a network that is only asked needs the arithmetic alone.
        norm_act=arithmetic(network["norm_act"]),
        classes=classes,
        pooling=network["pooling"],
    )


# ---- a segmenter to ask -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segmentation:
    """What a segmenter sees in an image.

    Attributes:
        mask: (H, W) class ids; 255 where the class is less probable than the threshold.
        confidence: (H, W) float32, probability of the most probable class.
        names: class id -> name.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    names: dict[int, str]


class Segmenter:
    """A frozen segmenter with all that is needed to ask it.

    Args:
        description: what it is.
        weights: its state dict.
        runtime: device and precision.
        where: the file or MODEL, for messages.

    Raises:
        UserError: the weights do not fit the description.
    """

    def __init__(self, description: Description, weights: dict[str, Tensor], runtime: Runtime, where: str) -> None:
        self.description, self.runtime, self.where = description, runtime, where
        model = make_segmenter(description)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            network = description.network.get("backbone", description.network["library"])
            raise UserError(
                f"{where}: its weights do not fit {network} with {len(description.ids)} classes; is it of another network or step?"
            ) from error
        self.model = model.to(runtime.device).to(memory_format=torch.channels_last).requires_grad_(False).eval()
        self.normalisation = Normalisation.of(model.body, description.network.get("image_stats", "auto"))
        self.ids = torch.tensor(description.ids, dtype=torch.uint8, device=runtime.device)

    @torch.inference_mode()
    def logits(self, images: Tensor, scales: Iterable[float] = (1.0,), flip: bool = False) -> Tensor:
        """Logits of images, averaged over all looks at them.

        Args:
            images: (B, 3, H, W) uint8, RGB.
            scales: sizes at which to look, as factors.
            flip: also look at the mirrored images.

        Returns:
            (B, C, H, W) float32 on the device.

        Raises:
            UserError: the network gives no finite numbers; the greatest of them would be background.
        """
        pixels = self.normalisation.apply(images.to(self.runtime.device))
        size, looks = pixels.shape[-2:], list(scales)
        total: Tensor | None = None
        for scale in looks:
            look = pixels
            if scale != 1:
                small = [max(1, round(side * scale)) for side in size]
                look = F.interpolate(pixels, small, mode="bilinear", align_corners=False, antialias=True)
            logits = self._look(look)
            if flip:
                logits = (logits + self._look(look.flip(-1)).flip(-1)) / 2
            if logits.shape[-2:] != size:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            total = logits if total is None else total + logits
        assert total is not None
        # Logits are the largest thing in memory, and seldom of several looks.
        mean = total / len(looks) if len(looks) > 1 else total
        if not mean.amax(dim=1).isfinite().all():
            raise UserError(
                f"{self.where}: the network gives no finite numbers with --precision {self.runtime.precision}; "
                "ask another one, or with --precision fp32"
            )
        return mean

    def _look(self, pixels: Tensor) -> Tensor:
        """Logits of one look, of this project's networks at feature size: what lies between is interpolated once."""
        with self.runtime.autocast():
            images = pixels.contiguous(memory_format=torch.channels_last)
            logits: Tensor = self.model(images, interpolate=self.description.adopted).logits
        return logits.float()

    def confidence(self, logits: Tensor) -> Tensor:
        """Probability (B, H, W) of the greatest channel of logits (B, C, H, W)."""
        top = logits.amax(dim=1)
        return top.sigmoid() if self.description.binary else (top - logits.logsumexp(dim=1)).exp()

    def labels(self, logits: Tensor, threshold: float = 0.0) -> Tensor:
        """Class ids (B, H, W) uint8 of logits (B, C, H, W); 255 where the class is less probable than ``threshold``."""
        labels = self.ids[logits.argmax(dim=1)]
        return labels.masked_fill(self.confidence(logits) < threshold, IGNORE) if threshold > 0 else labels

    def predict(
        self,
        image: str | Path | Image.Image | NDArray[np.uint8],
        *,
        scales: Iterable[float] = (1.0,),
        flip: bool = False,
        threshold: float = 0.0,
    ) -> Segmentation:
        """What the segmenter sees in an image.

        Args:
            image: a file, a picture, or an array (H, W, 3) uint8, RGB.
            scales: sizes at which to look, as factors.
            flip: also look at the mirrored image.
            threshold: pixels whose class is less probable than this become 255.

        Raises:
            UserError: the image cannot be read, or is none.
        """
        logits = self.logits(_pixels(image)[None], scales, flip)
        mask = self.labels(logits, threshold)[0].cpu().numpy()
        return Segmentation(mask, self.confidence(logits)[0].cpu().numpy(), self.description.names)


def _pixels(image: str | Path | Image.Image | NDArray[np.uint8]) -> Tensor:
    """(3, H, W) uint8 of a file, a picture or an array."""
    if isinstance(image, str | Path):
        image = load_image(Path(image))
    pixels = np.array(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UserError(f"an image of {pixels.dtype}, shape {pixels.shape}: (H, W, 3) uint8 is needed")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_segmenter(source: str | Path, settings: AdoptSettings | None = None) -> tuple[Description, dict[str, Tensor]]:
    """Description and weights of a MODEL: a checkpoint, a released folder, ``hub:OWNER/NAME``, or ``LIBRARY:...``.

    Args:
        source: the MODEL.
        settings: what the files of an adopted one do not say.

    Raises:
        UserError: it is missing, damaged or no segmenter; settings for a model that says all itself.
    """
    settings = settings or AdoptSettings()
    if is_adopted(str(source)):
        return adopt(str(source), settings)
    if settings.given:
        raise UserError(f"{source}: says itself what it is; leave out {', '.join(settings.given)}")
    if str(source).startswith(hub.PREFIX):
        return read_released(hub.fetched(str(source)))
    if Path(source).is_dir():
        return read_released(Path(source))
    state = checkpoint.load(Path(source))
    if "kind" in state:
        raise UserError(f"{source}: holds a {state['kind']}, not a segmenter; give the checkpoint of a step")
    if "identity" not in state:
        raise UserError(
            f"{source}: a published checkpoint does not say what it knows; train a step from it, or label by it"
        )
    return Description.of_checkpoint(state, str(source)), state["model_state"]


def load_segmenter(
    source: str | Path, *, device: str = "auto", precision: str = "fp32", settings: AdoptSettings | None = None
) -> Segmenter:
    """A segmenter to ask: ``load_segmenter("OUT").predict("photo.jpg")`` gives mask, names and confidence.

    Args:
        source: a MODEL: a checkpoint, a released folder, ``torchvision:NAME=FILE``, ``smp:FOLDER``, ``transformers:FOLDER``, or
            ``hub:OWNER/NAME``, which alone is fetched where it is not there yet.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, tf32, bf16 or fp16.
        settings: what the files of an adopted one do not say.

    Raises:
        UserError: it is missing, damaged or no segmenter.
    """
    description, weights = read_segmenter(source, settings)
    return Segmenter(description, weights, distributed.start(device, precision), str(source))
