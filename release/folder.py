"""A model of any kind as a released folder with its card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import hub
from modules.adopted.settings import AdoptSettings
from modules.description import OWN, Description
from modules.released import CONFIG, WEIGHTS, is_released, public, read_config, write_released
from release import taught as web_images
from release.card import CARD, card
from release.scores import kept_scores, scores_of
from release.taught import Taught
from segmentation_module import Segmenter, load_segmenter
from utils.errors import UserError
from utils.json_files import read_json
from utils.whole import claimed

LOG = logging.getLogger("webwilss")
# Other forms of the weights.
FORMS = ("model.onnx", "model.pt2")


@dataclass(frozen=True)
class Released:
    """What was released.

    Attributes:
        folder: where it lies.
        description: what the model is.
        taught: the web images that it learned from.
        scores: those on its card; None where none are known.
        licence: of the weights; None where nobody has said.
    """

    folder: Path
    description: Description
    taught: Taught
    scores: Mapping[str, Any] | None
    licence: str | None


def release(
    model: str,
    out: Path,
    *,
    manifests: Sequence[Path] = (),
    licence: str | None = None,
    logs: Path | None = None,
    scored: bool = True,
    settings: AdoptSettings | None = None,
) -> Released:
    """Write MODEL to ``out`` with its card and the table of its web images.

    Args:
        model: as for ``segmentation_module.load_segmenter``.
        out: a folder that is missing, or that an earlier release may have filled.
        manifests: of web images that taught it, besides those that it says itself; tables of released folders, too.
        licence: of the weights; that of a released folder is kept.
        logs: where the results of its run are; by default where it says itself.
        scored: whether the card has scores; False where the masks that they were made on are no truth.
        settings: of models of other libraries.

    Raises:
        UserError: no such model, a manifest or table that cannot be read, a folder of something else, a full disk; nothing is changed.
    """
    check_out(out, model)
    if model.startswith(hub.PREFIX):
        model = str(hub.fetched(model, web_images.FILE))
    segmenter = load_segmenter(model, device="cpu", settings=settings)
    before = read_config(Path(model)) if is_released(Path(model)) else {}
    taught = web_images.of_model(model, segmenter.description, manifests)
    scores = None
    if scored and before and logs is None:
        scores = kept_scores(before.get("scores"), f"{model}/{CONFIG}")
    elif scored:
        scores = scores_of(segmenter.description, logs)
    if licence is None and isinstance(before.get("licence"), str):
        licence = before["licence"]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made ({error.strerror})") from error
    with claimed(out, "an export"):
        write(out, segmenter, taught=taught, scores=scores, licence=licence)
    return Released(out, segmenter.description, taught, scores, licence)


def write(
    out: Path,
    segmenter: Segmenter,
    *,
    taught: Taught,
    scores: Mapping[str, Any] | None = None,
    licence: str | None = None,
    name: str | None = None,
) -> None:
    """Write a released folder with its card (``modules.released.write_released``), which calls it ``name``, else as the folder is called.

    Other forms of an earlier release's weights go, which is told: they may be of another model.
    """
    description, normalisation = public(segmenter.description), segmenter.normalisation
    text = card(
        description,
        name or out.resolve().name,
        normalisation=normalisation,
        licence=licence,
        taught=taught,
        scores=scores,
    )
    extra = {
        "normalisation": {"mean": list(normalisation.mean), "std": list(normalisation.std)},
        "licence": licence,
        "scores": scores,
    }
    for file in FORMS:
        if (out / file).exists():
            LOG.warning("%s: is of an earlier release and goes", out / file)
    texts = dict.fromkeys(FORMS) | {CARD: text, web_images.FILE: taught.table()}
    write_released(out, description, segmenter.model.state_dict(), extra, texts)


def check_out(out: Path, model: str = "") -> None:
    """Refuse a folder in which a release would take the place of something else, or of the model itself.

    Raises:
        UserError: names the file in the way.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is no folder; choose another name")
    if model and out.exists() and Path(model).exists() and out.samefile(model):
        raise UserError(f"--out {out}: is the model itself; choose another folder")
    config = out / CONFIG
    if config.exists():
        try:
            content = read_json(config)
        except UserError:
            content = None
        if not isinstance(content, dict) or content.get("library_name") != OWN:
            raise UserError(f"--out {out}: its {CONFIG} is of something else; choose another folder")
    elif (out / CARD).exists() and not (out / WEIGHTS).exists():  # Else half of a release.
        raise UserError(f"--out {out}: its {CARD} is of something else; choose another folder")
