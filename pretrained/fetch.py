"""Fetch published ImageNet weights of bodies into this folder and check them by hash.

    python pretrained/fetch.py                       what can be fetched
    python pretrained/fetch.py resnet101 [--dry-run]

A download that was broken off goes on where it was. A file becomes visible under its name only when it is whole and its hash is right.
Where no hash was published, the one of the first download is kept beside the file and checked from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent
CHUNK = 1 << 20
TIMEOUT = 60


@dataclass(frozen=True)
class Weights:
    """A published file: where it is, what it is called here, the beginning of its sha256 and its md5 (empty: not published)."""

    url: str
    file: str
    sha256: str
    note: str
    md5: str = ""


def _drive(key: str) -> str:
    """Address of a large file on Google Drive, past the page that asks for a confirmation."""
    return f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"


SOURCES = {
    # In-Place ABN: addresses and md5 sums of the table of ImageNet models in the README of github.com/mapillary/inplace_abn.
    "resnet101": Weights(
        _drive("1oFVSIUYAxa_uNDq2OLkbhyiFmKwnYzpt"),
        "resnet101_iabn_sync.pth.tar",
        "",
        "In-Place ABN, what the published results start from",
        "1552ae0f3d610108df702135f56bd27b",
    ),
    "resnet50": Weights(
        _drive("1N7kjWrnUbD_aBOUNi9ZLGnI3E_1ATH8U"),
        "resnet50_iabn_sync.pth.tar",
        "",
        "In-Place ABN",
        "2522ca639f7fdfd7c0089ba1f5f6c2e8",
    ),
    "wider_resnet38_a2": Weights(
        _drive("1Y0McSz9InDSxMEcBylAbCv1gvyeaz8Ij"),
        "wider_resnet38_a2_iabn_sync.pth.tar",
        "",
        "In-Place ABN, published as wide_resnet38_ipabn_lr_256.pth.tar",
        "1c085ab70b789cc1d6c1594f7a761007",
    ),
    # torchvision's file names end in the first eight digits of their sha256.
    "resnet50-torchvision": Weights(
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "resnet50-0676ba61.pth",
        "0676ba61",
        "torchvision",
    ),
    "resnet101-torchvision": Weights(
        "https://download.pytorch.org/models/resnet101-63fe2227.pth",
        "resnet101-63fe2227.pth",
        "63fe2227",
        "torchvision",
    ),
}


class FetchError(Exception):
    """A download that failed; one line."""


def sha256(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file, in hexadecimal; sha256 unless another algorithm of ``hashlib`` is named."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, part: Path) -> None:
    """Fetch ``url`` into ``part``, going on where an earlier download was broken off.

    Raises:
        FetchError: the server cannot be reached or answers with an error or a web page.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "web-wilss", **({"Range": f"bytes={have}-"} if have else {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if "text/html" in answer.headers.get("Content-Type", ""):
                raise FetchError(
                    f"{url}: answered with a web page, not a file; fetch it by hand (pretrained/README.md)"
                )
            goes_on = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (have if goes_on else 0) if length else None
            bar = tqdm(
                total=total, initial=have if goes_on else 0, unit="B", unit_scale=True, desc=part.stem, disable=None
            )
            with part.open("ab" if goes_on else "wb") as file, bar:
                while block := answer.read(CHUNK):
                    file.write(block)
                    bar.update(len(block))
            if total is not None and part.stat().st_size != total:
                raise FetchError(
                    f"{url}: broken off at {part.stat().st_size} of {total} bytes; run the line again to go on"
                )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise FetchError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
        raise FetchError(f"{url}: cannot be fetched ({getattr(error, 'reason', error)})") from error


def fetch(weights: Weights, folder: Path = FOLDER) -> Path:
    """The file of ``weights`` in ``folder``, fetched where it is not there yet, its hash checked either way.

    Raises:
        FetchError: the download failed, or the hash is wrong; a wrong download is removed.
    """
    path = folder / weights.file
    note = folder / f"{weights.file}.sha256"
    expected = weights.sha256 or (note.read_text().split()[0] if note.is_file() else "")
    fetched = path if path.is_file() else path.with_name(f"{path.name}.part")
    if fetched != path:
        folder.mkdir(parents=True, exist_ok=True)
        download(weights.url, fetched)
    actual = sha256(fetched)
    fault = "" if actual.startswith(expected) else f"its sha256 is {actual}, not {expected}..."
    if weights.md5 and (md5 := sha256(fetched, "md5")) != weights.md5:
        fault = f"its md5 is {md5}, published is {weights.md5}"
    if fault:
        if fetched != path:
            fetched.unlink()
        raise FetchError(f"{fetched}: {fault}; delete what is there and fetch it again")
    os.replace(fetched, path)
    note.write_text(f"{actual}  {path.name}\n")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 and one line on stderr where a download fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=tuple(SOURCES))
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to fetch into")
    parser.add_argument("--sha256", help="refuse a file with another sha256")
    given = parser.parse_args(arguments)
    chosen = SOURCES if given.name is None else {given.name: SOURCES[given.name]}
    if given.name is None or given.dry_run:
        for name, weights in chosen.items():
            hashes = f"sha256 {weights.sha256 or 'not published'}" + (f", md5 {weights.md5}" if weights.md5 else "")
            print(f"{name}: {weights.url} -> {given.out / weights.file}, {hashes} ({weights.note})")
        return 0
    try:
        weights = chosen[given.name]
        path = fetch(replace(weights, sha256=given.sha256.lower()) if given.sha256 else weights, given.out)
    except FetchError as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 1
    print(f"{path}: sha256 {sha256(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
