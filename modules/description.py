"""What a segmenter is, in plain values: enough to make its network again, and to name what it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks import BACKGROUND, IGNORE
from utils.errors import UserError, printable
from utils.names import BINARY_METHODS

OWN = "web-wilss"
OWN_VALUES = {"backbone": str, "output_stride": int, "norm_act": str, "pooling": int, "image_stats": str}
ADOPTED_VALUES = {
    "architecture": dict,
    "outputs": str,
    "background": str,
    "bgr": bool,
    "multiple": int,
    "mean": list,
    "std": list,
}
# What the adopted library's logits are, and whether one of its channels is background.
SOFTMAX, SIGMOID = OUTPUTS = ("softmax", "sigmoid")
OWN_BACKGROUND, ADDED_BACKGROUND = BACKGROUNDS = ("own", "added")


@dataclass(frozen=True)
class Description:
    """What a segmenter is.

    Attributes:
        network: what its network is made from. Of this project: ``library`` ("web-wilss"), ``backbone``, ``output_stride``,
            ``norm_act``, ``pooling`` and ``image_stats``. Of an adopted one: ``library``, ``architecture`` (the library's own
            values), ``outputs`` (softmax or sigmoid), ``background`` (own, or added), ``bgr``, ``multiple`` (what sides must be
            multiples of), ``least`` (the smallest side), ``size`` ([H, W], or None for any), ``mean`` and ``std`` of RGB images
            in [0, 1].
        steps: class ids of each step, background first.
        class_names: in channel order.
        binary: whether each channel is a log-odds of its own; else softmax goes over all channels.
        dataset: name of the data set whose ids these are; "" where there is none.
        task: name of the task.
        protocol: which images a step saw.
        options: of the run that made it; empty for an adopted one.
        history: what is known of each step, in plain values: ``step``, ``classes``, ``date``, ``from``.
    """

    network: Mapping[str, Any]
    steps: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    binary: bool
    dataset: str = ""
    task: str = ""
    protocol: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    @property
    def adopted(self) -> bool:
        """Whether the network is another library's."""
        return self.network["library"] != OWN

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids in channel order."""
        return tuple(number for classes in self.steps for number in classes)

    @property
    def names(self) -> dict[int, str]:
        """Class id -> name, in channel order."""
        return dict(zip(self.ids, self.class_names, strict=True))

    def plain(self) -> dict[str, Any]:
        """As JSON gives it back."""
        values = asdict(self)
        values["steps"] = [list(classes) for classes in self.steps]
        return values | {"class_names": list(self.class_names), "history": [dict(entry) for entry in self.history]}

    @classmethod
    def from_plain(cls, values: Any, where: str) -> Description:
        """What ``plain`` gave, read back and checked.

        Args:
            values: what a file holds.
            where: the file, for messages.

        Raises:
            UserError: a value is missing or of another kind.
        """

        def need(fits: bool, name: str) -> None:
            if not fits:
                raise UserError(
                    f"{where}: damaged, or of another version: its {name} is missing or wrong; give another"
                )

        need(isinstance(values, dict), "description")
        check_network(values.get("network"), where)
        steps, names = values.get("steps"), values.get("class_names")
        need(isinstance(steps, list) and bool(steps) and all(isinstance(classes, list) for classes in steps), "steps")
        ids = [number for classes in steps for number in classes]
        need(all(type(i) is int and 0 <= i < IGNORE for i in ids) and len(set(ids)) == len(ids) > 0, "steps")
        need(all(steps) and ids[0] == BACKGROUND, "steps")
        need(isinstance(names, list) and all(isinstance(name, str) for name in names), "class_names")
        need(len(names) == len(ids), "class_names")
        need(type(values.get("binary")) is bool, "binary")
        texts = {key: values.get(key, "") for key in ("dataset", "task", "protocol")}
        for key, text in texts.items():
            need(isinstance(text, str), key)
        options, history = values.get("options", {}), values.get("history", [])
        need(isinstance(options, dict), "options")
        need(isinstance(history, list) and all(isinstance(entry, dict) for entry in history), "history")
        return cls(
            network=values["network"],
            steps=tuple(map(tuple, steps)),
            class_names=tuple(names),
            binary=values["binary"],
            options=options,
            history=tuple(history),
            **texts,
        )

    @classmethod
    def of_checkpoint(cls, state: Mapping[str, Any], where: str) -> Description:
        """What a checkpoint of this project says of itself.

        Args:
            state: its dictionary, as ``utils.checkpoint.load`` gives it, with ``identity``, ``options`` and ``class_names``.
            where: the file, for messages.

        Raises:
            UserError: a value is missing or of another kind.
        """
        options, identity = state.get("options", {}), state.get("identity", {})
        network = state.get("network", own_network(options))
        # Methods with binary cross entropy give each class a probability of its own, and so do turned logits.
        binary = network.get("library") != OWN or bool(
            options.get("bce") or options.get("icarl") or options.get("method") in BINARY_METHODS
        )
        values = {
            "network": network,
            "steps": [list(classes) for classes in identity.get("classes", [])],
            "class_names": list(state.get("class_names", [])),
            "binary": binary,
            "options": options,
            "history": list(state.get("history", [])),
        } | {key: identity.get(key, "") for key in ("dataset", "task", "protocol")}
        return cls.from_plain(values, where)


def own_network(options: Mapping[str, Any]) -> dict[str, Any]:
    """The network of this project that options of a run ask for."""
    return {"library": OWN} | {key: options.get(key) for key in OWN_VALUES}


def check_network(network: Any, where: str) -> None:
    """UserError where what a network is made from lacks a value, or has one of another kind."""
    library = network.get("library") if isinstance(network, dict) else None
    if not isinstance(library, str):
        raise UserError(f"{where}: damaged, or of another version: it does not say what its network is; give another")
    wrong = [
        key
        for key, kind in (OWN_VALUES if library == OWN else ADOPTED_VALUES).items()
        if type(network.get(key)) is not kind
    ]
    if library != OWN and not wrong:
        wrong += [key for key in ("mean", "std") if not _colours(network[key])]
        wrong += ["std"] * (not all(network["std"]))
        wrong += ["outputs"] * (network["outputs"] not in OUTPUTS)
        wrong += ["background"] * (network["background"] not in BACKGROUNDS)
        wrong += ["multiple"] * (network["multiple"] < 1)
        wrong += ["least"] * (type(network.get("least", 1)) is not int)
        wrong += ["size"] * (not _size(network.get("size")))
    if wrong:
        raise UserError(f"{where}: damaged: {printable(wrong[0])} of its network is missing or wrong; give another")


def _colours(values: list[Any]) -> bool:
    return len(values) == 3 and all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _size(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and all(type(v) is int and v > 0 for v in value)
    )
