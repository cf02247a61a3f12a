"""Checkpoints are written whole, hold plain values, and are read without running code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from utils import checkpoint
from utils.errors import UserError


def test_round_trip_is_exact_and_plain(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run_0.pth"
    weight = torch.randn(3, 4)
    checkpoint.save(
        path,
        {"model_state": {"w": weight}, "best_score": np.float64(0.25), "list": [np.int64(3), (1, "a")], "p": tmp_path},
    )
    state = checkpoint.load(path)
    assert torch.equal(state["model_state"]["w"], weight)
    assert state["best_score"] == 0.25 and type(state["best_score"]) is float
    assert state["list"] == [3, (1, "a")] and state["p"] == str(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["run_0.pth"], "no temporary file is left"


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run_0.pth"
    checkpoint.save(path, {"model_state": {}, "epoch": 1})

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(
        UserError, match=r"run_0\.pth: cannot be written \(disk full, \d+ MiB are free\); the old one is left"
    ):
        checkpoint.save(path, {"model_state": {}, "epoch": 2})
    assert checkpoint.load(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a"):
        checkpoint.save(tmp_path / "x.pth", {"model_state": {}, "thing": object()})
    assert not list(tmp_path.iterdir())


def test_published_file_with_module_prefix_and_numpy_scalar(tmp_path: Path) -> None:
    """WILSON saves the wrapped model and a NumPy best score; today's torch refuses the latter unless it is named safe."""
    path = tmp_path / "published.pth"
    torch.save({"model_state": {"module.cls.0.weight": torch.ones(2)}, "best_score": np.float64(0.5), "epoch": 3}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    state = checkpoint.load(path)
    assert list(state["model_state"]) == ["cls.0.weight"] and state["best_score"] == 0.5


def test_old_numpy_module_name(tmp_path: Path) -> None:
    """Files from NumPy 1 name the scalar's module differently."""
    path = tmp_path / "published.pth"
    torch.save({"model_state": {}, "best_score": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert checkpoint.load(path)["best_score"] == 0.5


class _Evil:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch hacked",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("missing", "no such checkpoint"),
        ("empty", "damaged or not a checkpoint"),
        ("html", "not a checkpoint"),
        ("truncated", "damaged or not a checkpoint"),
        ("evil", "cannot be read safely|can be read safely"),
        ("foreign", "no model_state"),
    ],
)
def test_bad_files_in_one_line(content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    if content == "empty":
        path.write_bytes(b"")
    elif content == "html":
        path.write_text("<html>not found</html>")
    elif content == "truncated":
        checkpoint.save(path, {"model_state": {"w": torch.randn(1000)}})
        path.write_bytes(path.read_bytes()[:2000])
    elif content == "evil":
        torch.save({"model_state": {}, "x": _Evil()}, path)
    elif content == "foreign":
        torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()


def test_random_states_round_trip() -> None:
    states = checkpoint.plain_values(checkpoint.random_states())
    first = torch.rand(5)
    checkpoint.restore_random_states(states)
    assert torch.equal(torch.rand(5), first)


def test_digests_of_files_that_earlier_versions_wrote_still_match() -> None:
    """Labels of replay images and discriminators hold them; another value would make them anew, or refuse them."""
    weights = {
        "head.weight": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        "body.a": torch.arange(4, dtype=torch.float16) / 3,
        "body.b": torch.tensor(7),
    }
    whole = checkpoint.weights_digest(weights)
    assert whole == "80b598d121f1502eb8ab9b66b7003945c2050a47cf2acc4e4790bad8f11554f7"
    body = {key: value for key, value in weights.items() if key.startswith("body.")}
    values = checkpoint.weights_digest(body, names=False)
    assert values == "1eba59c915a28c8caaaa62948b77777d71393640cfef2d8a0b39b6e46ba9ac44"
    renamed = {key.replace("body.", "trunk."): value.float() for key, value in body.items()}
    assert checkpoint.weights_digest(renamed, names=False) == values
    assert checkpoint.weights_digest(renamed) != checkpoint.weights_digest(body)
