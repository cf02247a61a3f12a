"""The lines that a dry run prints where nothing is done: stages are keyed by them, so one changed line trains finished arms again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.pins.scripts import call

WEB = "--web DATA/web"
DOWNLOADS = f"{WEB} --downloads DATA/downloads --class_words DATA/words.txt"
ABLATIONS = (
    "best-no-replay best-raw-web best-discriminator best-trained-body best-low-rate best-no-yielding best-no-folding best-no-jitter "
    "best-no-balance"
)
EXPERIMENTS = {
    "demo": "demo",
    "demo-all": f"demo --arms MiB WILSON discriminator caption-labels ours best {ABLATIONS} joint --seeds 1",
    "animals": "animals --data DATA --seeds 0",
    "animals-ablations": f"animals --data DATA --arms best {ABLATIONS} --seeds 3",
    "animals-4-1": "animals --data DATA --task 4-1 --seeds 0 1 --arms raw-web ours best joint",
    "voc256": "voc256 15-5 --overlap --data DATA --seeds 0",
    "voc256-tune": "voc256 10-5-5 --data DATA --tune --arms raw-web best --network tf_efficientnet_lite2",
    "voc": "voc 15-5 --overlap --data DATA",
    "voc-web": f"voc 10-10 --data DATA {WEB} --options='--precision&bf16'",
    "voc-downloads": f"voc 15-5 --overlap --data DATA {DOWNLOADS} --iterations 100 --captioner transformers some/model",
    "voc-15-5s": f"voc 15-5s --data DATA {DOWNLOADS} --arms WILSON best best-raw-web",
    "coco": f"coco --data DATA {DOWNLOADS} --seeds 7",
    "coco-pixel": "coco --data DATA --arms MiB joint",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All that the user gives, empty."""
    folder = tmp_path / "data"
    for name in (
        "voc-animals", "web-animals", "web-captioned", "voc20", "web20", "web-captioned-coco", "captions", "voc", "coco",
        "web", "downloads",
    ):  # fmt: skip
        (folder / name).mkdir(parents=True)
    for name in (
        "web-captioned/captions.json", "web-captioned-coco/captions.json", "captions/voc_train_captions.json", "words.txt",
    ):  # fmt: skip
        (folder / name).touch()
    return folder


def printed(line: str, data: Path, more: Sequence[str] = ()) -> str:
    work = data.parent / "work"
    words = [word.replace("DATA", str(data)).replace("&", " ").replace("'", "") for word in line.split()]
    ended = call("-m", "experiments", *words, "--work", str(work), "--dry_run", *more)
    assert (ended.code, ended.err) == (0, "") and not work.exists()
    return ended.out.replace(str(work), "<work>").replace(str(data), "<data>")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_printed_lines(name: str, data: Path, pinned: Callable[[str, str], None]) -> None:
    found = printed(EXPERIMENTS[name], data, ["--cpu"])
    assert str(data.parent) not in found and all(line.startswith("+ python ") for line in found.splitlines())
    pinned(f"dry_run/{name}", found)


def test_default_work_folders(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user names none, in the folder that they call it from."""
    monkeypatch.chdir(data)
    for line, folder in (
        ("demo", "demo"),
        ("animals --data DATA --task 4-1", "work/animals-4-1"),
        ("voc256 15-5 --overlap --data DATA", "work/voc256-15-5-ov"),
        ("voc256 10-10s --data DATA --tune", "work/voc256-10-10s-tune"),
        ("voc 15-5 --overlap --data DATA", "work/voc-15-5-ov"),
        ("voc 10-10s --data DATA", "work/voc-10-10s"),
        ("coco --data DATA", "work/coco-voc"),
    ):
        words = line.replace("DATA", str(data)).split()
        ended = call("-m", "experiments", *words, "--cpu", "--dry_run")
        assert ended.code == 0 and f"--checkpoints {data / folder}/checkpoints" in ended.out, line


@pytest.mark.parametrize(("name", "more"), [("one", ""), ("two", "--gpus 2"), ("cpu", "--cpu"), ("jobs", "--jobs 1")])
def test_lines_of_a_machine_with_two_gpus(
    name: str, more: str, data: Path, monkeypatch: pytest.MonkeyPatch, pinned: Callable[[str, str], None]
) -> None:
    """One stage a GPU, or with --gpus 2 those that can use two of them under torchrun."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    line = f"voc 15-5 --data DATA {DOWNLOADS} --arms WILSON ours"
    found = printed(line, data, more.split())
    pinned(f"dry_run/gpus-{name}", found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    renamed = found.replace("CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=5,7")
    assert printed(line, data, more.split()) == renamed.replace("CUDA_VISIBLE_DEVICES=0 ", "CUDA_VISIBLE_DEVICES=5 ")


def test_what_is_missing_is_said(data: Path) -> None:
    """A dry run is for planning: it prints its lines, and what has to be there before they run."""
    (data / "voc").rmdir()
    ended = call("-m", "experiments", *f"voc 15-5 --data {data} --work {data.parent}/work --cpu --dry_run".split())
    assert ended.code == 0 and len(ended.out.splitlines()) == 10
    assert ended.err == f"experiments: {data}/voc: is missing, the stage base-42 needs it\n"
