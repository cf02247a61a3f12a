"""What predict.py does, once its options are checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dataset.files import shown
from modules.adopted.settings import AdoptSettings
from prediction.inputs import list_files, name_items
from prediction.looking import Looker, LookSettings
from prediction.page import write_page
from prediction.results import PROBABILITIES, THUMBS, Marker, Results, make_folder
from prediction.work import Done, predict_all
from segmentation_module import Segmenter, load_segmenter
from utils import checkpoint
from utils.errors import UserError

LOG = logging.getLogger("webwilss")


@dataclass(frozen=True)
class Told:
    """What a run did, in words.

    Attributes:
        done: in numbers.
        origin: the model.
        out: where the results lie.
    """

    done: Done
    origin: str
    out: Path

    @property
    def summary(self) -> str:
        """One line of numbers."""
        done = self.done
        return (
            f"{done.images} images and frames looked at, {done.before} were done before, {len(done.faults)} files unreadable; "
            f"by {self.origin}; results in {self.out}"
        )

    @property
    def left_out(self) -> str:
        """The first files that could not be read."""
        faults = [f"{path}: {fault}" for path, fault in self.done.faults]
        return f"{len(faults)} files left out: {shown(faults)}"


def predict(
    inputs: Sequence[str],
    out: Path,
    model: str,
    settings: LookSettings,
    adopt: AdoptSettings,
    *,
    kinds: Sequence[str],
    device: str,
    batch_size: int,
    workers: int | None,
    again: bool,
) -> Told:
    """Look at all of ``inputs`` and fill the folder ``out``.

    Args:
        inputs: files, folders, patterns, manifests, videos.
        out: the folder.
        model: any MODEL.
        settings: how to look.
        adopt: what a foreign model does not say of itself.
        kinds: folders that get a file for each image, besides masks.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images that are looked at at once.
        workers: processes that decode; None chooses by the device.
        again: whether results of another model or other settings are replaced.

    Raises:
        UserError: bad input, a model that cannot be read, results of others, a file that cannot be written.
    """
    listed = list_files(inputs, out)
    make_folder(out)
    segmenter = load_segmenter(model, device=device, precision=settings.precision, settings=adopt)
    # What auto chose, so that no folder mixes results of two machines.
    settings = replace(settings, precision=segmenter.runtime.precision)
    marker = marker_of(segmenter, model, settings)
    results = Results(out, marker, kinds)
    with results.open(again):
        items = name_items(listed, results.taken)
        for note in listed.notes:
            LOG.info("%s", note)
        looker = Looker(segmenter, settings, probabilities=PROBABILITIES in kinds)
        done = predict_all(items, results, looker, batch_size=batch_size, workers=workers)
        results.finish(items, done.faults)
        if THUMBS in kinds:
            write_page(results, len(done.faults))
    return Told(done, marker.origin, out)


def marker_of(segmenter: Segmenter, model: str, settings: LookSettings) -> Marker:
    """Whose results they are.

    Raises:
        UserError: two classes share a name, so that the table could not tell them apart.
    """
    description = segmenter.description
    weights = checkpoint.weights_digest({name: value.cpu() for name, value in segmenter.model.state_dict().items()})
    if len(set(description.class_names)) < len(description.ids):
        raise UserError(f"{model}: two of its classes have the same name; the table of results needs names that differ")
    return Marker(weights, f"{model} (weights {weights[:8]})", tuple(description.names.items()), settings.plain())
