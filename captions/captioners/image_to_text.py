"""Captions by an image-to-text model of the transformers package: BLIP, GIT, Florence-2, models that chat; a folder or a hub's name.

The paper's captions come from OpenFlamingo-3B with the prompt "An image of", 3 beams and 40 new tokens.
Source: docs/method.md, "Old classes from captions".
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captions.captioners.base import CaptionerSettings, caption_readable
from utils.distributed import Runtime
from utils.errors import UserError

BEGINNING = "An image of"
# Models that follow instructions answer in whole sentences; Florence-2 knows nothing but its tasks' names.
QUESTION = "Describe this image in one short sentence."
FLORENCE_TASK = "<CAPTION>"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _load(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The processor and the network of a folder or hub's name."""
    try:
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise UserError(f"--captioner transformers: is not installed ({error}); pip install transformers") from error
    if not Path(model).is_dir() and (model.startswith((".", "/")) or model.count("/") > 1):
        raise UserError(f"--model {model}: no such folder, and no hub's name (owner/model)")
    # A hub that cannot be reached is told once, below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        # Asked first, so that a wrong name or a hub out of reach is known from one file.
        config = AutoConfig.from_pretrained(model)
        processor = AutoProcessor.from_pretrained(model)
        network = AutoModelForImageTextToText.from_pretrained(model, config=config, dtype=dtype)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"--model {model}: is no image-to-text model that can be loaded ({_first_line(error)})"
        ) from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise UserError(f"--model {model}: has no processor of both images and text")
    return processor, network


class ImageToText:
    """A model and its processor.

    Args:
        runtime: device and precision; the weights are kept in that precision.
        model: folder or hub's name.
        prompt: what a caption begins with, or a chatting model's question; empty for none, None for the model's kind's own.
        beams: width of the beam search.
        new_tokens: most tokens of a caption.

    Raises:
        UserError: the package is not installed, or the model cannot be had or is of another kind.
    """

    def __init__(
        self, runtime: Runtime, model: str, prompt: str | None = None, beams: int = 3, new_tokens: int = 40
    ) -> None:
        self.processor, network = _load(model, runtime.dtype)
        self.runtime = runtime
        self.model = network.to(runtime.device).eval()
        self.kind: str = self.model.config.model_type
        self.chats = bool(getattr(self.processor, "chat_template", None))
        self.prompt = self._own_prompt() if prompt is None else prompt
        self.search = {"num_beams": beams, "max_new_tokens": new_tokens, "do_sample": False}
        if not self.model.config.is_encoder_decoder:
            self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.origin = {
            "captioner": "transformers", "model": model, "prompt": self.prompt, "beams": beams, "new_tokens": new_tokens,
        }  # fmt: skip

    def _own_prompt(self) -> str:
        if self.kind == "florence2":
            return FLORENCE_TASK
        return QUESTION if self.chats else BEGINNING

    def _inputs(self, images: Sequence[Image.Image]) -> Any:
        """What the model takes for these images and the prompt."""
        if self.chats:
            talks = [self._talk(image) for image in images]
            return self.processor.apply_chat_template(
                talks, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
                processor_kwargs={"padding": True},
            )  # fmt: skip
        if not self.prompt:
            return self.processor(images=list(images), return_tensors="pt")
        text = [self.prompt] * len(images)
        inputs = self.processor(images=list(images), text=text, return_tensors="pt", padding=True)
        if self.kind == "git":
            # Its processor closes the prompt with [SEP], behind which nothing follows; GIT is to go on with it.
            for name in ("input_ids", "attention_mask"):
                inputs[name] = inputs[name][:, :-1]
        return inputs

    def _talk(self, image: Image.Image) -> list[dict[str, Any]]:
        content = [{"type": "image", "image": image}, {"type": "text", "text": self.prompt}]
        return [{"role": "user", "content": content}]

    @torch.inference_mode()
    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One line for each RGB image, without the prompt."""
        try:
            inputs = self._inputs(images).to(self.runtime.device, self.runtime.dtype)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"--prompt {self.prompt!r}: the model cannot be asked in this way ({_first_line(error)})"
            ) from error
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            inputs.pop("token_type_ids", None)
        try:
            tokens = self.model.generate(**inputs, **self.search)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{len(images)} images at once are too much for this device; use a smaller --batch_size"
            ) from error
        given = inputs.get("input_ids")
        if given is not None and torch.equal(tokens[:, : given.shape[1]], given):
            tokens = tokens[:, given.shape[1] :]
        return [self._line(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def _line(self, text: str) -> str:
        """A caption in one line; BLIP repeats the prompt, in its own spelling."""
        line, prompt = " ".join(text.split()), " ".join(self.prompt.split())
        return line[len(prompt) :].strip() if prompt and line.lower().startswith(prompt.lower()) else line

    def caption_files(self, paths: Sequence[Path]) -> list[str | UserError]:
        """One line for each file, or the fault of one that cannot be read."""
        return caption_readable(paths, self.caption)


def make(settings: CaptionerSettings, runtime: Runtime) -> ImageToText:
    """The captioner of ``--captioner transformers``."""
    if settings.model is None:
        raise UserError("--captioner transformers needs --model: a folder or a hub's name of an image-to-text model")
    return ImageToText(runtime, settings.model, settings.prompt, settings.beams, settings.new_tokens)
