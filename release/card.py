"""The model card of a released folder: what the hub reads in its head, and what a person should know of the model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modules.description import OWN, Description
from modules.released import CONFIG, WEIGHTS
from release.taught import FILE, Taught
from utils.errors import shown_text
from utils.names import IMAGE_METHODS
from utils.normalisation import Normalisation
from utils.visualise import palette

CARD = "README.md"
# Licences that the hub knows by a name of their own (https://huggingface.co/docs/hub/repositories-licenses); others are "other" to it.
LICENCES = frozenset(
    (
        "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd "
        "bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
        "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 "
        "cc-by-nc-sa-4.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 "
        "lgpl-3.0 isc ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl unknown"
    ).split()
)
DATASETS = {"voc": ["pascal-voc-2012"], "coco": ["coco"], "coco-voc": ["coco", "pascal-voc-2012"]}
# Scores by name, in the order that they are told in, and what they are.
SCORES = {
    "all": "mean IoU of all classes",
    "old": "mean IoU of the classes of earlier steps",
    "new": "mean IoU of the classes of the last step",
    "harmonic": "harmonic mean of old and new",
}
NOBODY_SAYS = "not recorded"


def card(
    description: Description,
    name: str,
    *,
    normalisation: Normalisation,
    licence: str | None,
    taught: Taught,
    scores: Mapping[str, Any] | None,
) -> str:
    """The text of ``README.md``.

    Args:
        description: of the model.
        name: how it is called.
        normalisation: of its images.
        licence: of the weights, as their owner names it; None where nobody has said.
        taught: the web images that it learned from.
        scores: as ``release.scores.scores_of`` gives them.
    """
    parts = [
        _head(description, name, licence, scores),
        f"# {_text(name)}\n",
        _first_words(description),
        _use(),
        _classes(description),
        _scores(scores),
        _web_images(taught),
        _limits(description, scores, taught),
        _how(description, normalisation, licence),
    ]
    return "\n".join(part for part in parts if part)


# ---- what the hub reads ---------------------------------------------------------------------------------------------


def _head(description: Description, name: str, licence: str | None, scores: Mapping[str, Any] | None) -> str:
    """The metadata block: YAML, of which JSON is a part."""
    known = (licence or "unknown").strip().lower()
    fields: dict[str, Any] = {"license": known if known in LICENCES else "other"}
    if licence and known not in LICENCES:
        fields["license_name"] = _slug(licence)
    fields |= {
        "library_name": OWN,
        "pipeline_tag": "image-segmentation",
        "tags": ["image-segmentation", "semantic-segmentation", "class-incremental-learning", *_libraries(description)],
    }
    if description.dataset in DATASETS:
        fields["datasets"] = DATASETS[description.dataset]
    if scores is not None:
        fields |= {"metrics": ["mean_iou"], "model-index": [_index(description, name, scores)]}
    lines = [f"{key}: {json.dumps(_plain(value), ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---\n"])


def _plain(value: Any) -> Any:
    """Texts without characters that YAML does not take."""
    if isinstance(value, str):
        return shown_text(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "other"


def _libraries(description: Description) -> list[str]:
    library = str(description.network.get("library", OWN))
    return [] if library == OWN else [_slug(library)]


def _index(description: Description, name: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    metrics = [
        {"type": "mean_iou", "name": words, "value": scores[key]}
        for key, words in SCORES.items()
        if scores.get(key) is not None
    ]
    place = {
        "type": DATASETS[description.dataset][0] if description.dataset in DATASETS else _slug(str(scores["dataset"])),
        "name": f"{scores['dataset']}, {scores['protocol']} protocol",
    }
    task = {"type": "image-segmentation", "name": "Semantic segmentation"}
    return {"name": name, "results": [{"task": task, "dataset": place, "metrics": metrics}]}


# ---- what a person reads --------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Text of anyone as a part of a line or cell of Markdown, which it does not steer."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(shown_text(value).split()))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_text, names))


def _first_words(description: Description) -> str:
    names = description.class_names[1:]
    steps = len(description.steps)
    learned = "at once" if steps == 1 else f"in {steps} steps, each without the pixel labels of those before it"
    return (
        f"It says of each pixel of a photograph which of {len(names)} classes it shows, or none of them (background).\n"
        f"The classes were learned {learned}.\n"
    )


def _use() -> str:
    return (
        "## Use\n\n```python\nfrom segmentation_module import load_segmenter\n\n"
        'segmentation = load_segmenter("path/of/this/folder").predict("photograph.jpg")\n'
        "segmentation.mask, segmentation.confidence, segmentation.names\n```\n\n"
        f"`{CONFIG}` holds the classes, their colours, the normalisation and the network; `{WEIGHTS}` its weights. Neither holds code.\n"
    )


def _channels(description: Description) -> Iterator[tuple[int, int, str]]:
    """Step, class id and name of each channel."""
    names = iter(description.class_names)
    for step, classes in enumerate(description.steps):
        for number in classes:
            yield step, number, next(names)


def lessons(description: Description) -> list[tuple[str, str]]:
    """Of each step, its date and what it learned from, in words; ``NOBODY_SAYS`` where that is not known."""
    told = {entry["step"]: entry for entry in description.history if type(entry.get("step")) is int}
    found = []
    for step in range(len(description.steps)):
        entry = told.get(step, {})
        last = step == len(description.steps) - 1
        source = entry.get("from") or (_learned_from(description.options) if last else "")
        found.append((str(entry.get("date") or NOBODY_SAYS), str(source or NOBODY_SAYS)))
    return found


def _learned_from(options: Mapping[str, Any]) -> str:
    if "weakly" not in options:
        return ""
    if not options["weakly"]:
        return "pixel labels"
    return "image labels of web images" if options.get("web") else "image labels"


def _classes(description: Description) -> str:
    colours, learned = palette(), lessons(description)
    rows = []
    for step, number, name in _channels(description):
        colour = "#{:02x}{:02x}{:02x}".format(*colours[number].tolist())
        rows.append([number, _text(name), f"`{colour}`", step, *map(_text, learned[step][::-1])])
    return "## Classes\n\n" + _table(["id", "class", "colour", "step", "learned from", "date"], rows)


def _percent(value: object) -> str:
    return f"{100 * value:.1f}" if isinstance(value, int | float) else "-"


def _scores(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "## Scores\n\nNone are known.\n"
    head = f"In percent, tested {_text(scores['time'])} on {_text(scores['dataset'])} ({_text(scores['protocol'])} protocol).\n\n"
    means = _table(["score", "%"], [(words, _percent(scores.get(key))) for key, words in SCORES.items()])
    by_class = _table(["class", "IoU, %"], [(_text(key), _percent(value)) for key, value in scores["classes"].items()])
    return f"## Scores\n\n{head}{means}\n{by_class}"


def _web_images(taught: Taught) -> str:
    notes = "".join(f"\n{_text(note)}.\n" for note in taught.notes)
    if not taught.images:
        return f"## Web images\n\nNone are known that it learned from.\n{notes}"
    rows = [
        [f"[{_text(name)}]({_safe(address)})" if address else _text(name or "not known"), count]
        for (name, address), count in taught.licences().items()
    ]
    by_class = Counter(image.name for image in taught.images)
    lacking = Counter(image.name for image in taught.images if not image.licence)
    classes = [[_text(name), count, lacking[name]] for name, count in by_class.items()]
    authors = {image.author for image in taught.images if image.author}
    unknown = (
        f"{taught.unlicensed} of them come without a licence: whether the model may be used as you wish is for you to find out.\n"
        if taught.unlicensed
        else ""
    )
    return (
        f"## Web images\n\n{len(taught.images)} images from the web taught it classes, by {len(authors)} named authors. "
        f"Title, author, licence and address of each stand in `{FILE}`.\n{unknown}\n"
        f"{_table(['licence', 'images'], rows)}\n{_table(['class', 'images', 'without a licence'], classes)}{notes}"
    )


def _safe(address: str) -> str:
    """An address that ends a link nowhere but at its end."""
    return re.sub(r"[()<>\s\\]", lambda found: f"%{ord(found[0]):02x}", shown_text(address))


def _limits(description: Description, scores: Mapping[str, Any] | None, taught: Taught) -> str:
    options = description.options
    said = [
        "It knows its classes alone: whatever else a photograph shows becomes background, or the class that looks most like it."
    ]
    crop, multiple = options.get("crop_size"), description.network.get("multiple")
    if isinstance(crop, int):
        said.append(f"It was trained on crops of {crop} pixels; things much smaller or larger than there it may miss.")
    if isinstance(multiple, int) and multiple > 1:
        said.append(f"Its network takes sides that are multiples of {multiple} pixels.")
    weak = {
        entry["step"]
        for entry in description.history
        if entry.get("method") in IMAGE_METHODS and type(entry.get("step")) is int
    }
    weak |= {len(description.steps) - 1} if options.get("weakly") else set()
    names = [name for step, _, name in _channels(description) if step in weak]
    if names:
        said.append(
            f"Of {_listed(names)} it saw no outlines, only whole images said to show them: their edges are rough, and what often stands "
            "beside them may be taken for them."
        )
    if taught.images:
        said.append(
            "Web images are found by words: some show something else, and all are of the kind that people publish. How many are wrong is "
            "not known."
        )
        counts = Counter(image.name for image in taught.images)
        few = [name for name, count in counts.items() if count < FEW]
        if few:
            said.append(f"Fewer than {FEW} web images taught it {_listed(few)}.")
    if len(description.steps) > 1:
        said.append("Later steps may have cost earlier classes some of their quality.")
    if not description.binary:
        said.append("Its probabilities add up to one over the classes; none of them says that an image shows none.")
    if scores is None:
        said.append("It was not tested on labelled images, as far as this card knows.")
    else:
        unseen = [name for name, value in scores["classes"].items() if value is None]
        if unseen:
            said.append(f"No test image showed {_listed(unseen)}.")
    return "## Limits\n\n" + "".join(f"- {sentence}\n" for sentence in said)


# Web images of a class below which a card says that they are few.
FEW = 50


def _how(description: Description, normalisation: Normalisation, licence: str | None) -> str:
    network = ", ".join(
        f"{key} {json.dumps(value)}" for key, value in description.network.items() if not isinstance(value, dict | list)
    )
    terms = (
        f"The weights are released under {_text(licence)}." if licence else "Nobody has named a licence of the weights."
    )
    return (
        f"## How it was made\n\nNetwork: {_text(network)}. Images are RGB in [0, 1], of which the mean "
        f"{_numbers(normalisation.mean)} is taken away and which are divided by {_numbers(normalisation.std)}. "
        f"Each class's {'log-odds' if description.binary else 'logit'} is one channel. Options of the training and versions of packages "
        f"stand in `{CONFIG}`. {terms}\n"
    )


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
