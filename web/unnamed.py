"""Classes that captions do not name: lost to the captioner's words, or to images that show something else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from captions.labels import things
from web.selection import WebImage

# A class is lost where fewer of its captions than this share name it.
LOST = 0.05
# Words that are told of a lost class's captions.
TOLD = 3


def lost_classes(images: Sequence[WebImage], captioner: str | None) -> dict[str, str]:
    """One sentence for each class, as the manifest has it, that no caption names or nearly none.

    Args:
        images: as ``read_web_images`` reads them with a vocabulary.
        captioner: who wrote the captions; None where that is not known.
    """
    captioned: dict[str, list[WebImage]] = defaultdict(list)
    for image in images:
        if image.caption:
            captioned[image.class_name].append(image)
    return {
        name: _sentence(name, members, captioner)
        for name, members in sorted(captioned.items())
        if sum(not image.dropped for image in members) < LOST * len(members)
    }


def _sentence(name: str, members: Sequence[WebImage], captioner: str | None) -> str:
    named = sum(not image.dropped for image in members)
    share = f"{named} of {len(members)} captions name it" if named else f"no caption of {len(members)} names it"
    others = [image for image in members if image.labels and image.dropped]
    if 2 * len(others) > len(members):
        shown = _most(label for image in others for label in (image.labels or "").split(";"))
        return f"{name}: {share}, but {shown}: look at its images, which may be of other classes"
    who = f"the captioner {captioner} says" if captioner else "they say"
    said = _most(word for image in members for word in things(image.caption))
    return (
        f"{name}: {share}; {who} {said}: write words for it into a --vocabulary (python -m captions.vocabulary), or "
        "caption with another --captioner"
    )


def _most(words: Iterable[str]) -> str:
    """The most frequent words and how often: ``sorrel (120), hartebeest (9), ...``."""
    counts = Counter(words)
    told = [f"{word} ({count})" for word, count in counts.most_common(TOLD)]
    return ", ".join(told + ["..."] * (len(counts) > TOLD)) or "nothing that is a noun"
