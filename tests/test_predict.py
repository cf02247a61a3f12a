"""predict.py from end to end: the pixels of run.py --test, whatever was asked for beside them, resumed and never mixed."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import argparser
import predict
import run
from dataset import shapes
from prediction import looking, writing
from prediction.looking import Looker
from prediction.scratch import ImageOnDisk
from results.confusion import read_confusion
from segmentation_module import load_segmenter
from tests.odd_checkpoint import IDS
from tests.prediction.test_inputs import sequence
from tests.prediction.test_polygons import filled
from tests.prediction.test_rle import counts_of, decoded
from utils import checkpoint
from utils.errors import UserError
from utils.images import load_image, load_mask
from utils.script import run as run_script
from utils.visualise import palette


@pytest.fixture
def photos(tmp_path: Path, small_shapes: Path) -> Path:
    """Six photographs of two sizes."""
    source = shapes.make(small_shapes, "val")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        image = load_image(source.image_path(number))
        (image if number % 2 else image.resize((80, 56))).save(folder / f"{number}.png")
    return folder


def execute(ckpt: Path, *words: object) -> int:
    line = [str(word) for word in words]
    given = predict.get_argparser().parse_args(["--model", str(ckpt), "--device", "cpu", "--num_workers", "0", *line])
    return predict.main(given)


def files(out: Path, kind: str = "masks") -> dict[str, bytes]:
    return {
        str(path.relative_to(out / kind)): path.read_bytes()
        for path in sorted((out / kind).rglob("*.*"))
        if path.is_file()
    }


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_pixels_are_those_of_the_test(odd_ckpt: Path, small_shapes: Path, tmp_path: Path) -> None:
    """``run.py --test --crop_val`` looks at whole images; from the masks comes its confusion matrix, but for a tie."""
    line = (
        f"--dataset shapes --task {odd_ckpt.parent / 'odd.json'} --step 1 --bce --backbone timm:resnet10t --crop_size 64 --device cpu "
        f"--test --crop_val --ckpt {odd_ckpt} --name odd --norm_act iabn --num_workers 0 --dataset_dir {small_shapes} "
        f"--logdir {tmp_path}/logs --checkpoints {tmp_path}/ckpt"
    )
    assert run.main(argparser.parse(line.split())) == 0
    matrix, _ = read_confusion(next((tmp_path / "logs").rglob("confusion_1.csv")))
    source = shapes.make(small_shapes, "val")
    paths = [source.image_path(i) for i in range(len(source))]
    assert execute(odd_ckpt, *paths, "--out", tmp_path / "out", "--batch_size", 1) == 0
    own = np.zeros_like(matrix)
    channels = np.full(256, 255)
    channels[list(IDS)] = range(len(IDS))
    for number, path in enumerate(paths):
        true = channels[source.mask(number)]
        seen = channels[load_mask(tmp_path / f"out/masks/{path.stem}.png")]
        assert seen.max() < len(IDS)
        np.add.at(own, (true[true < 255], seen[true < 255]), 1)
    assert own.sum() == matrix.sum() and (own.sum(axis=0) > 0).sum() >= 5
    assert np.abs(own - matrix).sum() <= 2e-4 * matrix.sum()


def test_from_python(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """A file, a picture and an array give the mask that predict.py writes, its names, and how sure each pixel is."""
    assert execute(odd_ckpt, photos, "--out", tmp_path / "out", "--flip", "--scales", 0.75, 1, "--threshold", 0.6) == 0
    path = photos / "1.png"
    segmenter = load_segmenter(odd_ckpt, device="cpu")
    found = segmenter.predict(path, scales=(0.75, 1), flip=True, threshold=0.6)
    assert (found.mask == load_mask(tmp_path / "out/masks/1.png")).mean() > 0.999
    assert found.mask.shape == found.confidence.shape == (64, 64) and found.confidence.dtype == np.float32
    assert list(found.names) == list(IDS) and found.names[0] == "background"
    assert np.array_equal(found.mask == 255, found.confidence < 0.6) and 0 < (found.mask == 255).mean() < 1
    for same in (load_image(path), np.array(load_image(path)), str(path)):
        again = segmenter.predict(same, scales=(0.75, 1), flip=True, threshold=0.6)
        assert np.array_equal(again.mask, found.mask)
    row = next(row for row in rows(tmp_path / "out") if row["name"] == "1")
    assert abs(float(row["confidence"]) - found.confidence.mean()) < 1e-3
    assert abs(float(row["unsure"]) - (found.mask == 255).mean()) < 1e-3


def test_all_that_can_be_asked_for(
    odd_ckpt: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    extras = ("--overlay", "--probabilities", "--rle", "--polygons", "--page")
    assert execute(odd_ckpt, photos, "--out", out, *extras) == 0
    assert "6 images and frames looked at, 0 were done before, 0 files unreadable" in capsys.readouterr().out
    marker = json.loads((out / "predictions.json").read_text())
    names = dict(marker["classes"])
    coco = json.loads((out / "coco.json").read_text())
    assert {one["id"]: one["name"] for one in coco["categories"]} == {255: "unsure"} | {
        i: n for i, n in names.items() if i
    }
    assert len({one["id"] for one in coco["annotations"]}) == len(coco["annotations"])
    page = (out / "page.html").read_text()
    for number, row in enumerate(rows(out)):
        name = row["name"]
        assert name == str(number) and row["file"] == str(photos / f"{name}.png")
        picture, image = Image.open(out / f"masks/{name}.png"), load_image(row["file"])
        assert picture.mode == "P" and picture.size == image.size == (int(row["width"]), int(row["height"]))
        colours = np.array(picture.getpalette()).reshape(-1, 3)
        assert np.array_equal(colours, palette()[: len(colours)])
        mask = np.array(picture)
        for i, class_name in names.items():
            assert abs(float(row[f"share of {class_name}"]) - (mask == i).mean()) < 1e-6
        shares = np.load(out / f"probabilities/{name}.npz")
        assert shares["probabilities"].shape == (*mask.shape, len(IDS))
        best = np.array(IDS)[shares["probabilities"].argmax(-1)]
        assert (best == mask).mean() > 0.99
        # The masks come back from the run lengths and from the polygons.
        from_rle, from_polygons = np.zeros_like(mask), np.zeros_like(mask)
        image_id = next(one["id"] for one in coco["images"] if one["file_name"] == row["file"])
        for one in (one for one in coco["annotations"] if one["image_id"] == image_id):
            from_rle[decoded(counts_of(one["segmentation"]["counts"]), mask.shape)] = one["category_id"]
        for feature in json.loads((out / f"polygons/{name}.geojson").read_text())["features"]:
            from_polygons[filled(mask.shape, feature["geometry"]["coordinates"])] = feature["properties"]["id"]
            assert feature["properties"]["class"] == names[feature["properties"]["id"]]
        assert np.array_equal(from_rle, mask) and np.array_equal(from_polygons, mask)
        overlay = load_image(out / f"overlays/{name}.jpg")
        assert overlay.width >= image.width and overlay.height > image.height, "the legend stands below"
        changed = np.abs(np.asarray(overlay, int)[: image.height, : image.width] - np.asarray(image, int)).sum(-1)
        assert changed[mask != 0].mean() > 40 and not (mask == 0).all()
        # JPEG blurs the colours' edges, and leaves background as it was elsewhere.
        assert np.median(changed[mask == 0]) < 40 if (mask == 0).mean() > 0.2 else True
        assert f'src="thumbs/{name}.jpg"' in page and (out / f"thumbs/{name}.jpg").is_file()


def test_odd_images(odd_ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Handled as in training; what cannot be read is listed, and the rest goes on."""
    folder, out = tmp_path / "odd", tmp_path / "out"
    folder.mkdir()
    grey = Image.linear_gradient("L").resize((40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.convert("RGB").save(folder / "turned.jpg", exif=exif)
    grey.save(folder / "grey.png")
    grey.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "sixteen.png")
    grey.convert("RGBA").save(folder / "alpha.png")
    grey.resize((1, 1)).save(folder / "dot.png")
    (folder / "broken.png").write_bytes((folder / "grey.png").read_bytes()[:90])
    (folder / "page.jpg").write_text("<html>")
    assert execute(odd_ckpt, folder, "--out", out, "--overlay", "--page") == 1
    sizes = {
        name: Image.open(out / f"masks/{name}.png").size
        for name in ("turned", "grey", "cmyk", "sixteen", "alpha", "dot")
    }
    assert sizes == {"turned": (60, 40), "dot": (1, 1)} | dict.fromkeys(("grey", "cmyk", "sixteen", "alpha"), (40, 60))
    assert files(out)["grey.png"] == files(out)["sixteen.png"] == files(out)["alpha.png"]
    segmenter = load_segmenter(odd_ckpt, device="cpu")
    for name in ("turned.jpg", "cmyk.jpg"):
        expected = segmenter.predict(load_image(folder / name)).mask
        assert (load_mask(out / f"masks/{Path(name).stem}.png") == expected).mean() > 0.99
    assert "predict.py: 2 files left out: " in capsys.readouterr().err
    with (out / "unreadable.csv").open(newline="") as file:
        unreadable = {row["file"]: row["fault"] for row in csv.DictReader(file)}
    assert unreadable[str(folder / "page.jpg")] == "is a web page, not an image" and len(unreadable) == 2
    for name in ("broken.png", "page.jpg"):
        (folder / name).unlink()
    assert execute(odd_ckpt, folder, "--out", out) == 0 and not (out / "unreadable.csv").exists()


def test_max_side(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    assert execute(odd_ckpt, photos, "--out", tmp_path / "out", "--max_side", 40, "--rle") == 0
    assert Image.open(tmp_path / "out/masks/0.png").size == (80, 56)
    (small,) = Looker(load_segmenter(odd_ckpt, device="cpu"), looking.LookSettings(tile=0)).look(
        torch.from_numpy(np.array(load_image(photos / "0.png").resize((40, 28), Image.Resampling.BILINEAR))).permute(
            2, 0, 1
        )[None]
    )
    enlarged = Image.fromarray(small.mask).resize((80, 56), Image.Resampling.NEAREST)
    assert (load_mask(tmp_path / "out/masks/0.png") == np.asarray(enlarged)).mean() > 0.99


def test_large_images_go_through_tiles(
    odd_ckpt: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are those of any image."""
    load_image(photos / "0.png").resize((420, 400)).save(photos / "large.png")
    tiled: list[tuple[int, int]] = []
    original = Looker.look_in_tiles

    def noted(self: Looker, image: ImageOnDisk, *others: Path) -> looking.Seen:
        tiled.append(image.size)
        return original(self, image, *others)

    monkeypatch.setattr(Looker, "look_in_tiles", noted)
    out = tmp_path / "out"
    extras = ("--overlay", "--probabilities", "--rle", "--page")
    assert execute(odd_ckpt, photos, "--out", out, "--tile", 256, "--tile_overlap", 64, *extras) == 0
    assert tiled == [(420, 400)] and len(rows(out)) == 7
    assert load_mask(out / "masks/large.png").shape == (400, 420)
    assert np.load(out / "probabilities/large.npz")["probabilities"].shape == (400, 420, 7)


def interrupt_after(images: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C once so many images have been looked at; the list counts the images of each call."""
    calls: list[int] = []
    waiting = [KeyboardInterrupt]
    original = Looker.look

    def look(self: Looker, batch: torch.Tensor) -> list[looking.Seen]:
        if waiting and sum(calls) == images:
            raise waiting.pop()
        calls.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(Looker, "look", look)
    return calls


def test_a_stopped_run_goes_on(odd_ckpt: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, extras = tmp_path / "out", ("--rle", "--overlay", "--batch_size", 1)
    calls = interrupt_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        execute(odd_ckpt, photos, "--out", out, *extras)
    done = len(rows(out))
    assert 1 <= done <= 3
    # What a kill leaves: half a row, and a file under a temporary name.
    with (out / "summary.csv").open("a") as file:
        file.write("5,/half")
    (out / "masks/.5.png.999999999.tmp").touch()
    before = {path: path.stat().st_mtime_ns for path in (out / "masks").glob("*.png")}
    calls.clear()
    assert execute(odd_ckpt, photos, "--out", out, *extras) == 0
    assert sum(calls) == 6 - done, "what was done is not done again"
    assert len(before) <= 3 and sum(path.stat().st_mtime_ns == time for path, time in before.items()) >= done
    whole = tmp_path / "whole"
    assert execute(odd_ckpt, photos, "--out", whole, *extras) == 0
    for kind in ("masks", "rle", "overlays"):
        assert files(whole, kind) == files(out, kind)
    assert [list(row.values()) for row in rows(whole)] == [list(row.values()) for row in rows(out)]
    assert (whole / "coco.json").read_text() == (out / "coco.json").read_text()
    # A row that somebody spoiled is no row.
    text = (out / "summary.csv").read_text()
    (out / "summary.csv").write_text(text.replace(f",{rows(out)[2]['confidence']},", ",much,", 1))
    calls.clear()
    assert execute(odd_ckpt, photos, "--out", out, *extras) == 0 and calls == [1]
    assert (out / "summary.csv").read_text() == text
    # One more run finds nothing to do; another picture under an old name is looked at.
    calls.clear()
    assert execute(odd_ckpt, photos, "--out", out, *extras) == 0 and not calls
    load_image(photos / "0.png").rotate(90).save(photos / "0.png")
    assert execute(odd_ckpt, photos, "--out", out, *extras) == 0 and calls == [1]
    # What is asked for later is made later.
    calls.clear()
    assert (
        execute(odd_ckpt, photos, "--out", out, "--polygons") == 0
        and sum(calls) == 6
        and len(files(out, "polygons")) == 6
    )


def test_nothing_is_mixed(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert execute(odd_ckpt, photos / "0.png", "--out", out) == 0
    first = files(out)
    with pytest.raises(
        UserError, match=r"holds results of .* with flip False \(now True\); name another folder, or --again"
    ):
        execute(odd_ckpt, photos, "--out", out, "--flip")
    state = checkpoint.load(odd_ckpt)
    state["model_state"]["cls.1.bias"] = state["model_state"]["cls.1.bias"] + 3
    other = tmp_path / "other.pth"
    checkpoint.save(other, state)
    with pytest.raises(UserError, match=r"holds results of .*, not of .*other\.pth"):
        execute(other, photos, "--out", out)
    assert files(out) == first
    (out / "notes.txt").write_text("mine")
    (out / "masks/mine.png").write_text("mine")
    assert execute(other, photos / "1.png", "--out", out, "--again") == 0
    assert files(out).keys() == {"1.png", "mine.png"} and (out / "notes.txt").read_text() == "mine"
    copy = tmp_path / "copy.pth"
    copy.write_bytes(other.read_bytes())
    assert execute(copy, photos, "--out", out) == 0, "the same weights are the same model"
    (out / "predictions.json").unlink()
    with pytest.raises(UserError, match=r"holds files that no predictions\.json signs"):
        execute(odd_ckpt, photos, "--out", out)


def test_results_of_others_stay(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    """Two folders with equal names, one after the other, into one folder of results."""
    second = tmp_path / "second"
    second.mkdir()
    load_image(photos / "0.png").rotate(90).save(second / "0.png")
    out = tmp_path / "out"
    assert execute(odd_ckpt, photos / "0.png", "--out", out) == 0
    first = files(out)["0.png"]
    assert execute(odd_ckpt, second, "--out", out) == 0
    assert files(out)["0.png"] == first and files(out).keys() == {"0.png", "0-2.png"}
    assert [row["file"] for row in rows(out)] == [str(photos / "0.png"), str(second / "0.png")]


def test_frames(odd_ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = sequence(tmp_path / "in/clip.gif", frames=5, duration=80), tmp_path / "out"
    calls = interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        execute(odd_ckpt, path, "--out", out, "--overlay", "--page", "--batch_size", 1)
    calls.clear()
    assert execute(odd_ckpt, path, "--out", out, "--overlay", "--page", "--batch_size", 1) == 0
    assert sum(calls) in (3, 4, 5)
    assert list(files(out)) == [f"clip.gif/{number:06}.png" for number in range(5)]
    assert [row["frame"] for row in rows(out)] == list("01234") and {row["file"] for row in rows(out)} == {str(path)}
    assert list(files(out, "overlays")) == ["clip.gif"] and list(files(out, "thumbs")) == ["clip.gif/000000.jpg"]
    with Image.open(out / "overlays/clip.gif") as overlay:
        assert len(list(ImageSequence.Iterator(overlay))) >= 1 and overlay.info["duration"] % 80 == 0
    calls.clear()
    assert execute(odd_ckpt, path, "--out", out, "--overlay", "--page") == 0 and not calls


def ended(capsys: pytest.CaptureFixture[str], ckpt: Path, *words: object) -> tuple[int, str]:
    """Exit code and stderr of the script as a user sees it."""
    code = run_script(lambda: execute(ckpt, *words), "predict.py", stopped="the same command goes on where it was")
    return code, capsys.readouterr().err


def test_a_full_disk(
    odd_ckpt: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line; what was written stays, nothing half written does, and the same command goes on."""
    original, written = writing.write_mask, []

    def full(path: Path, mask: np.ndarray) -> None:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(path, mask)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_mask", full)
        code, told = ended(capsys, odd_ckpt, photos, "--out", out)
    assert code == 2 and told.splitlines()[-1].endswith("cannot be read or written (No space left on device)")
    assert len(rows(out)) == 2 and not list(out.rglob("*.tmp"))
    assert ended(capsys, odd_ckpt, photos, "--out", out)[0] == 0 and len(files(out)) == len(rows(out)) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["{empty}"], "empty: holds no image or video"),
        (["{photos}", "--threshold", "1"], "--threshold 1.0: a number from 0 to below 1 is needed"),
        (["{photos}", "--scales", "0"], "--scales: numbers above 0 are needed"),
        (["{photos}", "--tile", "64"], "--tile 64: tiles that share 16 pixels are at least 112 wide"),
        (["{photos}", "--batch_size", "0"], "--batch_size needs at least 1"),
        (["{photos}", "--out", "{photos}/out"], "lies in"),
        (["{photos}", "--out", "{file}"], "is a file; name a folder"),
        (["{photos}", "--model", "{file}"], "file.pth"),
        (["{photos}", "--device", "cuda:99"], "--device"),
    ],
)
def test_bad_input_is_one_line(
    odd_ckpt: Path, photos: Path, tmp_path: Path, words: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.pth").write_text("text")
    places = {"empty": tmp_path / "empty", "photos": photos, "file": tmp_path / "file.pth"}
    line = [
        "--model",
        str(odd_ckpt),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
        *(w.format(**places) for w in words),
    ]
    code = run_script(lambda: predict.main(predict.get_argparser().parse_args(line)), "predict.py")
    error = capsys.readouterr().err
    assert code == 2 and len(error.splitlines()) == 1 and error.startswith("predict.py: ") and told in error
    assert len(list(photos.iterdir())) == 6


def test_a_folder_in_use(odd_ckpt: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from utils.whole import claimed

    (tmp_path / "out").mkdir()
    with claimed(tmp_path / "out", "predicting"):
        code, told = ended(capsys, odd_ckpt, photos, "--out", tmp_path / "out")
    assert code == 2 and "another run is at work on it (predicting)" in told and not list((tmp_path / "out").iterdir())


def test_workers_decode(odd_ckpt: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "0.png").read_bytes()[:90])
    for number in (0, 1):
        assert execute(odd_ckpt, photos, "--out", tmp_path / f"{number}", "--num_workers", number) == 1
    assert files(tmp_path / "0") == files(tmp_path / "1") and len(files(tmp_path / "0")) == 6
