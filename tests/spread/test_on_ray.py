"""Actors on Ray do what one process does; what dies is done again, what is refused is told."""

from __future__ import annotations

import base64
import json
import pickle
import socket
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from spread import on_ray as on_ray_file
from spread.blocks import Block, Store, Worker, in_batches, in_blocks
from spread.on_ray import BlockActor, raise_again
from spread.options import RayOptions
from spread.ways import make_way
from tests.pins.scripts import call
from tests.spread.counting import Count, expected
from utils import distributed
from utils.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out.blocks", "model and settings")


def blocks(names: list[str], size: int = 2) -> list[Block[str]]:
    return list(in_blocks(in_batches(names, 2), size))


def done_on_ray(names: list[str], count: Count, store: Store, *, size: int = 2, actors: int = 2) -> list[object]:
    way = make_way(distributed.start("cpu"), 1, RayOptions("local", actors))
    return sum(way.results(blocks(names, size), count, store), [])


@pytest.mark.usefixtures("ray_here")
def test_actors_die_and_all_is_done_in_turn(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One takes its process with it, once; what was finished is not done again, and neither is what an earlier run left."""
    names = [f"i{number}" for number in range(12)]
    names[6] = "deadly"
    count = Count(tmp_path / "notes", pause=0.05)
    left = blocks(names)[2]
    store.write(left, [expected(batch) for batch in left.batches])
    damaged = blocks(names)[1]
    store.write(damaged, [[], []])
    assert done_on_ray(names, count, store) == expected(names)
    # Of the block that killed its worker the first batch was done twice, of all others nothing.
    noted = count.noted()
    assert set(noted) == set(names) - set(names[8:]) and sorted(set(noted)) == [n for n in sorted(names) if n in noted]
    assert [name for name in set(noted) if noted.count(name) > 1] == [] or noted.count("i4") == 2
    assert (tmp_path / "notes/deadly.died").exists() and not store.folder.exists()
    assert "damaged; its 4 images are done again" in caplog.text and "1 blocks are done again" in caplog.text


@pytest.mark.usefixtures("ray_here")
def test_what_a_worker_refuses_ends_the_job_and_what_was_done_stays(store: Store, tmp_path: Path) -> None:
    count = Count(tmp_path / "notes")
    with pytest.raises(UserError, match=r"^bad: cannot be read; give another$"):
        done_on_ray(["a", "b", "c", "bad"], count, store, size=1, actors=1)


def test_workers_that_always_die_end_the_job(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not while one block is finished between; what is finished stays."""
    rounds = iter([[], [], [(0, json.dumps([expected(["a", "b"])]), "")], [], [], []])
    monkeypatch.setattr(on_ray_file, "_connected", lambda options: nullcontext())
    monkeypatch.setattr(on_ray_file.OnRay, "_round", lambda *_: iter(next(rounds)))
    pytest.importorskip("ray.data", reason="the extra ray is not installed: tests on Ray are left out")
    way = make_way(distributed.start("cpu"), 1, RayOptions("local"))
    handed: list[object] = []
    with pytest.raises(UserError, match=r"died 3 times without finishing one of 1 blocks; .*first block: c$"):
        for rows in way.results(blocks(["a", "b", "c", "d"], 1), Count(tmp_path / "notes"), store):
            handed += rows
    assert handed == expected(["a", "b"]) and next(rounds, None) is None
    assert "2 blocks are done again by those that are left" in caplog.text


def in_actor(make: object, folder: Path) -> dict[str, list[object]]:
    """What an actor answers for a block of one name."""
    block = base64.b64encode(pickle.dumps(blocks(["broken"])[0])).decode()
    return BlockActor(make, str(folder), 1)({"number": [3], "block": [block]})


def test_faults_travel_as_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of ours comes as its traceback; a node without the driver's folder is named."""
    monkeypatch.chdir(tmp_path)
    count = Count(tmp_path / "notes")
    answer = in_actor(count, tmp_path)
    assert (answer["number"], answer["rows"]) == ([3], [""])
    with pytest.raises(RuntimeError, match=r"(?s)on a worker of Ray:.*counting.*ValueError: a fault of ours"):
        raise_again(answer["fault"][0])
    with pytest.raises(UserError, match=rf"{socket.gethostname()}: .*nowhere.*every node needs the same files"):
        raise_again(in_actor(count, tmp_path / "nowhere")["fault"][0])

    def refuses() -> Worker[str]:
        raise UserError("model.pth: no such checkpoint")

    with pytest.raises(UserError, match=r"^model\.pth: no such checkpoint$"):
        raise_again(in_actor(refuses, tmp_path)["fault"][0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--ray local", "--ray: is not installed (import of ray halted; None in sys.modules); pip install -e .[ray]"),
        ("--ray 127.0.0.1:9", "--ray 127.0.0.1:9: no cluster answers ([Errno 111] Connection refused); start one with"),
        ("--ray nowhere", "--ray nowhere: is no address; give local, auto, or host:port"),
    ],
)
def test_no_ray_to_work_on(words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if words == "--ray local":
        monkeypatch.setitem(sys.modules, "ray", None)
    else:
        ray = pytest.importorskip("ray", reason="the extra ray is not installed: tests on Ray are left out")
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "captions.txt").write_text("a.png a picture\n")
    given = f"{tmp_path} {tmp_path / 'out.txt'} --captioner file --captions {tmp_path / 'captions.txt'}"
    ended = call("generate_caption.py", *given.split(), *words.split())
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert ended.err.startswith(f"generate_caption.py: {said}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--ray_gpus 1", "--ray_gpus needs --ray"),
        ("--ray_actors 2", "--ray_actors needs --ray"),
        ("--ray local --ray_actors 0", "--ray_actors 0"),
        ("--ray local --ray_gpus 1.5", "--ray_gpus 1.5: a share from 0 to 1"),
        ("--block_size 0", "--block_size 0"),
    ],
)
def test_wrong_options_are_named(words: str, said: str) -> None:
    import generate_caption

    given = generate_caption.get_argparser().parse_args(["in", "out", *words.split()])
    with pytest.raises(UserError, match=said):
        generate_caption.main(given)


def test_not_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    import select_web

    monkeypatch.setenv("WORLD_SIZE", "2")
    line = "--web_path in --out out.csv --ray local --web_labels caption"
    with pytest.raises(UserError, match="run it without torchrun"):
        select_web.main(select_web.get_argparser().parse_args(line.split()))
