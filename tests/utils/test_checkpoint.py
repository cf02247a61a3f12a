"""Checkpoints are written whole, hold plain values, and are read without running code."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
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


# ---- damage, and files of other things ------------------------------------------------------------------------------


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """torch.load alone takes most of them: an exponent's bit makes a weight of 1e13."""
    path = tmp_path / "x.pth"
    weight = torch.linspace(-1, 1, 300)
    checkpoint.save(path, {"model_state": {"w": weight, "b": torch.ones(7)}, "epoch": 3})
    whole = bytearray(path.read_bytes())
    start = whole.index(weight.numpy().tobytes())
    rng = np.random.default_rng(0)
    inside = [
        (start + int(at), int(bit)) for at, bit in zip(rng.integers(0, 1200, 40), rng.integers(0, 8, 40), strict=True)
    ]
    anywhere = [
        (int(at), int(bit)) for at, bit in zip(rng.integers(0, len(whole), 160), rng.integers(0, 8, 160), strict=True)
    ]
    noticed = 0
    for at, bit in [*inside, *anywhere]:
        damaged = whole.copy()
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            state = checkpoint.load(path)
        except UserError as error:
            assert "damaged" in str(error) or "not a" in str(error)
            noticed += 1
        else:
            assert not start <= at < start + 1200, f"byte {at}, bit {bit}"
            assert torch.equal(state["model_state"]["w"], weight) and state["epoch"] == 3
    assert noticed >= 40


def test_a_damaged_file_names_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    checkpoint.save(path, {"model_state": {"w": torch.full((50,), 2.0)}})
    content = path.read_bytes()
    path.write_bytes(
        content.replace(torch.full((50,), 2.0).numpy().tobytes(), torch.full((50,), 3.0).numpy().tobytes())
    )
    with pytest.raises(UserError, match=r"x\.pth: damaged: \S*data/0 is not as it was written; copy the file again"):
        checkpoint.load(path)


def test_files_without_sums_and_of_old_torch_can_be_read(tmp_path: Path) -> None:
    path, state = tmp_path / "x.pth", {"model_state": {"w": torch.ones(3)}}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert checkpoint.load(path)["model_state"]["w"].sum() == 3
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoint.load(path)["model_state"]["w"].sum() == 3


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10_000_000))
    with pytest.raises(UserError, match="a zip file with compressed files"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "kind", "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool str".split()
)
def test_small_numpy_scalars_load(kind: str, tmp_path: Path) -> None:
    value = np.array(["käse" if kind == "str" else 1]).astype(kind)[0]
    torch.save({"model_state": {}, "best_score": value}, tmp_path / "x.pth")
    found = checkpoint.load(tmp_path / "x.pth")["best_score"]
    assert found == value.item() and type(found) is type(value.item())


HELD = {
    "weights alone": (torch.nn.Linear(2, 2).state_dict(), "it holds the tensors weight, bias, the weights of a network alone"),
    "torchvision's training": ({"model": {}, "optimizer": {}, "epoch": 3, "args": 1}, "it holds model, optimizer, epoch and 1 more"),
    "a list": ([1, 2], "it holds a list"),
    "nothing": ({}, "it is empty"),
    "terminal codes": ({"mo\x1b[31mdel\n": 1, "\u2028": 2}, r"it holds mo\x1b[31mdel , \u2028"),
    "a long name": ({"x" * 5000: 1}, f"it holds {'x' * 100}..."),
    "code": ({"model_state": {}, "x": _Evil()}, "it asks for posix.system"),
    "options of argparse": ({"model_state": {}, "x": argparse.Namespace()}, "it asks for argparse.Namespace"),
}  # fmt: skip


@pytest.mark.parametrize("case", HELD)
def test_what_a_refused_file_holds(case: str, tmp_path: Path) -> None:
    content, words = HELD[case]
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError) as caught:
        checkpoint.load(tmp_path / "x.pth")
    text = str(caught.value)
    assert words in text and text.isprintable() and "weights_only" not in text


BEGINNINGS = {
    "web page": (b"\n<!DOCTYPE html>", "it is a web page"), "lfs": (b"version https://git-lfs.github.com", "it is a Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08", "it is a gzip file"), "png": (b"\x89PNG\r\n", "it is an image"), "empty": (b"", "it is empty"),
    "safetensors": ((20).to_bytes(8, "little") + b'{"weight":{}}        ', "it is a safetensors file"),
    "cut zip": (b"PK\x03\x04", "damaged"), "pickle": (b"\x80\x04", "damaged"), "numbers": (bytes(range(256)) * 4, "not a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEGINNINGS)
def test_files_of_other_kinds(case: str, tmp_path: Path) -> None:
    content, words = BEGINNINGS[case]
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        checkpoint.load(tmp_path / "x.pth")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("field", ["model_state", "localizer", "pseudolabeler"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(field: str, value: float, tmp_path: Path) -> None:
    weights = {"w": torch.ones(3), "b": torch.tensor([1.0, value])}
    torch.save({"model_state": {"w": torch.ones(1)}} | {field: weights}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=rf"1 of 2 tensors of its {field} hold NaN or infinity \(b \.\.\.\)"):
        checkpoint.load(tmp_path / "x.pth")


ODD_TENSORS = {
    "sparse": torch.ones(3).to_sparse(), "expanded": torch.ones(1).expand(10**9), "complex": torch.ones(3, dtype=torch.complex64),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
    "meta": torch.ones(3, device="meta"), "number": 1.0, "text": "x", "nothing": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_weights_that_are_no_plain_tensors(kind: str, tmp_path: Path) -> None:
    torch.save({"model_state": {"w": ODD_TENSORS[kind]}}, tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"its model_state is not tensors by name|not a checkpoint that can be read safely"
    ):
        checkpoint.load(tmp_path / "x.pth")


# ---- a full disk, and the file that was there -----------------------------------------------------------------------


def test_a_file_size_limit_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    """What a full disk does inside torch's writer, which says "unexpected pos"."""
    pytest.importorskip("resource")
    path = tmp_path / "x.pth"
    checkpoint.save(path, {"model_state": {}, "epoch": 1})
    program = (
        "import resource, sys, torch\nfrom pathlib import Path\nfrom utils import checkpoint\nfrom utils.script import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"state = {{'model_state': {{'w': torch.ones(300_000)}}, 'epoch': 2}}\n"
        f"sys.exit(run(lambda: checkpoint.save(Path({str(path)!r}), state), 'run.py'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"run.py: {path}: cannot be written (File too large, ") and last.endswith(
        "the old one is left as it was"
    )
    assert checkpoint.load(path)["epoch"] == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_the_file_that_was_there_is_kept(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path, kept = tmp_path / "x.pth", tmp_path / "x.pth.bak"
    checkpoint.save(path, {"model_state": {}, "epoch": 1}, keep=kept)
    assert not kept.exists()
    checkpoint.save(path, {"model_state": {}, "epoch": 2}, keep=kept)
    assert (checkpoint.load(path)["epoch"], checkpoint.load(kept)["epoch"]) == (2, 1)
    with monkeypatch.context() as patched, pytest.raises(UserError):
        patched.setattr(os, "fsync", refused)
        checkpoint.save(path, {"model_state": {}, "epoch": 3}, keep=kept)
    assert (checkpoint.load(path)["epoch"], checkpoint.load(kept)["epoch"]) == (2, 1), (
        "nothing moves before there is a new one"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth", "x.pth.bak"]


def test_a_checkpoint_in_another_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "folder-fruit-mine/run_0.pth"
    checkpoint.save(path, {"model_state": {"w": torch.zeros(1)}})
    with pytest.raises(UserError, match=re.escape(f"no such checkpoint; is {path} meant?")):
        checkpoint.load(tmp_path / "folder-mine/run_0.pth")
    with pytest.raises(UserError, match=r"no such checkpoint$"):
        checkpoint.load(tmp_path / "folder-fruit-mine/run_1.pth")
