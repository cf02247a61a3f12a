"""Web images: collecting, learning the discriminator, selecting; disturbed and gone on with, each ends as if nobody had."""

from __future__ import annotations

import csv
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import select_web
from dataset.shapes import render_web
from tests.faults.harness import (
    LONG,
    changes,
    count_changes,
    differences,
    files,
    half_written,
    held,
    killed_somewhere,
    one_thread,
    only_long,
    plain,
    python,
    read_only,
    rng,
    run,
    running,
    seeds,
    small_disk,
    watched,
)
from tests.unlearned import save_unlearned
from tests.web.server import Answer, LyingServer, photo
from utils import checkpoint
from web import discriminator as discriminators

pytestmark = pytest.mark.timeout(3600 if LONG else 300)


# ---- collecting -----------------------------------------------------------------------------------------------------------


class Collecting:
    """Two classes from a list of addresses: photos, doubles of photos, pages, and addresses where nothing is."""

    def __init__(self, folder: Path, server: LyingServer) -> None:
        self.out, folder = folder / "web", folder
        folder.mkdir(parents=True, exist_ok=True)
        listed = folder / "list.csv"
        kinds = [str(number) for number in range(14)] + ["0", "page", "gone", "3"]
        lines = [
            f"{server.url}/{kind}.jpg?{number},{name}"
            for name, shift in (("cow", 0), ("sheep", 20))
            for number, kind in enumerate(str(int(k) + shift) if k.isdecimal() else k for k in kinds)
        ]
        listed.write_text("\n".join(["url,class", *lines, ""]))
        self.line = python(
            "collect_web.py", "--classes", "cow", "sheep", "--out", self.out, "--source", f"list:{listed}", "--allow_private",
            "--rate", 1000, "--threads", 3,
        )  # fmt: skip

    def end(self) -> dict[str, Any]:
        """Images, rows, what was refused, and fingerprints without the time of their files."""
        with (self.out / "fingerprints.csv").open(newline="") as file:
            prints = {tuple(value for key, value in row.items() if key != "mtime_ns") for row in csv.DictReader(file)}
        return {"files": files(self.out, "*/*.*", "manifest.csv", "rejected.csv"), "fingerprints": prints}


@pytest.fixture(scope="module")
def server() -> Iterator[LyingServer]:
    liar = LyingServer()
    for number in range(40):
        liar.routes[f"/{number}.jpg"] = Answer(photo(number), pieces=2, pause=0.005)
    liar.routes["/page.jpg"] = Answer(b"<!DOCTYPE html><html></html>", kind="text/html")
    yield liar
    liar.close()


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory, server: LyingServer) -> dict[str, Any]:
    """The end of a collection that nobody disturbed, and its changes to files."""
    folder = tmp_path_factory.mktemp("collected")
    collecting = Collecting(folder, server)
    ended = run(watched(collecting.line, folder / "notes", collecting.out), folder)
    assert ended.code == 0, ended.err
    end = collecting.end()
    assert len(end["files"]) == 2 * 14 + 2
    return end | {"changes": changes(folder / "notes")}


def check_collected(collecting: Collecting, collected: dict[str, Any], where: Path) -> None:
    ended = run(collecting.line, where)
    assert ended.code == 0, ended.err
    assert not differences({key: collected[key] for key in ("files", "fingerprints")}, collecting.end())
    assert not half_written(collecting.out)


@pytest.mark.parametrize("seed", seeds(40, 2))
def test_collecting_is_killed(collected: dict[str, Any], server: LyingServer, tmp_path: Path, seed: int) -> None:
    collecting = Collecting(tmp_path, server)
    draws, total = rng("collecting", seed), len(collected["changes"])
    killed_somewhere(collecting.line, collecting.out, tmp_path / "out", draws, total)
    check_collected(collecting, collected, tmp_path / "out")


@only_long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seed", seeds(5))
def test_collecting_is_stopped(
    collected: dict[str, Any], server: LyingServer, tmp_path: Path, number: int, seed: int
) -> None:
    collecting = Collecting(tmp_path, server)
    rows = rng("stop", number, seed).randint(1, 20)
    with running(collecting.line, tmp_path / "out") as child:
        child.wait_for(lambda: lines_of(collecting.out / "manifest.csv") > rows)
        child.send(number, group=True)
        ended = child.end()
    assert ended.code in (-number, 128 + number, 0) and "Traceback" not in ended.err
    check_collected(collecting, collected, tmp_path / "out")


def test_collecting_twice_at_once_and_on_a_full_disk(
    collected: dict[str, Any], server: LyingServer, tmp_path: Path
) -> None:
    """The second run is refused, the first unharmed; a manifest that can grow no more ends a run in one line."""
    collecting, where = Collecting(tmp_path, server), tmp_path / "out"
    with held(collecting.line, collecting.out, where, len(collected["changes"]) // 3) as child:
        run(collecting.line, where).check_refused("another run is collecting into it")
        child.send(signal.SIGKILL)
        child.end()
    assert 1 < lines_of(collecting.out / "manifest.csv") < 29
    largest = 100 + max(len(content) for name, content in collected["files"].items() if "/" in name)
    run(collecting.line, where, largest=largest).check_refused("File too large", "what was collected is kept")
    assert not half_written(collecting.out)
    check_collected(collecting, collected, where)


@only_long
@pytest.mark.parametrize("kibibytes", [48, 80])
def test_collecting_onto_a_small_disk(
    collected: dict[str, Any], server: LyingServer, tmp_path: Path, kibibytes: int
) -> None:
    with small_disk(tmp_path / "disk", f"{kibibytes}k") as resize:
        collecting = Collecting(tmp_path / "disk", server)
        run(collecting.line, tmp_path / "out").check_refused("No space left on device")
        resize("10m")
        check_collected(collecting, collected, tmp_path / "out")


def test_collecting_where_nothing_can_be_written(server: LyingServer, tmp_path: Path) -> None:
    collecting = Collecting(tmp_path, server)
    collecting.out.mkdir()
    with read_only(collecting.out):
        run(collecting.line, tmp_path / "out").check_refused(str(collecting.out))


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


# ---- selecting ------------------------------------------------------------------------------------------------------------


class Selecting:
    """Images of two classes, judged one by one by a discriminator that learned nothing."""

    def __init__(self, folder: Path, images: Path, discriminator: Path) -> None:
        self.out = folder / "selection"
        self.line = python(
            "select_web.py", "--web_path", images, "--out", self.out / "selected.csv", "--discriminator", discriminator, "--trust",
            "--keep", 5,
            "--device", "cpu", "--batch_size", 1, "--num_workers", 1,
        )  # fmt: skip

    def end(self) -> dict[str, bytes]:
        """The manifest, the sheets, and the scores whatever their order."""
        found = files(self.out, "selected.csv", "sheets/*")
        (scores,) = self.out.glob("selected.scores-*.csv")
        return found | {scores.name: b"\n".join(sorted(scores.read_bytes().splitlines()))}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "web"
    render_web(folder, ["circle", "square"], 10, 0, 0.0, 0.5, size=64)
    return folder


@pytest.fixture(scope="module")
def discriminator(base_ckpt: Path) -> Path:
    state = discriminators.read_step_checkpoint(base_ckpt)
    return save_unlearned(discriminators.discriminator_path(base_ckpt), state)


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory, web: Path, discriminator: Path) -> dict[str, bytes]:
    """The end of a selection that nobody disturbed."""
    selecting = Selecting(tmp_path_factory.mktemp("selected"), web, discriminator)
    with one_thread():
        assert select_web.main(select_web.get_argparser().parse_args(selecting.line[2:])) == 0
    return selecting.end()


def check_selected(selecting: Selecting, selected: dict[str, bytes], where: Path) -> None:
    ended = run(selecting.line, where)
    assert ended.code == 0, ended.err
    assert not differences(selected, selecting.end())
    assert not half_written(selecting.out)


def test_selecting_is_killed(selected: dict[str, bytes], web: Path, discriminator: Path, tmp_path: Path) -> None:
    """After seven scores; and these are not computed again."""
    selecting = Selecting(tmp_path, web, discriminator)

    def scores() -> list[bytes]:
        return [line for path in selecting.out.glob("*.scores-*.csv") for line in path.read_bytes().splitlines()[1:]]

    with running(selecting.line, tmp_path / "out") as child:
        child.wait_for(lambda: len(scores()) > 6)
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    before = scores()
    check_selected(selecting, selected, tmp_path / "out")
    assert scores()[: len(before) - 1] == before[:-1] and len(scores()) == 20


@only_long
def test_selecting_is_killed_at_any_moment(
    selected: dict[str, bytes], web: Path, discriminator: Path, tmp_path: Path
) -> None:
    whole = Selecting(tmp_path / "whole", web, discriminator)
    total = count_changes(whole.line, whole.out, tmp_path / "out")
    for seed in range(15):
        selecting = Selecting(tmp_path / str(seed), web, discriminator)
        killed_somewhere(selecting.line, selecting.out, tmp_path / "out", rng("selecting", seed), total)
        check_selected(selecting, selected, tmp_path / "out")


@only_long
@pytest.mark.parametrize("largest", [300, 2000])
def test_selecting_on_a_full_disk(
    selected: dict[str, bytes], web: Path, discriminator: Path, tmp_path: Path, largest: int
) -> None:
    """Full while scores are written, and while the manifest is."""
    selecting = Selecting(tmp_path, web, discriminator)
    # The limit would be one of the shared memory of loading processes, too.
    alone = [*selecting.line, "--num_workers", "0"]
    run(alone, tmp_path / "out", largest=largest).check_refused("File too large")
    assert not (selecting.out / "selected.csv").exists() and not half_written(selecting.out)
    check_selected(selecting, selected, tmp_path / "out")


# ---- the discriminator ----------------------------------------------------------------------------------------------------


@only_long
def test_learning_the_discriminator_is_killed(base_ckpt: Path, tmp_path: Path) -> None:
    """Killed at ten moments, each time gone on with: the weights of a training that nobody disturbed."""
    render_web(tmp_path / "web", ["circle", "square", "triangle", "star", "ring"], 12, 0, 0.0, 1.0, size=64)

    def line(out: Path) -> list[str]:
        return python(
            "train_discriminator.py", "--step_ckpt", base_ckpt, "--web_path", tmp_path / "web", "--out", out / "d.pth", "--network",
            "test_resnet", "--pretrained", "none", "--size", 64, "--epochs", 3, "--batch_size", 16, "--num_workers", 1, "--device", "cpu",
        )  # fmt: skip

    where = tmp_path / "out"
    total = count_changes(line(tmp_path / "whole"), tmp_path / "whole", where)
    for seed in range(10):
        out = tmp_path / f"run{seed}"
        killed_somewhere(line(out), out, where, rng("discriminator", seed), total)
        assert run(line(out), where).code in (0, 1)
        assert not differences(plain(checkpoint.load(tmp_path / "whole/d.pth")), plain(checkpoint.load(out / "d.pth")))
        assert [path.name for path in out.iterdir()] == ["d.pth"]
