"""A segmenter with its description as the checkpoint of a step: what ``run.py --step_ckpt`` and ``--test --ckpt`` take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from argparser import default_of, misfits
from engine.state import ASKED
from modules.description import OWN, Description
from utils import checkpoint
from utils.errors import UserError
from utils.names import ADOPTED


def as_checkpoint(description: Description, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The finished checkpoint of a description's last step, for ``utils.checkpoint.save``.

    It has no optimiser and no localizer: the next step starts from it, and a test takes it; no run goes on in it. Options that the
    description does not know are those of run.py for its data set.

    Args:
        description: with the data set, task and protocol that the next step will have.
        weights: its state dict.

    Raises:
        UserError: the description names no data set, or has options that are none of run.py's.
    """
    if not description.dataset:
        raise UserError("a step needs a data set: the model's description names none")
    own = description.network["library"] == OWN
    forced = {
        "dataset": description.dataset,
        "step": len(description.steps) - 1,
        "protocol": description.protocol or default_of("protocol", description.dataset),
        "backbone": description.network["backbone"] if own else ADOPTED,
    }
    if own:
        forced |= {key: description.network[key] for key in ("output_stride", "norm_act", "pooling", "image_stats")}
    options = {key: default_of(key, description.dataset) for key in ASKED}
    options |= {"task": description.task, "method": "weak" if description.binary else "supervised"}
    options["pooling"] = default_of("crop_size", description.dataset) // default_of(
        "output_stride", description.dataset
    )
    options |= dict(description.options) | forced
    wrong = misfits(options)
    if wrong:
        raise UserError(f"the model's option {wrong[0]} is {options[wrong[0]]!r}, which run.py does not know")
    return {
        "format": checkpoint.FORMAT,
        "identity": {
            "dataset": description.dataset,
            "task": description.task,
            "protocol": forced["protocol"],
            "classes": [list(classes) for classes in description.steps],
        },
        "class_names": list(description.class_names),
        "options": options,
        "epoch": 0,
        "iteration": 0,
        "iters_per_epoch": 0,
        "finished": True,
        "best_score": 0.0,
        "model_state": dict(weights),
        "localizer": None,
        "history": [dict(entry) for entry in description.history],
    } | ({} if own else {"network": dict(description.network)})
