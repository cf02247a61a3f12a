"""Segmenters of other libraries, small enough to be made in a moment, with random weights that see every class somewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

import argparser
from modules.adopted import adopt
from modules.adopted.settings import AdoptSettings
from tests.modules.adopting import lively
from utils import checkpoint

# Background in the middle: adopting brings it to the front.
NAMES = ("cat", "background", "dog", "horse")
SMALL_VIT = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 64, "patch_size": 16,
}  # fmt: skip
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}


def _convnext() -> dict[str, Any]:
    return {"model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], **STAGES}


def _swin() -> dict[str, Any]:
    return {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": [1] * 4,
        "num_heads": [1, 1, 2, 2],
        "window_size": 2,
        **STAGES,
    }


def _bit() -> dict[str, Any]:
    return {
        "model_type": "bit", "embedding_size": 8, "hidden_sizes": [8, 16, 32, 32], "depths": [1, 1, 1, 1], "num_groups": 4,
        "layer_type": "bottleneck", "global_padding": "same", "embedding_dynamic_padding": True,
        "out_features": ["stage1", "stage2", "stage3"],
    }  # fmt: skip


# What is tested of transformers: its name of the network and its values.
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "segformer": ("segformer", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
                                "decoder_hidden_size": 16}),
    "mobilenet_v2": ("mobilenet_v2", {"depth_multiplier": 0.1, "output_stride": 16}),
    "mobilevit": ("mobilevit", {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 8, 16, 16, 32], "aspp_out_channels": 16,
                                "output_stride": 16}),
    "mobilevitv2": ("mobilevitv2", {"width_multiplier": 0.25, "base_attn_unit_dims": [16, 16, 16], "n_attn_blocks": [1, 1, 1],
                                    "aspp_out_channels": 16}),
    "upernet-convnext": ("upernet", {"backbone_config": _convnext(), "hidden_size": 16, "auxiliary_in_channels": 16,
                                     "auxiliary_channels": 8}),
    "upernet-swin": ("upernet", {"backbone_config": _swin(), "hidden_size": 16, "use_auxiliary_head": False}),
    "dpt": ("dpt", {**SMALL_VIT, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}),
    "dpt-hybrid": ("dpt", {**SMALL_VIT, "is_hybrid": True, "backbone_config": _bit(), "backbone_featmap_shape": [1, 32, 4, 4],
                           "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 16, 8, 8], "neck_ignore_stages": [0, 1],
                           "fusion_hidden_size": 8, "readout_type": "project"}),
    "beit": ("beit", {**SMALL_VIT, "out_indices": [1, 2, 3, 4], "use_relative_position_bias": True}),
    "data2vec": ("data2vec-vision", {**SMALL_VIT, "out_indices": [1, 2, 3, 4], "use_relative_position_bias": True}),
    "sapiens2": ("sapiens2", {**SMALL_VIT, "num_hidden_layers": 2, "image_size": [64, 48],
                              "head_config": {"upsample_out_channels": [8], "conv_out_channels": [8]}}),
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "SegformerImageProcessor", "do_resize": False, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], "do_reduce_labels": False,
}  # fmt: skip


def make_transformers(kind: str, names: Sequence[str] = NAMES, **values: Any) -> Any:
    """A model of ``TRANSFORMERS``, whose classes are all seen in random images."""
    from transformers import CONFIG_MAPPING, AutoModelForSemanticSegmentation

    name, config = TRANSFORMERS[kind]
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {label: number for number, label in enumerate(names)}}
    model = AutoModelForSemanticSegmentation.from_config(CONFIG_MAPPING[name](**{**config, **labels, **values})).eval()
    size = getattr(model.config, "image_size", 64) if name in ("dpt", "beit", "data2vec-vision", "sapiens2") else 64
    images = pictures(16, (size, size) if isinstance(size, int) else (size[0], size[1]))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    # The library's first weights are so small that features of untrained networks are nearly the same everywhere.
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images[:8])
    for norm in norms:
        norm.momentum = 0.1
    model.eval()
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.out_channels == len(names)]
    spread(last[0], lambda: model(images[8:]).logits)
    return model


def spread(classifier: nn.Conv2d, logits: Any) -> None:
    """Give the last convolution weights and biases with which no class is everywhere."""
    assert classifier.bias is not None
    with torch.no_grad():
        nn.init.normal_(classifier.weight)
        classifier.bias.zero_()
        seen: Tensor = logits()
        deviation = seen.std(dim=(0, 2, 3)).clamp(min=1e-6)
        classifier.weight /= deviation[:, None, None, None]
        classifier.bias -= seen.mean(dim=(0, 2, 3)) / deviation


def save_transformers(
    folder: Path,
    kind: str = "segformer",
    names: Sequence[str] = NAMES,
    processor: Mapping[str, Any] | None = PROCESSOR,
    **values: Any,
) -> Any:
    """Write a ``save_pretrained`` folder; the model that it holds."""
    model = make_transformers(kind, names, **values)
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(processor)))
    return model


def pictures(count: int, size: tuple[int, int], seed: int = 1) -> Tensor:
    """Smooth random images (count, 3, H, W) in [0, 1], in steps of 1/255."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False).clamp(0, 1)
    return (smooth * 255).round() / 255


# ---- the step before, of each library ---------------------------------------------------------------------------------

SHAPES = ("background", "circle", "square", "triangle", "star", "ring")
LIBRARIES = ("torchvision", "smp", "transformers")
PACKAGES = {"torchvision": "torchvision", "smp": "segmentation_models_pytorch", "transformers": "transformers"}


def save_model(library: str, folder: Path, kind: str = "segformer", **values: Any) -> tuple[str, AdoptSettings]:
    """A small segmenter of the old shapes of task 5-3, as its library saves one: its MODEL, and what its files do not say.

    Args:
        library: one of ``LIBRARIES``.
        folder: to write into.
        kind: of ``TRANSFORMERS``, for that library.
        values: of its configuration.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    if library == "transformers":
        save_transformers(folder / "saved", kind, SHAPES, **values)
        return f"transformers:{folder / 'saved'}", AdoptSettings()
    (folder / "names.txt").write_text("\n".join(SHAPES))
    settings = AdoptSettings(class_names=folder / "names.txt")
    if library == "smp":
        import segmentation_models_pytorch as smp

        network: Any = smp.Unet(
            "tu-test_efficientnet", encoder_weights=None, decoder_channels=(16, 16, 16, 16, 16), classes=6
        )
        lively(network, [network.segmentation_head[0]]).save_pretrained(folder / "saved")
        return f"smp:{folder / 'saved'}", settings
    network = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=6)
    lively(network, [network.classifier.low_classifier, network.classifier.high_classifier])
    torch.save(network.state_dict(), folder / "weights.pth")
    return f"torchvision:lraspp_mobilenet_v3_large={folder / 'weights.pth'}", settings


def save_base(library: str, folder: Path, path: Path, **made: Any) -> None:
    """Write the step 0 of task 5-3 on shapes that an adopted segmenter is (``save_model``)."""
    model, settings = save_model(library, folder, **made)
    description, weights = adopt(model, settings)
    line = f"--dataset shapes --task 5-3 --overlap --step 0 --bce --backbone adopted --name base --device cpu --logdir {folder}"
    state = {
        "format": checkpoint.FORMAT,
        "identity": {"dataset": "shapes", "task": "5-3", "protocol": "overlap", "classes": [[0, 1, 2, 3, 4, 5]]},
        "class_names": list(description.class_names),
        "options": argparser.parse(line.split()).plain(),
        "network": description.network,
        "history": list(description.history),
        "finished": True,
        "model_state": weights,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, state)
