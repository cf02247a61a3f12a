"""The whole page of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from experiments.pages.drawings import confusions, curves
from experiments.pages.making import options, versions
from experiments.pages.pieces import STYLE
from experiments.pages.predictions import predictions
from experiments.pages.scores import answer, classes, scores
from experiments.pages.sources import captions, web_images
from experiments.pages.study import Study
from utils.errors import UserError
from utils.html import document

SECTIONS: dict[str, Callable[[Study], str]] = {
    "Scores": scores,
    "By class": classes,
    "Predictions": predictions,
    "Learning curves": curves,
    "Confusions": confusions,
    "Web images": web_images,
    "Rehearsal": captions,
    "Options": options,
    "Versions": versions,
}


def page(study: Study) -> str:
    """HTML that opens offline; what a section lacks is said in it and noted in the study."""
    links, parts = [], []
    for number, (name, make) in enumerate(SECTIONS.items()):
        try:
            content = make(study)
        except UserError as error:
            content = study.lack(f"{name} cannot be shown: {error}")
        links.append(f'<a href="#s{number}">{escape(name)}</a>')
        parts.append(f'<section id="s{number}"><h2>{escape(name)}</h2>{content}</section>')
    arms, seeds = len(study.arms), len(study.table.seeds)
    title = f"{study.table.title}: {arms} arm{'s' if arms > 1 else ''}, {seeds} seed{'s' if seeds > 1 else ''}"
    return document(title, [f"<h1>{escape(title)}</h1>{answer(study)}<nav>{''.join(links)}</nav>", *parts], STYLE)
