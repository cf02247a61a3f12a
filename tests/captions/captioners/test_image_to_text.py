"""Image-to-text models: the real code path, on tiny models with random weights that the tests build on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captions.captioners import make_captioner
from captions.captioners.base import CaptionerSettings
from captions.captioners.image_to_text import BEGINNING, FLORENCE_TASK, QUESTION, ImageToText
from utils import distributed
from utils.errors import UserError

transformers = pytest.importorskip("transformers")

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] an image of a dog cat on the grass couch".split()
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZE = {"height": 32, "width": 32}
# Words before and behind the question stand for the names of who speaks.
TEMPLATE = (
    "{% for m in messages %}cat {% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endfor %} couch"
)


def bert(folder: Path) -> Any:
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return transformers.BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]")


def blip(folder: Path) -> None:
    tokenizer = bert(folder)
    text = {**SMALL, "encoder_hidden_size": 16, "projection_dim": 16, "max_position_embeddings": 64}
    ids = {"vocab_size": len(WORDS), "bos_token_id": 5, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    vision = {**SMALL, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    config = transformers.BlipConfig(text_config=text | ids, vision_config=vision, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    transformers.BlipProcessor(transformers.BlipImageProcessor(size=SIZE), tokenizer).save_pretrained(folder)


def git(folder: Path) -> None:
    tokenizer = bert(folder)
    ids = {"vocab_size": len(WORDS), "bos_token_id": 2, "pad_token_id": 0, "eos_token_id": 3}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    config = transformers.GitConfig(**SMALL, **ids, vision_config=vision, max_position_embeddings=64)
    transformers.GitForCausalLM(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE)
    transformers.GitProcessor(images, tokenizer).save_pretrained(folder)


def llava(folder: Path) -> None:
    """A model that chats: its processor has a chat template."""
    folder.mkdir(parents=True)
    vocabulary = {word: i for i, word in enumerate([*WORDS, "<image>"])}
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    # Without a padding token, as many of them.
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    text = transformers.LlamaConfig(**SMALL, vocab_size=len(vocabulary), bos_token_id=2, eos_token_id=3, pad_token_id=3)
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=32, patch_size=16)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=len(WORDS), vision_feature_layer=-1
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE)
    transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def florence(folder: Path) -> None:
    """Encoder and decoder; its processor knows nothing but tasks, and puts the image's tokens in front of their prompts."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    names = "<s> <pad> </s> <unk> <image> What does the image describe ? an of a dog cat on grass".split()
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    text = transformers.BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, vocab_size=len(names), max_position_embeddings=128, bos_token_id=0, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=2,
    )  # fmt: skip
    ones = (1, 1, 1, 1)
    vision = Florence2VisionConfig(
        depths=ones, embed_dim=(8, 8, 16, 16), num_heads=ones, num_groups=ones, window_size=2, projection_dim=16,
        max_position_embeddings=10, patch_size=(3, 3, 3, 3),
    )  # fmt: skip
    config = transformers.Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    transformers.Florence2ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 10
    transformers.Florence2Processor(images, tokenizer, num_additional_image_tokens=1).save_pretrained(folder)


KINDS: dict[str, Callable[[Path], None]] = {"blip": blip, "git": git, "llava": llava, "florence": florence}


@pytest.fixture(scope="module", params=list(KINDS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / request.param
    KINDS[request.param](folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    torch.manual_seed(1)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        pixels = torch.randint(0, 256, (40 + i, 50, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(path)
    paths[2].write_bytes(b"no image")
    return paths


def captions_of(model: Path, photos: list[Path], **options: Any) -> list[str | UserError]:
    return make_captioner(
        "transformers", CaptionerSettings(str(model), **options), distributed.start("cpu")
    ).caption_files(photos)


def test_captions_without_the_prompt(model: Path, photos: list[Path]) -> None:
    # Florence-2 knows no prompt but its tasks'.
    prompt = None if model.name == "florence" else "a dog on the grass"
    found = captions_of(model, photos, prompt=prompt, new_tokens=3)
    assert isinstance(found[2], UserError) and "2.png" in str(found[2])
    texts = [text for text in found if isinstance(text, str)]
    assert len(texts) == 3
    for text in texts:
        assert len(text.split()) <= 3 and not {"[", "<", "\n"} & set(text)


def test_own_prompts(model: Path) -> None:
    own = {"blip": BEGINNING, "git": BEGINNING, "llava": QUESTION, "florence": FLORENCE_TASK}
    assert ImageToText(distributed.start("cpu"), str(model)).prompt == own[model.name]


def test_one_by_one_is_the_same_as_a_batch(model: Path, photos: list[Path]) -> None:
    together = captions_of(model, photos, new_tokens=5)
    apart = [captions_of(model, [path], new_tokens=5)[0] for path in photos]
    assert [str(text) for text in together] == [str(text) for text in apart]


def test_a_caption_goes_on_with_the_prompt(model: Path, photos: list[Path]) -> None:
    """The tokens that come are those that the network gives behind the prompt, found without the captioner's own steps."""
    captioner = ImageToText(distributed.start("cpu"), str(model), prompt="a dog on the", beams=1, new_tokens=1)
    if captioner.kind not in ("blip", "git"):
        pytest.skip("models that are asked do not go on with the prompt")
    image = Image.open(photos[0]).convert("RGB")
    pixels = captioner.processor(images=[image], return_tensors="pt")["pixel_values"]
    ids = torch.tensor([[WORDS.index(word) for word in "a dog on the".split()]])
    start = torch.tensor([[5 if captioner.kind == "blip" else 2]])
    ids = torch.cat([start, ids], dim=1)
    network = captioner.model
    with torch.inference_mode():
        if captioner.kind == "blip":
            seen = network.vision_model(pixel_values=pixels)[0]
            logits = network.text_decoder(input_ids=ids, encoder_hidden_states=seen).logits
        else:
            logits = network(input_ids=ids, pixel_values=pixels).logits
    expected = captioner.processor.tokenizer.decode(logits[0, -1].argmax(), skip_special_tokens=True)
    assert captioner.caption([image]) == [expected]


def test_no_prompt(model: Path, photos: list[Path]) -> None:
    assert all(isinstance(text, str) for text in captions_of(model, photos[:2], prompt="", new_tokens=3))


def test_prompt_that_the_model_refuses(model: Path, photos: list[Path]) -> None:
    if model.name != "florence":
        pytest.skip("only Florence-2 refuses prompts")
    with pytest.raises(UserError, match="--prompt"):
        captions_of(model, photos, prompt="<CAPTION> of a dog")


def test_half_precision(model: Path, photos: list[Path]) -> None:
    captioner = ImageToText(distributed.start("cpu", "bf16"), str(model), new_tokens=3)
    assert next(captioner.model.parameters()).dtype == torch.bfloat16
    assert isinstance(captioner.caption_files(photos[:1])[0], str)


def test_options_are_part_of_the_origin(model: Path) -> None:
    runtime = distributed.start("cpu")
    origins = [
        dict(ImageToText(runtime, str(model), *rest).origin) for rest in ((), ("<OCR>",), (None, 1), (None, 3, 7))
    ]
    assert len({str(origin) for origin in origins}) == 4


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = distributed.start("cpu")
    with pytest.raises(UserError, match="needs --model"):
        make_captioner("transformers", CaptionerSettings(), runtime)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="no image-to-text model"):
        make_captioner("transformers", CaptionerSettings(str(tmp_path)), runtime)
    with pytest.raises(UserError, match="gone: no such folder"):
        make_captioner("transformers", CaptionerSettings(str(tmp_path / "gone")), runtime)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pip install transformers"):
        make_captioner("transformers", CaptionerSettings(str(tmp_path)), runtime)
