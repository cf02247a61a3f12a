"""A collection from beginning to end, against a server that lies, stopped and gone on with."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.conftest import ROOT
from tests.web.server import Answer, LyingServer, as_json, encoded, make_client, moved, photo, picture
from tests.web.test_candidate import png_that_says
from tests.web.test_sources import sample, shard
from utils import manifest
from utils.errors import UserError
from utils.manifest import Row
from web import collect as engine
from web import fingerprints
from web.collect import Collected, Plan, collect
from web.download import Client, ClientStopped


def plan(out: Path, *sources: str, classes: Iterable[str] = ("cow",), **options: Any) -> Plan:
    return Plan(list(classes), list(sources), **({"per_class": 100, "threads": 4} | options))


def run(out: Path, *sources: str, limits: dict[str, Any] | None = None, **options: Any) -> Collected:
    return collect(plan(out, *sources, **options), make_client(**(limits or {})), out)


def listed(folder: Path, urls: dict[str, str] | Iterable[str]) -> str:
    """A list of addresses -> class, as a source."""
    path = folder / "list.csv"
    pairs = urls.items() if isinstance(urls, dict) else [(url, "cow") for url in urls]
    path.write_text("url,class,caption\n" + "".join(f"{url},{name},a {name}\n" for url, name in pairs))
    return f"list:{path}"


def serve(server: LyingServer, count: int, **options: Any) -> list[str]:
    """Addresses of different photos."""
    for number in range(count):
        server.routes[f"/{number}.jpg"] = Answer(photo(number), **options)
    return [f"{server.url}/{number}.jpg" for number in range(count)]


def rows(out: Path) -> list[Row]:
    return list(manifest.open_manifest(out))


def reasons(out: Path) -> dict[str, str]:
    """Last part of the address -> reason."""
    with (out / "rejected.csv").open(newline="") as file:
        return {row["url"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}


def check_whole(out: Path) -> None:
    """A row is there iff its file is, the file is what the row says, and nothing half-written is left."""
    known = {"manifest.csv", "rejected.csv", "fingerprints.csv"}
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - known
    found = rows(out)
    assert files == {row["path"] for row in found} and len(found) == len(files)
    for row in found:
        content = (out / row["path"]).read_bytes()
        assert (row["sha256"], row["size"]) == (hashlib.sha256(content).hexdigest(), str(len(content)))
        with Image.open(io.BytesIO(content)) as image:
            assert (row["width"], row["height"]) == (str(image.width), str(image.height))


def test_from_search_to_manifest(server: LyingServer, tmp_path: Path) -> None:
    results = [
        {"url": url, "title": f"cow {n}", "license": "by", "creator": "Ann", "foreign_landing_url": f"http://a/{n}"}
        for n, url in enumerate(serve(server, 3))
    ]
    server.routes["/api"] = as_json({"page_count": 1, "results": results})
    collected = run(tmp_path / "web", f"openverse:{server.url}/api", classes=["Brown Cow"])
    assert collected.troubles == []
    assert [(count.name, count.found, count.kept) for count in collected.counts] == [("Brown Cow", 3, 3)]
    check_whole(tmp_path / "web")
    found = rows(tmp_path / "web")
    assert [row["path"] for row in found] == [f"brown_cow/0000{n}.jpg" for n in (1, 2, 3)]
    del found[1]["sha256"]
    assert found[1] == {
        "path": "brown_cow/00002.jpg", "class": "Brown Cow", "query": "Brown Cow", "source": "openverse",
        "url": f"{server.url}/1.jpg", "page": "http://a/1", "licence": "by", "author": "Ann", "width": "96", "height": "80",
        "size": str(len(photo(1))), "caption": "cow 1",
    }  # fmt: skip


def test_every_lie_is_refused_for_what_it_is(server: LyingServer, tmp_path: Path) -> None:
    server.routes |= {
        "/good": Answer(photo(1)),
        "/page": Answer(b"<!DOCTYPE html><html>Not found</html>"),
        "/type": Answer(photo(2), kind="text/html"),
        "/bomb": Answer(png_that_says(30_000, 30_000)),
        "/cut": Answer(photo(3)[:-900]),
        "/small": Answer(encoded(picture(4, (20, 80)))),
        "/huge": Answer(b"x", length=10**9, pause=60),
        "/endless": Answer(bytes(10_000), length=False, endless=True),
        "/slow": Answer(bytes(100), pieces=100, pause=0.1),
        "/circle": moved("/circle"),
        "/away": moved("file:///etc/passwd"),
        "/wait": [Answer(status=429, headers={"Retry-After": "0"}), Answer(photo(5))],
        "/passes": [Answer(status=500), Answer(photo(6))],
        "/stays": Answer(status=500),
        "/other.jpg": Answer(encoded(picture(7), "PNG"), kind="image/jpeg"),
    }
    names = [*(path.lstrip("/") for path in server.routes), "none"]
    limits = {"max_bytes": 50_000, "deadline": 2, "tries": 2}
    collected = run(tmp_path / "web", listed(tmp_path, [f"{server.url}/{name}" for name in names]), limits=limits)
    check_whole(tmp_path / "web")
    assert [row["url"].rpartition("/")[2] for row in rows(tmp_path / "web")] == ["good", "wait", "passes", "other.jpg"]
    assert rows(tmp_path / "web")[-1]["path"] == "cow/00004.png"
    found = reasons(tmp_path / "web")
    damaged = found.pop("cut")
    assert damaged.startswith("damaged: ") and "truncated" in damaged
    assert found == {
        "page": "web page", "type": "no image type: text/html", "bomb": "too many pixels", "small": "too small: 20 x 80",
        "huge": "too many bytes", "endless": "too many bytes", "slow": "too slow", "circle": "too many redirects",
        "away": "no web address", "stays": "HTTP 500", "none": "HTTP 404",
    } | {"bomb": found["bomb"]}  # fmt: skip
    assert found["bomb"].startswith("too many pixels")
    count = collected.counts[0]
    assert (count.found, count.kept, count.refused["too many bytes"]) == (16, 4, 2)


def test_no_more_is_asked_for_than_is_wanted(server: LyingServer, tmp_path: Path) -> None:
    source = listed(tmp_path, serve(server, 10))
    run(tmp_path / "web", source, per_class=3)
    assert sorted(server.paths()) == ["/0.jpg", "/1.jpg", "/2.jpg"]


def test_the_next_source_fills_up(server: LyingServer, tmp_path: Path) -> None:
    urls = serve(server, 6)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = listed(tmp_path / "one", urls[:2]), listed(tmp_path / "two", urls[1:])
    run(tmp_path / "web", first, second, per_class=4)
    assert [row["url"] for row in rows(tmp_path / "web")] == urls[:4]
    assert sorted(server.paths()) == [f"/{n}.jpg" for n in range(4)]


@pytest.mark.parametrize("threads", [1, 7])
def test_the_order_is_that_of_the_candidates(server: LyingServer, tmp_path: Path, threads: int) -> None:
    """However long each takes; and of copies the first is the one that is kept."""
    delays = random.Random(threads)
    urls = serve(server, 20)
    for number in range(20):
        pause = delays.choice([0, 0.03])
        server.routes[f"/{number}.jpg"] = Answer(photo(number % 15), pieces=2, pause=pause)
    run(tmp_path / "web", listed(tmp_path, urls), threads=threads)
    assert [(row["path"], row["url"]) for row in rows(tmp_path / "web")] == [
        (f"cow/{number + 1:05d}.jpg", urls[number]) for number in range(15)
    ]
    assert reasons(tmp_path / "web") == {f"{n}.jpg": f"same file: cow/{n - 14:05d}.jpg" for n in range(15, 20)}


def test_a_second_run_asks_for_nothing_that_was_tried(server: LyingServer, tmp_path: Path) -> None:
    urls = [*serve(server, 4), f"{server.url}/none"]
    source = listed(tmp_path, urls)
    first = run(tmp_path / "web", source)
    before = (tmp_path / "web/manifest.csv").read_bytes()
    server.asked.clear()
    assert run(tmp_path / "web", source) == first
    assert server.asked == [] and (tmp_path / "web/manifest.csv").read_bytes() == before

    # Further addresses, another class: the numbers go on.
    urls = serve(server, 6)
    run(
        tmp_path / "web",
        listed(tmp_path, dict.fromkeys(urls, "cow") | {f"{server.url}/s.jpg": "sheep"}),
        classes=["cow", "sheep"],
    )
    assert sorted(server.paths()) == ["/4.jpg", "/5.jpg", "/s.jpg"]
    assert [row["path"] for row in rows(tmp_path / "web")] == [f"cow/{n:05d}.jpg" for n in range(1, 7)]
    check_whole(tmp_path / "web")


def test_copies_within_a_class_and_across_classes(server: LyingServer, tmp_path: Path) -> None:
    image = picture(1, (400, 300))
    server.routes |= {
        "/a.jpg": Answer(encoded(image)),
        "/b.jpg": Answer(encoded(image.resize((200, 150)), quality=50)),
        "/c.jpg": Answer(encoded(ImageOps.mirror(image))),
        "/d.jpg": Answer(photo(2)),
        "/e.jpg": Answer(encoded(image)),
        "/f.jpg": Answer(encoded(image, "PNG")),
        "/g.jpg": Answer(photo(3)),
    }
    urls = {f"{server.url}/{n}.jpg": "cow" for n in "abcd"} | {f"{server.url}/{n}.jpg": "sheep" for n in "efg"}
    source = listed(tmp_path, urls)
    with Path(source.partition(":")[2]).open("a") as file:
        file.write(f"{server.url}/a.jpg,sheep,\n")
    collected = run(tmp_path / "web", source, classes=["cow", "sheep"])
    assert [row["url"][-5] for row in rows(tmp_path / "web")] == ["a", "d", "g"]
    near, other = "near-duplicate", "in another class"
    assert reasons(tmp_path / "web") == {
        "a.jpg": f"same address {other}: cow", "b.jpg": f"{near}: cow/00001.jpg", "c.jpg": f"{near}: cow/00001.jpg",
        "e.jpg": f"same file {other}: cow/00001.jpg", "f.jpg": f"{near} {other}: cow/00001.jpg",
    }  # fmt: skip
    assert server.paths().count("/a.jpg") == 1
    assert collected.counts[1].refused == Counter(
        {f"same address {other}": 1, f"same file {other}": 1, f"{near} {other}": 1}
    )


def test_copies_of_earlier_runs_and_evaluation_images(
    server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = tmp_path / "JPEGImages"
    evaluation.mkdir()
    for number in (1, 2, 3):
        (evaluation / f"{number}.jpg").write_bytes(photo(number))
    server.routes |= {
        "/same.jpg": Answer(photo(1)),
        "/small.jpg": Answer(encoded(picture(2).resize((72, 66)), "PNG")),
        "/own.jpg": Answer(photo(9)),
        "/again.jpg": Answer(encoded(ImageOps.mirror(picture(9)), "WEBP")),
        "/new.jpg": Answer(photo(10)),
    }
    read: list[Path] = []
    real = fingerprints.load_image

    def load_image(path: Path) -> Image.Image:
        read.append(path)
        return real(path)

    monkeypatch.setattr(fingerprints, "load_image", load_image)
    source = listed(tmp_path, [f"{server.url}/{name}.jpg" for name in ("same", "small", "own")])
    run(tmp_path / "web", source, not_in=[evaluation])
    assert len(read) == 3
    source = listed(tmp_path, [f"{server.url}/{name}.jpg" for name in ("again", "new")])
    run(tmp_path / "web", source, not_in=[evaluation])
    assert len(read) == 3, "no image is read again for its fingerprint"
    assert reasons(tmp_path / "web") == {
        "same.jpg": f"is an evaluation image: {evaluation}/1.jpg",
        "small.jpg": f"shows an evaluation image: {evaluation}/2.jpg",
        "again.jpg": "near-duplicate: cow/00001.jpg",
    }
    assert [row["url"].rpartition("/")[2] for row in rows(tmp_path / "web")] == ["own.jpg", "new.jpg"]


def test_near_says_how_near(server: LyingServer, tmp_path: Path) -> None:
    image = picture(1, (400, 300))
    server.routes |= {"/a.jpg": Answer(encoded(image)), "/b.jpg": Answer(encoded(image.crop((14, 10, 390, 290))))}
    source = listed(tmp_path, [f"{server.url}/a.jpg", f"{server.url}/b.jpg"])
    for near, kept in ((0, 2), (20, 1)):
        run(tmp_path / f"{near}", source, near=near)
        assert len(rows(tmp_path / f"{near}")) == kept


def test_evaluation_images_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    evaluation, source = tmp_path / "eval", tmp_path / "source/cow"
    evaluation.mkdir()
    source.mkdir(parents=True)
    (evaluation / "a.jpg").write_bytes(b"nothing")
    (source / "b.jpg").write_bytes(photo(1))
    collected = run(tmp_path / "web", f"folder:{tmp_path / 'source'}", not_in=[evaluation])
    assert len(collected.troubles) == 1 and f"{evaluation}/a.jpg" in collected.troubles[0]
    assert len(rows(tmp_path / "web")) == 1


def test_evaluation_images_are_known_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "source/cow").mkdir(parents=True)
    (tmp_path / "eval").mkdir()
    for number, name in enumerate(("0.jfif", "1.jpe", "2", "3.dat", "4.jpg", os.fsdecode(b"5\xff\x1b.jpg"))):
        (tmp_path / "source/cow" / f"{number}.jpg").write_bytes(photo(number))
        (tmp_path / "eval" / name).write_bytes(photo(number))
    (tmp_path / "eval/list.txt").write_text("0\n1\n")
    (tmp_path / "source/cow/6.jpg").write_bytes(photo(6))
    collected = run(tmp_path / "web", f"folder:{tmp_path / 'source'}", not_in=[tmp_path / "eval"])
    assert collected.counts[0].refused == {"is an evaluation image": 6}
    assert [row["url"].rpartition("/")[2] for row in rows(tmp_path / "web")] == ["6.jpg"]
    assert collected.notes == ["--not_in: 1 things are no images and are left out (" + f"{tmp_path}/eval/list.txt)"]
    assert reasons(tmp_path / "web")["5.jpg"] == f"is an evaluation image: {tmp_path}/eval/5? .jpg"


@pytest.mark.parametrize("place", ["web.candidate.load_image", "web.collect.fingerprint"])
def test_whatever_a_decoder_raises_refuses_that_image_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """And it is not met again in the next run."""
    (tmp_path / "source/cow").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "source/cow" / f"{number}.jpg").write_bytes(photo(number))
    module, _, name = place.rpartition(".")
    real = getattr(sys.modules[module], name)
    met: list[int] = []

    def raises(*given: Any) -> Any:
        content = given[0] if isinstance(given[0], bytes) else Path(given[0]).read_bytes()
        met.append(len(content))
        if content == photo(1):
            raise struct.error("unpack requires\x1b[31m a buffer")
        if content == photo(2):
            raise OverflowError("too large")
        return real(*given)

    monkeypatch.setattr(place, raises)
    source = f"folder:{tmp_path / 'source'}"
    first = run(tmp_path / "web", source)
    assert first.counts[0].refused == {"damaged": 2} and first.counts[0].kept == 2 and len(met) == 4
    assert reasons(tmp_path / "web") == {
        "1.jpg": "damaged: error unpack requires [31m a buffer", "2.jpg": "damaged: OverflowError too large",
    }  # fmt: skip
    assert run(tmp_path / "web", source) == first and len(met) == 4
    check_whole(tmp_path / "web")


def test_a_host_that_is_waited_for_too_long_is_told(server: LyingServer, tmp_path: Path) -> None:
    urls = [f"{server.url}/{n}" for n in range(30)]
    for number in range(30):
        server.routes[f"/{number}"] = Answer(status=503, headers={"Retry-After": "1"})
    client = Client("me", make_client(tries=2).limits, rate=2000, allow_private=True, patience=0.5)
    collected = collect(plan(tmp_path, listed(tmp_path, urls)), client, tmp_path / "web")
    refused = collected.counts[0].refused
    assert refused["HTTP 503"] + refused["host was waited for too long"] == 30
    assert refused["host was waited for too long"] >= 20 and len(server.asked) <= 10
    assert any(trouble.startswith("127.0.0.1: given up after 0.5 seconds") for trouble in collected.troubles)


def test_a_source_that_fails_and_a_class_without_images(server: LyingServer, tmp_path: Path) -> None:
    server.routes["/api"] = Answer(status=500)
    good = listed(tmp_path, dict.fromkeys(serve(server, 2), "cow") | {f"{server.url}/none": "sheep"})
    api = f"openverse:{server.url}/api"
    collected = run(tmp_path / "web", api, good, classes=["cow", "sheep", "horse"])
    assert collected.troubles == [
        f"{api}: failed for cow: HTTP 500", f"{api}: failed for sheep: HTTP 500", f"{api}: failed for horse: HTTP 500",
        "no image of sheep (1 candidates)", "no image of horse (0 candidates)",
    ]  # fmt: skip
    assert [count.kept for count in collected.counts] == [2, 0, 0]


def test_what_came_before_a_source_failed_is_kept(server: LyingServer, tmp_path: Path) -> None:
    results = [{"url": url} for url in serve(server, 3)]
    server.routes["/api"] = lambda query: (
        as_json({"page_count": 9, "results": results}) if query["page"] == "1" else Answer(b"{")
    )
    collected = run(tmp_path / "web", f"openverse:{server.url}/api")
    assert collected.troubles == [f"openverse:{server.url}/api: failed for cow: answer is no JSON"]
    assert len(rows(tmp_path / "web")) == 3


def test_the_size_of_all_images_is_bounded(server: LyingServer, tmp_path: Path) -> None:
    source = listed(tmp_path, serve(server, 10))
    most = (sum(len(photo(n)) for n in range(3)) + 10) / 1e6
    collected = run(tmp_path / "web", source, max_total=most)
    assert len(rows(tmp_path / "web")) == 3
    assert len(collected.troubles) == 1 and "--max_total" in collected.troubles[0]
    check_whole(tmp_path / "web")
    # What did not fit was not refused: with more space it comes.
    run(tmp_path / "web", source)
    assert len(rows(tmp_path / "web")) == 10


def test_private_addresses_are_refused_unless_told(server: LyingServer, tmp_path: Path) -> None:
    source = listed(tmp_path, serve(server, 2))
    collect(plan(tmp_path, source), make_client(private=False), tmp_path / "web")
    assert set(reasons(tmp_path / "web").values()) == {"private address"} and server.asked == []


def test_addresses_that_no_manifest_could_hold(server: LyingServer, tmp_path: Path) -> None:
    run(tmp_path / "web", listed(tmp_path, [f"{server.url}/{'x' * 3000}"]))
    assert list(reasons(tmp_path / "web").values()) == ["address too long"] and server.asked == []


def test_local_files_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "source/cow").mkdir(parents=True)
    (tmp_path / "source/cow/a.jpg").write_bytes(photo(1) + bytes(20_000))
    (tmp_path / "source/cow/b.jpg").write_bytes(photo(2))
    run(tmp_path / "web", f"folder:{tmp_path / 'source'}", limits={"max_bytes": 15_000})
    assert reasons(tmp_path / "web") == {"a.jpg": "too many bytes"}
    assert (tmp_path / "web/cow/00001.jpg").read_bytes() == photo(2)


def test_hostile_class_names_stay_inside(server: LyingServer, tmp_path: Path) -> None:
    name = "../../Etc/../cow"
    run(tmp_path / "deep/er/web", listed(tmp_path, {serve(server, 1)[0]: name}), classes=[name])
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["web"]
    assert rows(tmp_path / "deep/er/web")[0]["path"] == "etc_cow/00001.jpg"


class Interrupting:
    """Raises KeyboardInterrupt when the given number of images is kept, as a user at the keyboard may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.real = engine.Store.keep
        monkeypatch.setattr(engine.Store, "keep", lambda *given: self.keep(*given))

    def keep(self, *given: Any) -> str:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.real(*given)


def test_stopped_and_gone_on_with(server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = listed(tmp_path, serve(server, 12))
    run(tmp_path / "whole", source)
    client = make_client()
    with monkeypatch.context() as patch:
        Interrupting(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            collect(plan(tmp_path, source), client, tmp_path / "web")
    with pytest.raises(ClientStopped):
        client.get_image(f"{server.url}/0.jpg")
    check_whole(tmp_path / "web")
    assert len(rows(tmp_path / "web")) == 5
    server.asked.clear()
    run(tmp_path / "web", source)
    check_whole(tmp_path / "web")
    assert rows(tmp_path / "web") == rows(tmp_path / "whole")
    # Those that were under way may still be noted after the end; those that were kept are not asked for again.
    assert not {f"/{n}.jpg" for n in range(5)} & set(server.paths())


def test_refused_files_are_removed_at_once(
    server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        server.routes[f"/{number}.jpg"] = Answer(photo(0) if number < 4 else photo(number)[:-900])
    left: list[Path] = []
    real = engine.Store.close

    def close(store: engine.Store) -> None:
        left.extend(store.out.glob("cow/.*"))
        real(store)

    monkeypatch.setattr(engine.Store, "close", close)
    run(tmp_path / "web", listed(tmp_path, [f"{server.url}/{number}.jpg" for number in range(8)]))
    assert len(rows(tmp_path / "web")) == 1 and len(reasons(tmp_path / "web")) == 7
    assert left == []


def test_a_full_disk_is_told_in_one_line(server: LyingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = listed(tmp_path, serve(server, 5))
    real, left = Path.open, [2]

    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if path.suffix == ".part" and mode == "xb":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device", str(path))
        return real(path, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(UserError, match="No space left on device"):
            run(tmp_path / "web", source, threads=1)
    check_whole(tmp_path / "web")
    run(tmp_path / "web", source)
    assert len(rows(tmp_path / "web")) == 5


def started(out: Path, source: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "collect_web.py"), "--classes", "cow", "--out", str(out), "--source", source]
    command += ["--allow_private", "--rate", "1000", "--threads", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_rows(process: subprocess.Popen[str], out: Path, count: int) -> None:
    path = out / "manifest.csv"
    while not path.is_file() or len(path.read_text().splitlines()) <= count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_killed_and_gone_on_with(server: LyingServer, tmp_path: Path) -> None:
    source = listed(tmp_path, serve(server, 10, pieces=2, pause=0.05))
    process = started(tmp_path / "web", source)
    until_rows(process, tmp_path / "web", 3)
    process.kill()
    process.communicate()
    asked = len(server.asked)
    assert asked < 10
    run(tmp_path / "web", source)
    check_whole(tmp_path / "web")
    run(tmp_path / "whole", source)
    assert rows(tmp_path / "web") == rows(tmp_path / "whole")


def test_ctrl_c_ends_a_run_that_waits(server: LyingServer, tmp_path: Path) -> None:
    urls = serve(server, 3)
    server.routes["/2.jpg"] = Answer(photo(2), pieces=100, pause=60)
    process = started(tmp_path / "web", listed(tmp_path, urls))
    until_rows(process, tmp_path / "web", 2)
    while "/2.jpg" not in server.paths():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "collect_web.py: stopped; the same command goes on where it was"
    assert "Traceback" not in told
    check_whole(tmp_path / "web")


def test_shards_of_img2dataset(tmp_path: Path) -> None:
    members = [
        m for n in range(4) for m in sample(f"00000000{n}", n % 3, url=f"http://a/{n}", caption=f"c {n}", query="cow")
    ]
    whole = shard(members)
    (tmp_path / "00000.tar").write_bytes(whole)
    (tmp_path / "00001.tar").write_bytes(whole[:5000])
    collected = run(tmp_path / "web", f"webdataset:{tmp_path}/*.tar")
    assert [(row["url"], row["caption"]) for row in rows(tmp_path / "web")] == [
        (f"http://a/{n}", f"c {n}") for n in range(3)
    ]
    assert reasons(tmp_path / "web") == {"3": "same file: cow/00001.jpg"}
    assert len(collected.troubles) == 1 and "00001.tar: damaged" in collected.troubles[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"per_class": 0}, "--per_class 0"), ({"max_total": -1}, "--max_total -1"), ({"threads": 0}, "--threads 0"),
     ({"near": 65}, "--near 65"), ({"near": -1}, "--near -1"), ({"classes": ["cow", "Cow"]}, "share the folder")],
)  # fmt: skip
def test_bad_input_is_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(UserError, match=said):
        run(tmp_path / "web", f"folder:{tmp_path / 'source'}", **options)
    assert not (tmp_path / "web").exists()


def test_bad_sources_and_evaluation_sets_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "web", "folder:nowhere")
    (tmp_path / "source").mkdir()
    with pytest.raises(UserError, match="--not_in"):
        run(tmp_path / "web", f"folder:{tmp_path / 'source'}", not_in=[tmp_path / "nowhere"])
    assert not (tmp_path / "web").exists()


def test_real_photographs(shared_data: Path, tmp_path: Path) -> None:
    """Four of 150 are copies, each of them looked at; two more are in the evaluation set that is made here, in another size."""
    source = shared_data / "web-animals"
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    for number in (1, 2):
        with Image.open(source / f"cow/{number:05d}.jpg") as image:
            image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(evaluation / f"{number}.png")
    collected = run(tmp_path / "web", f"folder:{source}", not_in=[evaluation], per_class=150)
    assert collected.counts[0].refused == {"shows an evaluation image": 2, "near-duplicate": 3, "same file": 1}
    copies = {name: reason for name, reason in reasons(tmp_path / "web").items() if "evaluation" not in reason}
    assert sorted(copies) == ["00015.jpg", "00021.jpg", "00103.jpg", "00107.jpg"]
    check_whole(tmp_path / "web")
    shutil.rmtree(tmp_path / "web")
