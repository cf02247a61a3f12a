"""The folder that images are collected into: mended after a kill, never left through a link, never shared."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.web.server import photo
from utils import manifest
from utils.errors import UserError
from web.candidate import Candidate, Query
from web.duplicates import fingerprint
from web.store import Store, Taken

FOLDERS = {"cow": "cow", "Potted Plant": "potted_plant"}


def candidate(number: int) -> Candidate:
    return Candidate(f"http://a/{number}", "list", caption=f"caption {number}")


def taken(store: Store, name: str, number: int) -> Taken:
    part = store.part(name)
    content = photo(number)
    part.write_bytes(content)
    with Image.open(part) as image:
        return Taken(part, ".jpg", len(content), *image.size, fingerprint(content, image.convert("RGB")))


def keep(store: Store, name: str, number: int) -> str:
    return store.keep(Query(name), candidate(number), taken(store, name, number))


def fresh(store: Store, name: str, *numbers: int) -> list[str]:
    return [found.url for found in store.fresh(iter([candidate(n) for n in numbers]), name)]


def rows(out: Path) -> list[tuple[str, str]]:
    return [(row["path"], row["url"]) for row in manifest.open_manifest(out)]


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.suffix != ".csv")


def rejected(out: Path) -> list[str]:
    return (out / "rejected.csv").read_text().splitlines()[1:]


def test_rows_and_files(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert keep(store, "Potted Plant", 1) == "potted_plant/00001.jpg"
        assert keep(store, "cow", 2) == "cow/00001.jpg"
        store.refuse("cow", candidate(3), "too small: 3 x 4")
        assert (store.kept["cow"], store.refused["cow"]["too small"]) == (1, 1)
        assert store.total == len(photo(1)) + len(photo(2))
    row = next(iter(manifest.open_manifest(tmp_path)))
    assert row["class"] == "Potted Plant" and row["query"] == "Potted Plant" and row["caption"] == "caption 1"
    assert (row["width"], row["height"], row["size"]) == ("96", "80", str(len(photo(1))))
    assert files(tmp_path) == ["cow/00001.jpg", "potted_plant/00001.jpg"]


def test_what_was_tried_is_not_fresh(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert fresh(store, "cow", 1, 2, 1, 3) == ["http://a/1", "http://a/2", "http://a/3"]
        keep(store, "cow", 1)
        store.refuse("cow", candidate(2), "HTTP 404")
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert store.refused["cow"] == {"HTTP 404": 1} and store.paths == ["cow/00001.jpg"]
        assert fresh(store, "cow", 1, 2, 3) == ["http://a/3"]
        assert fresh(store, "Potted Plant", 1, 2, 1, 4) == ["http://a/4"]
        assert store.refused["Potted Plant"] == {"same address in another class": 2}
    # Without its line an address is asked for again.
    (tmp_path / "rejected.csv").unlink()
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert fresh(store, "cow", 1, 2) == ["http://a/2"]


def test_killed_before_the_row(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)):
        pass
    for name in (".7.part", ".00001.jpg.ready"):
        (tmp_path / "cow" / name).write_bytes(photo(1))
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert files(tmp_path) == []
        assert fresh(store, "cow", 1) == ["http://a/1"]


def test_killed_between_row_and_name(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        keep(store, "cow", 1)
    (tmp_path / "cow/00001.jpg").rename(tmp_path / "cow/.00001.jpg.ready")
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert rows(tmp_path) == [("cow/00001.jpg", "http://a/1")] and files(tmp_path) == ["cow/00001.jpg"]
        assert fresh(store, "cow", 1) == []


def test_killed_in_the_middle_of_a_row(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        keep(store, "cow", 1)
        keep(store, "cow", 2)
    path = tmp_path / "manifest.csv"
    path.write_text(path.read_text()[:-10])
    (tmp_path / "cow/00002.jpg").rename(tmp_path / "cow/.00002.jpg.ready")
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert rows(tmp_path) == [("cow/00001.jpg", "http://a/1")] and files(tmp_path) == ["cow/00001.jpg"]
        assert keep(store, "cow", 2) == "cow/00002.jpg"


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_step_of_keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Before and after each of its three steps: the image is there with its row, or neither is and it is asked for again."""
    moments = iter(range(6))

    def die() -> None:
        if next(moments) == step:
            raise KeyboardInterrupt

    def killing(real: Callable[..., Any]) -> Callable[..., None]:
        def call(*given: Any) -> None:
            die()
            real(*given)
            die()

        return call

    store = Store(tmp_path, FOLDERS)
    image = taken(store, "cow", 1)
    with monkeypatch.context() as patch:
        patch.setattr("web.store.os.replace", killing(os.replace))
        patch.setattr(store._manifest, "write", killing(store._manifest.write))
        with pytest.raises(KeyboardInterrupt):
            store.keep(Query("cow"), candidate(1), image)
    store._sweep = lambda folders: None
    store.close()
    with closing(Store(tmp_path, FOLDERS)) as store:
        kept = ["cow/00001.jpg"] if step >= 3 else []
        assert files(tmp_path) == store.paths == [path for path, _ in rows(tmp_path)] == kept
        assert fresh(store, "cow", 1) == ([] if kept else ["http://a/1"])


def test_an_image_that_was_removed_by_hand_stays_out(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        for number in (1, 2):
            keep(store, "cow", number)
    (tmp_path / "cow/00002.jpg").unlink()
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert rows(tmp_path) == [("cow/00001.jpg", "http://a/1")]
        assert rejected(tmp_path) == ["cow,list,http://a/2,file was removed: cow/00002.jpg"]
        assert store.kept["cow"] == 1 and fresh(store, "cow", 2) == []
    # Its number is not given to another image, in no later run either.
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert keep(store, "cow", 3) == "cow/00003.jpg"


def test_a_folder_without_any_of_its_images_is_not_emptied(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        for number in (1, 2):
            keep(store, "cow", number)
    (tmp_path / "cow").rename(tmp_path / "moved")
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(UserError, match="none of the 2 images"):
        Store(tmp_path, FOLDERS)
    assert (tmp_path / "manifest.csv").read_bytes() == before and rejected(tmp_path) == []


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cow").mkdir()
    for name in ("00007.png", "mine.jpg", ".hidden.part", "00001.jpg.part"):
        (tmp_path / "cow" / name).write_text("mine")
    with closing(Store(tmp_path, FOLDERS)) as store:
        assert keep(store, "cow", 1) == "cow/00008.jpg"
    for name in ("00007.png", "mine.jpg", ".hidden.part", "00001.jpg.part"):
        assert (tmp_path / "cow" / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["cow", "manifest.csv", "rejected.csv", "fingerprints.csv"])
@pytest.mark.parametrize("there", [True, False])
def test_links_that_lead_out_are_refused(tmp_path: Path, name: str, there: bool) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    if there:
        outside.write_text("x") if "." in name else outside.mkdir()
    (out / name).symlink_to(outside)
    with pytest.raises(UserError, match=f"{name}: is a link"):
        Store(out, FOLDERS)
    assert not outside.is_file() or outside.read_text() == "x"
    assert not outside.is_dir() or not list(outside.iterdir())


def test_links_in_the_place_of_images_are_not_written_through(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside.jpg"
    outside.write_text("x")
    (out / "cow").mkdir(parents=True)
    for name in ("00001.jpg", ".1.part", ".00002.jpg.ready"):
        (out / "cow" / name).symlink_to(outside)
    with closing(Store(out, FOLDERS)) as store:
        assert not store.part("cow").is_symlink()
        assert keep(store, "cow", 1) == "cow/00002.jpg"
    assert outside.read_text() == "x" and not (out / "cow/00002.jpg").is_symlink()


def test_a_link_of_an_earlier_class_is_refused(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "out", FOLDERS)) as store:
        keep(store, "cow", 1)
    (tmp_path / "out/cow").rename(tmp_path / "elsewhere")
    (tmp_path / "out/cow").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cow: is a link"):
        Store(tmp_path / "out", {"sheep": "sheep"})


@pytest.mark.parametrize(
    "path", ["../out/cow/00001.jpg", "/etc/00001.jpg", "cow/../00001.jpg", "cow/1.jpg", "cow/00001.sh", "00001.jpg"]
)
def test_manifests_of_others_are_refused(tmp_path: Path, path: str) -> None:
    manifest.write(tmp_path / "manifest.csv", manifest.COLUMNS, [{"path": path, "class": "cow"}])
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(UserError, match="move the manifest away"):
        Store(tmp_path, FOLDERS)
    assert (tmp_path / "manifest.csv").read_bytes() == before


def test_a_manifest_with_scores_is_no_place_to_go_on(tmp_path: Path) -> None:
    manifest.write(tmp_path / "manifest.csv", (*manifest.COLUMNS, "p_ds"), [])
    with pytest.raises(UserError, match="other columns"):
        Store(tmp_path, FOLDERS)


def test_two_classes_of_one_folder_in_two_runs(tmp_path: Path) -> None:
    with closing(Store(tmp_path, FOLDERS)) as store:
        keep(store, "Potted Plant", 1)
    with pytest.raises(UserError, match="folder potted_plant is that of Potted Plant"):
        Store(tmp_path, {"potted-plant": "potted_plant"})


@pytest.mark.parametrize("line", ["cow,list\n", "cow,list,u,r,s\n", '"\n'])
def test_a_damaged_list_of_refused_addresses(tmp_path: Path, line: str) -> None:
    (tmp_path / "rejected.csv").write_text("class,source,url,reason\n" + line)
    with pytest.raises(UserError, match=r"rejected\.csv line 2: .*(repair|not closed)"):
        Store(tmp_path, FOLDERS)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with closing(Store(tmp_path, FOLDERS)), pytest.raises(UserError, match="another run"):
        Store(tmp_path, FOLDERS)
    with closing(Store(tmp_path, FOLDERS)):
        pass


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/deeper"):
        with pytest.raises(UserError, match=r"--out .*file"):
            Store(out, FOLDERS)
    (tmp_path / "cow").touch()
    with pytest.raises(UserError, match="cow: is no folder"):
        Store(tmp_path, FOLDERS)
