"""The download scripts against a server of our own on this machine: nothing here needs a network."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

savemat = pytest.importorskip("scipy.io").savemat
if shutil.which("bash") is None:
    pytest.skip("bash is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
TOOLS = [tool for tool in ("curl", "wget") if shutil.which(tool)]
OWN = ["2007_000001", "2007_000002"]
SBD_ONLY = ["2008_000003", "2008_000004"]
VAL = ["2007_000005"]


class Server:
    """Serves ``files``; ``cut`` names files of which the first answer breaks off; ``asked`` notes requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.shelf = server
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers.get("Range")
        self.shelf.asked.append((name, wanted))
        if name not in self.shelf.files:
            self.send_error(404)
            return
        whole = self.shelf.files[name]
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.shelf.ranges else 0
        if start and start >= len(whole):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        if name in self.shelf.cut:
            self.shelf.cut.discard(name)
            self.wfile.write(whole[start : start + (len(whole) - start) // 2])
            return
        self.wfile.write(whole[start:])


@pytest.fixture
def server() -> Iterator[Server]:
    shelf = Server()
    thread = threading.Thread(target=shelf.http.serve_forever, daemon=True)
    thread.start()
    yield shelf
    shelf.http.shutdown()
    shelf.http.server_close()
    thread.join()


def png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(mask, "L")
    image.putpalette([i % 256 for i in range(768)])
    image.save(buffer, "PNG")
    return buffer.getvalue()


def tar(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def own_mask() -> np.ndarray:
    mask = np.zeros((4, 5), np.uint8)
    mask[1, 1:3], mask[2, 2] = 7, 255
    return mask


def sbd_mask(index: int) -> np.ndarray:
    mask = np.zeros((4, 5), np.uint8)
    mask[3, :] = 10 + index
    return mask


def voc_archives() -> dict[str, bytes]:
    """VOC and SBD in small: SBD also has masks of VOC's images, which must not win."""
    base = "VOCdevkit/VOC2012"
    voc = {f"{base}/JPEGImages/{name}.jpg": b"jpeg" for name in OWN + SBD_ONLY + VAL}
    voc |= {f"{base}/SegmentationClass/{name}.png": png(own_mask()) for name in OWN + VAL}
    voc[f"{base}/ImageSets/Segmentation/train.txt"] = "\n".join(OWN).encode()
    voc[f"{base}/ImageSets/Segmentation/val.txt"] = "\n".join(VAL).encode()
    sbd = {}
    for index, name in enumerate([*SBD_ONLY, OWN[0], VAL[0]]):
        buffer = io.BytesIO()
        savemat(buffer, {"GTcls": {"Segmentation": sbd_mask(index), "Boundaries": np.zeros(1)}})
        sbd[f"benchmark_RELEASE/dataset/cls/{name}.mat"] = buffer.getvalue()
    sbd["benchmark_RELEASE/dataset/train.txt"] = "\n".join([SBD_ONLY[1], OWN[0]]).encode()
    sbd["benchmark_RELEASE/dataset/val.txt"] = "\n".join([SBD_ONLY[0], VAL[0]]).encode()
    return {"VOCtrainval_11-May-2012.tar": tar(voc, "w"), "benchmark.tgz": tar(sbd, "w:gz")}


def coco_archives() -> dict[str, bytes]:
    archives = {}
    for archive, names in {
        "train2017.zip": ["train2017/000000000001.jpg"],
        "val2017.zip": ["val2017/000000000002.jpg"],
        "stuffthingmaps_trainval2017.zip": ["train2017/000000000001.png", "val2017/000000000002.png"],
    }.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name in names:
                file.writestr(name, name * 500)
        archives[archive] = buffer.getvalue()
    return archives


def environment(server: Server, path: str | None = None) -> dict[str, str]:
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in server.files.items()}
    return {
        "PATH": path or os.environ["PATH"],
        "PYTHON": sys.executable,
        "VOC_URL": server.url,
        "SBD_URL": server.url,
        "COCO_URL": server.url,
        "STUFF_URL": server.url,
        "VOC_MD5": md5.get("VOCtrainval_11-May-2012.tar", ""),
        "SBD_MD5": md5.get("benchmark.tgz", ""),
        "COCO_TRAIN_MD5": md5.get("train2017.zip", ""),
        "COCO_VAL_MD5": md5.get("val2017.zip", ""),
        "no_proxy": "127.0.0.1",
    }


def run(script: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("bash") or "bash", str(ROOT / "data" / script), *arguments]
    return subprocess.run(command, env=env or {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120)


def limited_path(folder: Path, *, without: set[str]) -> str:
    """A PATH with the usual tools, but without some of them."""
    folder.mkdir()
    usual = ["bash", "basename", "dirname", "mkdir", "rm", "mv", "cut", "cat", "tar", "gzip", "md5sum", "sha256sum"]
    for name in [*usual, "curl", "wget"]:
        found = shutil.which(name)
        if found and name not in without:
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("script", ["download_voc.sh", "download_coco.sh"])
def test_dry_run_names_everything_and_touches_nothing(script: str, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", without={"curl", "wget"})
    done = run(script, "--dry-run", "--out", str(tmp_path / "out"), env={"PATH": path})
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out").exists()
    if "voc" in script:
        assert "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar" in done.stdout
        assert "md5 6cd6e144f989b92b3379bac3b3de84fd" in done.stdout
        assert "md5 82b4d87ceb2ed10f6038a1cba92111cb" in done.stdout
        assert f"target {tmp_path}/out/downloads/benchmark.tgz" in done.stdout
    else:
        assert "http://images.cocodataset.org/zips/train2017.zip" in done.stdout
        assert "md5 442b8da7639aecaf257c1dceb8ba8c80" in done.stdout
        assert "stuffthingmaps_trainval2017.zip" in done.stdout


@pytest.mark.parametrize("script", ["download_voc.sh", "download_coco.sh"])
def test_help_and_unknown_options(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout and "_URL" in done.stdout
    done = run(script, "--nonsense")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert run(script, "--out").returncode == 2


@pytest.mark.parametrize("script", ["download_voc.sh", "download_coco.sh"])
def test_neither_curl_nor_wget(script: str, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", without={"curl", "wget"})
    done = run(script, "--out", str(tmp_path / "out"), env={"PATH": path, "PYTHON": sys.executable})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{script}: needs curl or wget to download; install one of them"]


@pytest.mark.parametrize("tool", TOOLS)
def test_voc_resumed_after_a_broken_transfer(server: Server, tmp_path: Path, tool: str) -> None:
    server.files = voc_archives()
    path = limited_path(tmp_path / "bin", without={"curl", "wget"} - {tool})
    out = tmp_path / "voc"
    # Half of the archive came before the line broke.
    archive = server.files["VOCtrainval_11-May-2012.tar"]
    (out / "downloads").mkdir(parents=True)
    (out / "downloads" / "VOCtrainval_11-May-2012.tar.part").write_bytes(archive[: len(archive) // 2])

    done = run("download_voc.sh", "--out", str(out), env=environment(server, path))
    assert done.returncode == 0, done.stderr
    assert server.asked[0] == ("VOCtrainval_11-May-2012.tar", f"bytes={len(archive) // 2}-")
    lines = (out / "splits/train_aug.txt").read_text().splitlines()
    assert lines == [f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in sorted(OWN + SBD_ONLY)]
    assert (out / "splits/val.txt").read_text().split()[0] == f"/JPEGImages/{VAL[0]}.jpg"
    for line in lines + (out / "splits/val.txt").read_text().splitlines():
        for name in line.split():
            assert (out / name.lstrip("/")).is_file()
    for name in OWN + VAL:
        assert np.array_equal(np.asarray(Image.open(out / f"SegmentationClassAug/{name}.png")), own_mask())
    for index, name in enumerate(SBD_ONLY):
        image = Image.open(out / f"SegmentationClassAug/{name}.png")
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), sbd_mask(index))
        palette = image.getpalette()
        assert palette is not None and palette[3:6] == [128, 0, 0] and palette[15 * 3 : 15 * 3 + 3] == [192, 128, 128]

    asked = len(server.asked)
    again = run("download_voc.sh", "--out", str(out), env=environment(server, path))
    assert again.returncode == 0
    assert len(server.asked) == asked


@pytest.mark.skipif("curl" not in TOOLS, reason="curl is not installed")
def test_a_transfer_that_breaks_off_keeps_its_part(server: Server, tmp_path: Path) -> None:
    server.files = voc_archives()
    server.cut = {"VOCtrainval_11-May-2012.tar"}
    out = tmp_path / "voc"
    done = run("download_voc.sh", "--out", str(out), env=environment(server))
    assert done.returncode == 1
    assert "run again" in done.stderr and len(done.stderr.splitlines()) == 1
    part = out / "downloads/VOCtrainval_11-May-2012.tar.part"
    assert 0 < part.stat().st_size < len(server.files["VOCtrainval_11-May-2012.tar"])
    assert not (out / "JPEGImages").exists()
    assert run("download_voc.sh", "--out", str(out), env=environment(server)).returncode == 0
    assert server.asked[1][1] is not None
    assert (out / "splits/train_aug.txt").is_file()


@pytest.mark.skipif("curl" not in TOOLS, reason="curl is not installed")
@pytest.mark.parametrize("ranges", [True, False])
def test_whole_part_and_server_without_ranges(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.files = voc_archives()
    server.ranges = ranges
    out = tmp_path / "voc"
    archive = server.files["VOCtrainval_11-May-2012.tar"]
    (out / "downloads").mkdir(parents=True)
    kept = len(archive) if ranges else len(archive) // 2
    (out / "downloads" / "VOCtrainval_11-May-2012.tar.part").write_bytes(archive[:kept])
    done = run("download_voc.sh", "--out", str(out), "--clean", env=environment(server))
    assert done.returncode == 0, done.stderr
    assert (out / "splits/val.txt").is_file()
    assert not (out / "downloads").exists()


@pytest.mark.parametrize("tool", TOOLS)
def test_wrong_hash_leaves_nothing(server: Server, tmp_path: Path, tool: str) -> None:
    server.files = voc_archives()
    env = environment(server, limited_path(tmp_path / "bin", without={"curl", "wget"} - {tool}))
    env["VOC_MD5"] = "0" * 32
    out = tmp_path / "voc"
    done = run("download_voc.sh", "--out", str(out), env=env)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "md5 is" in done.stderr and "0" * 32 in done.stderr
    assert list((out / "downloads").iterdir()) == []


@pytest.mark.parametrize("tool", TOOLS)
def test_missing_file_is_one_line(server: Server, tmp_path: Path, tool: str) -> None:
    env = environment(server, limited_path(tmp_path / "bin", without={"curl", "wget"} - {tool}))
    done = run("download_coco.sh", "--out", str(tmp_path / "coco"), env=env)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{server.url}/val2017.zip" in done.stderr


def test_coco_tree_and_noted_hash(server: Server, tmp_path: Path) -> None:
    server.files = coco_archives()
    out = tmp_path / "coco"
    done = run("download_coco.sh", "--out", str(out), env=environment(server))
    assert done.returncode == 0, done.stderr
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "downloads" not in p.parts)
    assert found == [
        "annotations/train2017/000000000001.png",
        "annotations/val2017/000000000002.png",
        "images/train2017/000000000001.jpg",
        "images/val2017/000000000002.jpg",
    ]
    name = "stuffthingmaps_trainval2017.zip"
    noted = out / "downloads" / f"{name}.sha256"
    assert noted.read_text().strip() == hashlib.sha256(server.files[name]).hexdigest()

    asked = len(server.asked)
    assert run("download_coco.sh", "--out", str(out), env=environment(server)).returncode == 0
    assert len(server.asked) == asked

    # The same archive, changed on the server: refused, because its hash was noted.
    shutil.rmtree(out / "annotations")
    (out / "downloads" / name).unlink()
    server.files[name] = coco_archives()["train2017.zip"]
    done = run("download_coco.sh", "--out", str(out), env=environment(server))
    assert done.returncode == 1
    assert "sha256" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (out / "downloads" / f"{name}.part").exists()
    assert not (out / "annotations").exists()


def test_a_page_instead_of_an_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.files = coco_archives()
    server.files["stuffthingmaps_trainval2017.zip"] = b"<html>moved</html>"
    out = tmp_path / "coco"
    done = run("download_coco.sh", "--out", str(out), env=environment(server))
    assert done.returncode == 1
    assert "not a whole zip archive" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list((out / "downloads").glob("stuff*"))


def make_voc_aug(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "data/make_voc_aug.py")]
    command += ["--voc", str(folder), "--sbd", str(folder / "SBD"), "--out", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def unpacked(folder: Path) -> None:
    archives = voc_archives()
    for name, source, target in (
        ("VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012", folder),
        ("benchmark.tgz", "benchmark_RELEASE/dataset", folder / "SBD"),
    ):
        with tarfile.open(fileobj=io.BytesIO(archives[name])) as archive:
            for member in archive.getmembers():
                path = target / Path(member.name).relative_to(source)
                path.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())


def test_voc_aug_goes_on_after_an_interruption_and_names_faults(tmp_path: Path) -> None:
    unpacked(tmp_path)
    broken = tmp_path / "SBD/cls" / f"{SBD_ONLY[1]}.mat"
    content = broken.read_bytes()
    broken.write_bytes(b"no mask")
    done = make_voc_aug(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"make_voc_aug.py: {broken}: not a mask of SBD")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "splits").exists()

    broken.write_bytes(content)
    finished = tmp_path / "SegmentationClassAug" / f"{OWN[0]}.png"
    finished.write_bytes(b"kept")
    done = make_voc_aug(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train_aug: 4 images (published: 10582)" in done.stdout
    assert finished.read_bytes() == b"kept"
    assert not list((tmp_path / "SegmentationClassAug").glob("*.part"))


def test_voc_aug_without_data_is_one_line(tmp_path: Path) -> None:
    done = make_voc_aug(tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "val.txt" in done.stderr
