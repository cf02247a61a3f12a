"""Names of the classes that a segmenter is to learn: refused before anything runs, and what captions can say of them."""

from __future__ import annotations

from collections.abc import Sequence

from captions.vocabulary import ClassWords, Vocabulary, class_entry, make_vocabulary, match_class, normal_form
from dataset.files import shown
from tasks import BACKGROUND, IGNORE
from utils.errors import UserError, printable
from utils.spelling import squeezed

# What masks and lists of classes call what is no class.
NO_CLASSES = {"background", "bg", "ignore", "ignored", "void", "unlabeled", "unlabelled"}


def check_names(new: Sequence[str], old: Sequence[str]) -> None:
    """Refuse names that cannot be new classes of a model.

    Args:
        new: names of the new classes.
        old: names of the foreground classes that the model knows.

    Raises:
        UserError: there is none, one is no name, two of them mean the same, or the model knows one already.
    """
    if not new:
        raise UserError("no new class is named; give --images with one folder a class, or --classes")
    for position, name in enumerate(new):
        if not any(map(str.isalnum, name)) or not name.isprintable() or name != name.strip(" -"):
            raise UserError(f"class {printable(name)!r}: is no name of a class; write letters, on one line")
        if squeezed(name) in NO_CLASSES:
            raise UserError(f"class {name}: is what masks call no class at all; give it another name")
        known = match_class(name, old)
        if known is not None:
            said = "" if known == name else f" as {known}"
            raise UserError(f"class {name}: the model knows it already{said}; leave it out, or give it another name")
        twin = match_class(name, new[:position])
        if twin is not None:
            raise UserError(f"classes {twin} and {name} are the same; leave one of them out, or put them together")


def free_ids(count: int, used: Sequence[int]) -> list[int]:
    """Class ids for ``count`` new classes: those behind the greatest used one first, then gaps.

    Raises:
        UserError: masks have not so many values.
    """
    behind = list(range(max(used, default=BACKGROUND) + 1, IGNORE))
    gaps = [number for number in range(BACKGROUND + 1, max(used, default=BACKGROUND)) if number not in set(used)]
    free = (behind + gaps)[:count]
    if len(free) < count:
        raise UserError(f"{count} new classes beside {len(used)}: a mask has room for {IGNORE} in all")
    return free


def make_words(new: Sequence[str], old: Sequence[str]) -> Vocabulary:
    """The words of all classes, for select_web.py: WordNet's, and the name alone of a new class that WordNet does not know.

    Args:
        new: checked names of new classes.
        old: names of the model's foreground classes; one that WordNet does not know, or takes for another class, is left out, and
            no caption names it.
    """
    entries: dict[str, str] = {}
    unknown = []
    for name in (*new, *old):
        try:
            entries.setdefault(class_entry(name).name, name)
        except UserError:
            unknown += [name] if name in new else []
    words = dict(make_vocabulary(list(entries.values())).by_class) if entries else {}
    for name in unknown:
        own = frozenset((normal_form(name),))
        words = {
            other: ClassWords(entry.words - own, entry.kinds - own, entry.ignored) for other, entry in words.items()
        }
        words[name] = ClassWords(own)
    return Vocabulary({name: words[name] for name in (*new, *old) if name in words and _counts(words[name])})


def _counts(entry: ClassWords) -> bool:
    return bool(entry.words | entry.kinds)


def named_by_tags(vocabulary: Vocabulary) -> set[str]:
    """Classes of a vocabulary that the captioner ``tags`` can name: some class of ImageNet is one of their words."""
    from captions.captioners.tags import tag_words
    from captions.labels import caption_labels

    return {name for word in tag_words() for name in caption_labels(word, vocabulary)}


def told_unnamed(names: Sequence[str], captioner: str) -> str:
    """What a user should know of classes whose images are not selected by captions."""
    return (
        f"{shown(names)}: the captioner {captioner} has no word for it; images without a caption keep their folder's "
        "class and are not selected: look at them"
    )
