"""The search for images of old classes in a pool.

``find`` knows what images show: most of what it finds shares a class with the original.
``find_by_caption`` compares words, as a search engine does. Both find anything now and then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captions.formats import write_captions
from captions.labels import tokens
from experiments.imitation.originals import Original
from experiments.imitation.pool import PoolImage

# Downloads for each original (docs/method.md, "Old classes from captions"), and the share of them
# that is anything.
DOWNLOADS, NOISE = 20, 0.3
# Words that say nothing of what an image shows.
STOP_WORDS = frozenset("a an the of in on at by to with and or is are be it its from for".split())


def find(pool: Sequence[PoolImage], wanted: Sequence[Original], seed: int = 1) -> dict[str, list[PoolImage]]:
    """Downloads for each original, in the order of its results: most share a class with it, the
    rest are anything.

    Args:
        pool: where to search.
        wanted: the originals.
        seed: what is drawn.
    """
    rng = np.random.default_rng(seed)
    downloads = {}
    for original in wanted:
        fitting = [image for image in pool if image.shows & set(original.classes)]
        noise = rng.permutation(len(pool))
        picks = [fitting[i] for i in rng.permutation(len(fitting))[: round((1 - NOISE) * DOWNLOADS)]]
        downloads[original.name] = _with_noise(pool, picks, noise, rng)
    return downloads


def find_by_caption(pool: Sequence[PoolImage], wanted: Sequence[Original], seed: int = 1) -> dict[str, list[PoolImage]]:
    """Downloads for each original, in the order of its results: the images whose caption and page
    are most alike to its caption and class words, and some that are anything.

    Texts are compared by the words that they share: the cosine of their vectors of ones, each
    weighed by the logarithm of the inverse share of texts that have the word.

    Args:
        pool: where to search.
        wanted: the originals, with their captions.
        seed: what is drawn.
    """
    rng = np.random.default_rng(seed)
    texts = [_text_words(f"{image.caption} {image.page}") for image in pool]
    columns = {word: i for i, word in enumerate(sorted(set().union(*texts)))}
    rarity = np.zeros(len(columns))
    for words in texts:
        rarity[[columns[word] for word in words]] += 1
    rarity = np.log(len(pool) / rarity)
    known = np.stack([_vector(words, columns, rarity) for words in texts])
    downloads = {}
    for original in wanted:
        query = _vector(_text_words(" ".join((original.caption, *original.classes))), columns, rarity)
        noise, tie = rng.permutation(len(pool)), rng.permutation(len(pool))
        best = tie[np.argsort(-(known @ query)[tie], kind="stable")]
        picks = [pool[i] for i in best[: round((1 - NOISE) * DOWNLOADS)]]
        downloads[original.name] = _with_noise(pool, picks, noise, rng)
    return downloads


def _with_noise(
    pool: Sequence[PoolImage], picks: list[PoolImage], noise: NDArray[np.int64], rng: np.random.Generator
) -> list[PoolImage]:
    """The picks, filled up with the first of the noise that are none of them, all mixed."""
    there = {image.path for image in picks}
    picks = picks + [pool[i] for i in noise if pool[i].path not in there][: DOWNLOADS - len(picks)]
    return [picks[i] for i in rng.permutation(len(picks))]


def _text_words(text: str) -> set[str]:
    """The words of a text in their singular, without those that stand in every text."""
    return {token.forms[-1] for token in tokens(text)} - STOP_WORDS


def _vector(words: set[str], columns: Mapping[str, int], rarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the words that are known, of length 1; all 0 where there is none."""
    vector = np.zeros(len(columns))
    here = [columns[word] for word in words if word in columns]
    vector[here] = rarity[here]
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def write_downloads(out: Path, downloads: dict[str, list[PoolImage]], wanted: Sequence[Original]) -> None:
    """Lay out the downloads (hard links), captions and class words; folders that are there stay.

    Args:
        out: gets ``downloads/ID/00001.jpg`` ..., ``captions/ID.txt`` and ``class_words.txt``.
        downloads: images of each original, as a search gives them.
        wanted: the originals.
    """
    for original, images in downloads.items():
        folder, partial = out / "downloads" / original, out / "downloads" / f".{original}"
        lines = [(f"{number:05}.jpg", image.caption) for number, image in enumerate(images, 1)]
        write_captions(out / "captions" / f"{original}.txt", lines)
        if folder.is_dir():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for (name, _), image in zip(lines, images, strict=True):
            os.link(image.path, partial / name)
        partial.rename(folder)
    words = "".join(f"{original.name}.png {' '.join(original.classes)} \n" for original in wanted)
    (out / "class_words.txt").write_text(words, encoding="utf-8")
