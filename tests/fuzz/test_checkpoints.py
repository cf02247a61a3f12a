"""Checkpoints: their bytes, and what each of their fields may hold."""

from __future__ import annotations

import io
import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.state import read_model
from modules.pretrained import load_pretrained
from tests.fuzz import strategies as draw
from tests.fuzz.harness import fuzz, outcome
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError
from web import discriminator

MARK = "executed"


class Hostile:
    """What an attacker would have unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


@cache
def valid(number: int) -> dict[str, Any]:
    """What checkpoints hold: a published one, one of this project, a discriminator, one of an adopted network."""
    weights = {
        "body.mod1.conv1.weight": torch.arange(6.0).reshape(2, 3),
        "cls.0.weight": torch.ones(3, 2),
        "cls.0.bias": torch.zeros(3),
    }
    published = {
        "model_state": {f"module.{key}": value for key, value in weights.items()},
        "epoch": 3,
        "best_score": np.float64(0.5),
    }
    own = {
        "format": 1, "epoch": 2, "iteration": 0, "iters_per_epoch": 4, "finished": True, "best_score": 0.5,
        "seconds": 1.5, "memory_mib": 9.0,
        "identity": {"dataset": "shapes", "task": "5-3", "protocol": "disjoint", "classes": [[0, 1, 2]]},
        "class_names": ["background", "red", "blue"],
        "options": {"step": 0, "dataset": "shapes", "task": "5-3", "backbone": "resnet50", "norm_act": "abn", "method": "mib"},
        "model_state": weights, "localizer": None, "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "scheduler_state": {"last_epoch": 8}, "scaler": {}, "random_states": {"torch": torch.zeros(16, dtype=torch.uint8)},
    }  # fmt: skip
    judge = {
        "format": 1, "kind": "discriminator", "encoder": None, "classes": ["red"], "by_class": {"web red": 0.5}, "recipe": {},
        "preprocessing": {"network": "resnet10t", "source": "amplitude", "features": "image", "amplitude": "log", "band": "all",
                          "size": 32},
        "scores": {"accuracy": 0.5, "auc": 0.5, "calibration_error": 0.1, "positives": 3, "negatives": 4},
        "identity": own["identity"], "model_state": weights,
    }  # fmt: skip
    adopted = own | {
        "options": {**own["options"], "backbone": "adopted"},
        "network": {
            "library": "torchvision", "architecture": {"name": "lraspp_mobilenet_v3_large"}, "outputs": "softmax", "background": "own",
            "bgr": False, "multiple": 1, "size": None, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2],
        },
        "history": [{"step": 0, "classes": ["red", "blue"], "date": "2026-01-01", "from": "torchvision"}],
    }  # fmt: skip
    return (published, own, judge, adopted)[number]


ODD_TENSORS = [
    lambda: torch.tensor(float("nan")), lambda: torch.full((2, 3), float("inf")), lambda: torch.zeros(0),
    lambda: torch.zeros(1, dtype=torch.int64),
    lambda: torch.zeros(2, 3, dtype=torch.complex64), lambda: torch.eye(2).to_sparse(), lambda: torch.zeros(2, 2, dtype=torch.bool),
    lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), lambda: torch.zeros(2, device="meta"),
    lambda: torch.zeros(1).expand(10_000, 10_000), lambda: np.float32(0.5), lambda: np.int64(3),
    lambda: np.bool_(True), lambda: np.float16(1),
    lambda: np.zeros(3), lambda: nn.Parameter(torch.zeros(2)), lambda: torch.Size([1]), lambda: {1, 2}, lambda: b"bytes", lambda: Path("x"),
    lambda: Hostile(), lambda: (1, (2,)), lambda: 1 + 2j, lambda: np.array(["a"])[0],
]  # fmt: skip
odd = st.one_of(st.sampled_from(ODD_TENSORS).map(lambda make: make()), draw.json_values)


@cache
def _saved(number: int, old: bool) -> bytes:
    file = io.BytesIO()
    torch.save(valid(number), file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def written(content: Any) -> bytes | None:
    """A tree as torch saves it; None where it saves no such thing."""
    file = io.BytesIO()
    try:
        torch.save(content, file)
    except (RuntimeError, NotImplementedError, TypeError, UnicodeEncodeError, AttributeError, pickle.PicklingError):
        return None
    return file.getvalue()


def is_whole(state: Any) -> None:
    """What a reader of a checkpoint may rely on."""
    assert all(type(name) is str and isinstance(weight, Tensor) for name, weight in state.items())


files = st.tuples(st.integers(0, 3), st.booleans()).map(lambda which: _saved(*which))


@fuzz(draw.mutated(files), examples=[(b"\x81\x02\x8a\nm",), (b"RK\x03\x04\x00\x00\x08\x08\x00\x00",)], times=150)
def test_damaged_checkpoints(place: Path, content: bytes) -> None:
    path = place / "run_0.pth"
    path.write_bytes(content)
    state = outcome(lambda: checkpoint.load(path), path, memory=True)
    if not isinstance(state, UserError):
        is_whole(state["model_state"])
    assert not Path(MARK).exists()


# One field of another type each: most readers stop at the first.
swapped = st.integers(0, 3).flatmap(lambda number: draw.swapped(st.just(valid(number)), odd, most=2))


@fuzz(st.one_of(swapped, swapped, odd).map(written).filter(lambda content: content is not None), times=60)
def test_fields_of_checkpoints(place: Path, content: bytes) -> None:
    """Fields of other types and values: whoever reads them says so in one line."""
    path = place / "run_0.pth"
    path.write_bytes(content)
    state = outcome(lambda: checkpoint.load(path), path, memory=True)
    model = outcome(lambda: read_model(path), path)
    if isinstance(state, UserError):
        assert isinstance(model, UserError)
    else:
        is_whole(state["model_state"])
    if not isinstance(model, UserError) and model[1] is not None:
        described = model[1]
        assert all(type(name) is str for name in described.class_names) and isinstance(described.options, dict)
        assert all(type(i) is int for classes in described.steps for i in classes)
    outcome(lambda: discriminator.read_step_checkpoint(path), path)
    outcome(lambda: discriminator.load(path, Runtime(torch.device("cpu"))), path)
    outcome(lambda: load_pretrained(nn.Linear(2, 2), "resnet50", str(path)), path)
    assert not Path(MARK).exists()


keys = st.one_of(st.text(max_size=5), st.integers())
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3), st.tuples(inner)),
    max_leaves=8,
)


@fuzz(
    st.dictionaries(st.text(max_size=5), plain, max_size=4),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=6),
)
def test_checkpoints_come_back(place: Path, fields: dict[str, Any], weights: list[float]) -> None:
    path = place / "run_0.pth"
    content = {f"extra {key}": value for key, value in fields.items()} | {"model_state": {"w": torch.tensor(weights)}}
    checkpoint.save(path, content)
    read = checkpoint.load(path)
    assert torch.equal(read["model_state"]["w"], torch.tensor(weights))
    assert {key: value for key, value in read.items() if key in content and key != "model_state"} == {
        key: value for key, value in content.items() if key != "model_state"
    }
