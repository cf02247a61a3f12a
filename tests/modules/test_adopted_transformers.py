"""Segmenters of transformers: adopted, they give the library's logits to rounding and its classes to the pixel, or are refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.adopted import adopt
from modules.adopted.settings import AdoptSettings
from modules.description import Description
from segmentation_module import Segmenter, load_segmenter
from tests.modules.adopting import check_maps
from tests.tiny_models import PROCESSOR, TRANSFORMERS, pictures, save_transformers
from utils import distributed
from utils.errors import UserError

pytest.importorskip("transformers", reason="transformers is not installed: pip install -e .[transformers]")
SIZES = [(64, 64), (50, 70), (97, 64)]
ORDER = [1, 0, 2, 3]  # of ``NAMES`` with background first


@dataclass(frozen=True)
class Adopted:
    """A model of the library, and what was made again of it without its folder, from plain values as JSON keeps them."""

    model: Any
    segmenter: Segmenter


@pytest.fixture(scope="module", params=TRANSFORMERS)
def adopted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    folder = tmp_path_factory.mktemp(request.param) / "saved"
    model = save_transformers(folder, request.param)
    description, weights = adopt(f"transformers:{folder}", AdoptSettings())
    shutil.rmtree(folder)
    assert str(folder) not in json.dumps(dict(description.network))
    again = Description.from_plain(json.loads(json.dumps(description.plain())), "here")
    return Adopted(model, Segmenter(again, weights, distributed.start("cpu"), "here"))


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(PROCESSOR[key], dtype=images.dtype)[:, None, None] for key in ("image_mean", "image_std"))
    return (images - mean) / std


def expected(model: Any, segmenter: Segmenter, images: Tensor) -> Tensor:
    """The library's logits (B, C, H, W) of images in [0, 1], background first, at the images' size."""
    pixels, size = normalised(images), segmenter.description.network["size"]
    if size is not None and tuple(pixels.shape[-2:]) != tuple(size):
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    with torch.no_grad():
        logits = model(pixels).logits
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)[:, ORDER]


def log_odds(z: Tensor) -> Tensor:
    """Of each channel against all others."""
    others = [torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(z.shape[1])]
    return z - torch.stack(others, dim=1)


def asked(segmenter: Segmenter, images: Tensor) -> Tensor:
    return segmenter.logits((images * 255).round().to(torch.uint8))


def test_what_the_library_sees(adopted: Adopted) -> None:
    """Classes to the pixel, and logits to 1e-5 in float64, where rounding does not grow from layer to layer."""
    model, segmenter = adopted.model, adopted.segmenter
    assert segmenter.description.class_names == ("background", "cat", "dog", "horse")
    seen: set[int] = set()
    for size in SIZES:
        images = pictures(2, size, seed=size[0])
        own, theirs = asked(segmenter, images), expected(model, segmenter, images)
        assert torch.equal(own.argmax(dim=1), theirs.argmax(dim=1))
        torch.testing.assert_close(own.sigmoid(), theirs.softmax(dim=1), rtol=0, atol=5e-5)
        seen |= set(own.argmax(dim=1).unique().tolist())
    assert len(seen) > 1, "one class everywhere would hide what is wrong"
    for network in (model, segmenter.model):
        network.double()
    try:
        for size in SIZES:
            images = pictures(1, size, seed=size[0]).double()
            with torch.no_grad():
                exact = segmenter.model(normalised(images)).logits
            torch.testing.assert_close(exact, log_odds(expected(model, segmenter, images)), rtol=1e-5, atol=1e-5)
    finally:
        for network in (model, segmenter.model):
            network.float()


def test_what_its_parts_are(adopted: Adopted) -> None:
    """The encoder is the body, and nothing of an auxiliary head is left."""
    model, segmenter = adopted.model, adopted.segmenter
    output = segmenter.model(pictures(1, (64, 64)), interpolate=False)
    assert output.features["body"].shape[1] == segmenter.model.body.out_channels
    assert output.features["body"].shape[-2:] == output.logits.shape[-2:] == (8, 8)
    for side in (64, 70):
        check_maps(segmenter.model, normalised(pictures(1, (side, side))))
    encoder = model.backbone if hasattr(model, "backbone") else model.base_model
    assert sum(p.numel() for p in segmenter.model.body.parameters()) == sum(p.numel() for p in encoder.parameters())
    left = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary_head."))
    assert sum(p.numel() for p in segmenter.model.parameters()) == left


@pytest.mark.parametrize("written", ["bin", "sharded", "sharded bin", "half"])
def test_files_of_weights(written: str, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    model = save_transformers(folder)
    if written == "half":
        model.half().save_pretrained(folder)
        model.float()
    elif written == "sharded":
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="30KB")
        assert (folder / "model.safetensors.index.json").is_file()
    else:
        (folder / "model.safetensors").unlink()
        state = model.state_dict()
        if written == "bin":
            torch.save(state, folder / "pytorch_model.bin")
        else:
            keys = sorted(state)
            files = {"a.bin": keys[::2], "b.bin": keys[1::2]}
            for name, own in files.items():
                torch.save({key: state[key] for key in own}, folder / name)
            where = {key: name for name, own in files.items() for key in own}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    segmenter = load_segmenter(f"transformers:{folder}", device="cpu")
    images = pictures(1, (64, 64))
    assert torch.equal(asked(segmenter, images).argmax(dim=1), expected(model, segmenter, images).argmax(dim=1))


# ---- what the processor says ----------------------------------------------------------------------------------------


PROCESSORS = {
    "segformer": PROCESSOR,
    "scale 0-255": {**PROCESSOR, "do_rescale": False, "image_mean": [123.0, 116.0, 104.0], "image_std": [58.0, 57.0, 56.0]},
    "scale -1-1": {**PROCESSOR, "rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    "no normalisation": {**PROCESSOR, "do_normalize": False},
    "bgr": {
        "image_processor_type": "MobileViTImageProcessor", "do_resize": False, "do_center_crop": False, "do_rescale": True,
        "do_flip_channel_order": True,
    },
    "older": {"feature_extractor_type": "SegformerFeatureExtractor", "do_resize": False, "do_normalize": True,
              "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], "reduce_labels": False},
    "resized": {**PROCESSOR, "do_resize": True, "size": {"height": 64, "width": 96}},
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_whole_way_of_the_library(name: str, tmp_path: Path) -> None:
    """Image to class ids, by the library's processor, network and post-processing; images have the size that it resizes to."""
    from transformers import AutoImageProcessor

    model = save_transformers(tmp_path / "saved", processor=PROCESSORS[name])
    processor = AutoImageProcessor.from_pretrained(tmp_path / "saved")
    image = (pictures(1, (64, 96))[0] * 255).round().to(torch.uint8)
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    mask = processor.post_process_semantic_segmentation(outputs, target_sizes=[(64, 96)])[0]
    theirs = torch.tensor(ORDER).argsort()[mask]
    found = load_segmenter(f"transformers:{tmp_path / 'saved'}", device="cpu").predict(image.permute(1, 2, 0).numpy())
    assert np.array_equal(found.mask, theirs.numpy()) and len(np.unique(found.mask)) > 1


def test_images_keep_their_size_unless_positions_were_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resizing = {**PROCESSOR, "do_resize": True, "size": {"height": 64, "width": 64}}
    caplog.set_level("INFO", "webwilss")
    save_transformers(tmp_path / "free", processor=resizing)
    description, _ = adopt(f"transformers:{tmp_path / 'free'}", AdoptSettings())
    assert description.network["size"] is None and "were resized to 64 x 64; here they keep their size" in caplog.text
    caplog.clear()
    save_transformers(tmp_path / "fixed", "beit", processor={**resizing, "size": {"height": 96, "width": 128}})
    description, _ = adopt(f"transformers:{tmp_path / 'fixed'}", AdoptSettings())
    assert description.network["size"] == [96, 128] and "images are resized to 96 x 128" in caplog.text
    save_transformers(tmp_path / "dpt", "dpt", processor={**resizing, "size": {"shortest_edge": 96}})
    assert adopt(f"transformers:{tmp_path / 'dpt'}", AdoptSettings())[0].network["size"] == [96, 96]


def test_label_sets_without_background(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ADE20k's way: label 0 was no class, and no channel is background; an added one never wins."""
    caplog.set_level("INFO", "webwilss")
    model = save_transformers(
        tmp_path / "ade", names=("wall", "sky", "tree"), processor={**PROCESSOR, "do_reduce_labels": True}
    )
    segmenter = load_segmenter(f"transformers:{tmp_path / 'ade'}", device="cpu")
    assert segmenter.description.class_names == ("background", "wall", "sky", "tree")
    assert "do_reduce_labels" in caplog.text
    images = pictures(2, (64, 64))
    with torch.no_grad():
        logits = F.interpolate(model(normalised(images)).logits, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(asked(segmenter, images).argmax(dim=1), logits.argmax(dim=1) + 1)


def test_a_channel_that_no_loss_saw_is_background(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "webwilss")
    save_transformers(tmp_path / "saved", names=("road", "nothing", "car"), semantic_loss_ignore_index=1)
    description, _ = adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings())
    assert description.class_names == ("background", "road", "car")
    assert "no loss saw its channel 1 (nothing)" in caplog.text
    description, _ = adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings(background="road"))
    assert description.class_names == ("background", "nothing", "car"), "what the user says counts more"


def test_one_channel_is_a_sigmoid(tmp_path: Path) -> None:
    save_transformers(tmp_path / "saved", names=("crack",))
    description, _ = adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings())
    assert description.network["outputs"] == "sigmoid" and description.class_names == ("background", "crack")


# ---- refusals -------------------------------------------------------------------------------------------------------


def config(folder: Path, **changes: Any) -> None:
    """Change values of a folder's configuration; None takes one away."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def hostile(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")


def without(folder: Path, key: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != key}, folder / "model.safetensors")


def not_finite(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["decode_head.classifier.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


REFUSED = {
    "no folder": (shutil.rmtree, "no config.json there; give the folder that save_pretrained wrote"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json: is no JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "no network of AutoModelForSemanticSegmentation"),
    "mask2former": (lambda f: config(f, model_type="mask2former"), "a mask2former, which is no network of AutoModel"),
    "unknown": (lambda f: config(f, model_type="of\nmine"), "a of mine, which is no network"),
    "remote code": (lambda f: config(f, auto_map={"AutoConfig": "code.Config"}), r"asks for code of its own \(auto_map\)"),
    "remote code of the processor": (
        lambda f: (f / "preprocessor_config.json").write_text('{"auto_map": {"AutoImageProcessor": "code.P"}}'),
        r"preprocessor_config\.json: asks for code of its own",
    ),
    "quantised": (lambda f: config(f, quantization_config={"quant_method": "bitsandbytes"}), "is quantised"),
    "a value": (lambda f: config(f, hidden_sizes="many"), "transformers refuses its configuration"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no model\.safetensors or pytorch_model\.bin there"),
    "code in weights": (hostile, r"pytorch_model\.bin: not a file of weights that can be read safely \(it asks for "),
    "cut off": (lambda f: os.truncate(f / "model.safetensors", 20_000), "damaged or not a safetensors file"),
    "a tensor": (lambda f: without(f, "decode_head.classifier.bias"), r"1 missing, .*: decode_head\.classifier\.bias \.\.\."),
    "not finite": (not_finite, "hold NaN or infinity"),
    "another count": (
        lambda f: config(f, id2label={"0": "cat", "1": "background"}, label2id={"cat": 0, "background": 1}),
        r"another network than .*config\.json \(0 missing, 0 unexpected, 2 of another shape: decode_head\.classifier\.bias \.\.\.\)",
    ),
    "a shard elsewhere": (
        lambda f: ((f / "model.safetensors").unlink(),
                   (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')),
        "has no weight_map of files beside it",
    ),
    "no names": (lambda f: config(f, id2label=None, label2id=None, num_labels=4), "does not name its 4 classes; give --class_names"),
    "no background": (
        lambda f: config(f, id2label={"0": "a", "1": "b", "2": "c", "3": "d"}, label2id=None), "give --background NAME",
    ),
    "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), "give --image_stats"),
    "a damaged processor": (
        lambda f: (f / "preprocessor_config.json").write_text('{"image_processor_type": "Nothing"}'), "transformers cannot read it",
    ),
    "means that are no numbers": (
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "image_mean": ["a", 0, 0]})),
        r"preprocessor_config\.json: image_mean and image_std are not three numbers",
    ),
    "no map": (lambda f: config(f, reshape_last_stage=False), "runs on none of the sizes|are no map|other logits"),
    "no deviation": (
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "image_std": [0, 0, 0]})),
        "deviations and scale above 0",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_transformers(folder)
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_adopted(name: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    change, words = REFUSED[name]
    change(folder)
    with pytest.raises(UserError, match=words) as caught:
        adopt(f"transformers:{folder}", AdoptSettings())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_backbone_that_would_be_fetched(tmp_path: Path) -> None:
    save_transformers(tmp_path / "saved", "upernet-convnext")
    path = tmp_path / "saved/config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "backbone_config": None, "backbone": "openmmlab/some-body"}))
    with pytest.raises(UserError, match="its backbone openmmlab/some-body would have to be fetched"):
        adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings())
    path.write_text(
        json.dumps({**values, "backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:owner/name"}})
    )
    with pytest.raises(UserError, match="hf-hub:owner/name is no name of a network of timm"):
        adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings())


@pytest.mark.parametrize("after", ["scaled", "linear"])
def test_a_head_without_a_last_convolution(after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.segformer import modeling_segformer

    save_transformers(tmp_path / "saved")
    original = modeling_segformer.SegformerDecodeHead.forward
    linear = torch.nn.Linear(4, 4, bias=False)

    def other(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        logits = original(self, *args, **kwargs)
        return logits * 2 if after == "scaled" else linear(logits.movedim(1, -1)).movedim(-1, 1)

    monkeypatch.setattr(modeling_segformer.SegformerDecodeHead, "forward", other)
    with pytest.raises(
        UserError, match="SegformerForSemanticSegmentation do not come from one convolution, its last layer is"
    ):
        adopt(f"transformers:{tmp_path / 'saved'}", AdoptSettings())


def test_without_the_package(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[transformers\]"):
        adopt(f"transformers:{saved}", AdoptSettings())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classifier": 3}, "classifier of its network is missing or wrong"),
        ({"classifier": "decode_head.batch_norm"}, "decode_head.batch_norm is no last convolution of a segformer"),
        ({"classifier": "segformer.encoder"}, "is no last convolution"),
        ({"channels": None}, "channels of its network"),
        ({"config": {"model_type": "bert"}}, "a bert, which is no network"),
        ({"config": {"model_type": "segformer", "auto_map": {}}}, "asks for code"),
        ({"config": {"model_type": "segformer", "num_encoder_blocks": 9}}, "cannot make its segformer"),
    ],
)
def test_damaged_values_of_a_network(changes: dict[str, Any], words: str, saved: Path) -> None:
    from modules.adopted import make_parts

    network = dict(adopt(f"transformers:{saved}", AdoptSettings())[0].network)
    network["architecture"] = {**network["architecture"], **changes}
    with pytest.raises(UserError, match=words):
        make_parts(network, 4)
