"""run.sh adopt: its commands, its images, its scores, its table."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import argparser
from dataset import make_source
from experiments.__main__ import get_argparser, make_runner
from experiments.adoption.images import write_images
from experiments.adoption.score import score
from experiments.adoption.table import Scored, comma_separated, markdown, read_scores, shares
from experiments.stage import Stage, check
from tests.experiments.parsers import PARSERS
from utils.errors import UserError


def described(data: Path, *more: str) -> list[Stage]:
    words = ["adopt", "--data", str(data), "--work", str(data.parent / "work"), *more]
    return list(make_runner(get_argparser().parse_args(words), []).stages)


def test_stages_follow_one_another(data: Path) -> None:
    stages = described(data, "--seeds", "0", "3")
    check(stages)
    by = {stage.name: stage for stage in stages}
    assert len(stages) == 1 + 2 * 3 * 4 + 1, "a base, a class added and two scores for each of three arms and two seeds"
    added = by["add-smp-3"]
    assert set(added.after) == {"images", "base-smp-3"} and set(by["score-smp-3-after"].after) == {"add-smp-3"}
    model = added.command[added.command.index("--model") + 1]
    assert model == f"smp:{by['base-smp-3'].makes[0]}", "what the script writes is what is adopted"
    for arm in ("own", "smp", "torchvision"):
        given = by[f"add-{arm}-0"].command
        rest = given[given.index("--images") :]
        same = by["add-own-0"].command[by["add-own-0"].command.index("--images") :]
        assert [word for word in rest if not word.endswith(f"{arm}-0")] == [
            word for word in same if not word.endswith("own-0")
        ], "arms differ in the model alone"
    assert {stage.name for stage in described(data, "--arms", "own", "--seeds", "1")} == {
        "images", "base-own-1", "add-own-1", "score-own-1-before", "score-own-1-after", "table",
    }  # fmt: skip


def test_every_command_is_accepted(data: Path) -> None:
    for stage in described(data, "--seeds", "0"):
        script, *rest = stage.command[1:] if stage.command[0] == "-m" else stage.command
        if script == "run.py":
            options = argparser.parse([*rest, *stage.speed])
            assert stage.makes == (options.checkpoint_path(0),)
        elif not script.startswith("examples/"):
            PARSERS[script]().parse_args(rest)


def test_an_unknown_arm_and_options_of_none(data: Path) -> None:
    with pytest.raises(UserError, match="--arms best: unknown; choose from own, smp, torchvision"):
        described(data, "--arms", "best")
    with pytest.raises(UserError, match="--options"):
        described(data, "--options=--precision bf16")


def test_images(tmp_path: Path) -> None:
    web, captioned = tmp_path / "web", tmp_path / "captioned"
    for folder in (web / "cow", web / "cat", captioned / "images"):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "1.png")
    assert write_images(web, captioned, tmp_path / "out", ["cow"], ["cat"]) == (1, 2)
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert made == ["new/cow/1.png", "old/cat-1.png", "old/photograph-1.png"]


def scored(arm: str, when: str, seed: int, old: float, new: float) -> Scored:
    return Scored(arm, when, seed, {"old_iou": old, "new_iou": new, "all_iou": (old + new) / 2}, {"cow": new})


def test_table() -> None:
    rows = [
        scored("own", "before", 0, 0.5, 0.0), scored("own", "after", 0, 0.5, 0.4),
        scored("smp", "before", 0, 0.6, 0.0), scored("smp", "after", 0, 0.54, 0.36),
        scored("smp", "before", 1, 0.6, 0.0), scored("smp", "after", 1, 0.60, 0.20),
    ]  # fmt: skip
    found = {(arm, what): values for arm, what, values, _ in shares(rows)}
    assert found["smp", "new mIoU, share of best's"] == pytest.approx([0.9]), "seed 1 has no other to compare with"
    assert found["smp", "old mIoU kept"] == pytest.approx([0.9, 1.0])
    text = markdown(rows)
    assert "| smp, after | 57.0 ± 4.2 | 28.0 ± 11.3 | 42.5 ± 3.5 | 0 1 |" in text
    assert "| own: old mIoU kept | 1.000 | at least 0.95 | yes | 1 |" in text
    assert "| smp: old mIoU kept | 0.950 ± 0.071 | at least 0.95 | " in text
    assert "| smp, after | 28.0 ± 11.3 |" in text, "IoU by class"
    lines = comma_separated(rows).splitlines()
    assert lines[0] == "model,when,seed,old_iou,new_iou,all_iou,iou cow" and len(lines) == 7
    assert "nan" not in comma_separated([scored("own", "before", 0, 0.5, math.nan)])


def test_damaged_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("{}")
    with pytest.raises(UserError, match=r"scores\.json: cannot be read as scores"):
        read_scores([path])


class Asked:
    """A segmenter that sees what the masks say, in channels of its own."""

    def __init__(self, names: list[str], masks: torch.Tensor, channels: dict[int, int]) -> None:
        self.description = SimpleNamespace(class_names=names)
        self.masks, self.channels, self.seen = masks, channels, 0

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, 64, 64)
        masks = self.masks[self.seen : self.seen + len(images)]
        self.seen += len(images)
        lookup = torch.tensor([self.channels.get(number, 0) for number in range(256)])
        return torch.nn.functional.one_hot(lookup[masks], len(self.description.class_names)).permute(0, 3, 1, 2).float()


def test_scores_go_by_names(small_shapes: Path) -> None:
    source = make_source("shapes", small_shapes, "val")
    masks = torch.stack([torch.from_numpy(source.mask(index)).long() for index in range(len(source))])
    ids = {name: number for number, name in source.class_names.items()}
    present = [name for name in list(ids)[1:] if bool((masks == ids[name]).any())]
    old, new, left = present[:2], present[2:3], ids[present[3]]
    assert bool((masks == left).any()), "a class that is neither is left out, whatever the segmenter makes of it"
    knows = Asked(["bg", new[0], old[1], old[0]], masks, {ids[new[0]]: 1, ids[old[1]]: 2, ids[old[0]]: 3, left: 1})
    found = score(knows, source, old, new, 64)
    assert found.by_name() == pytest.approx(dict.fromkeys(["background", *old, *new], 1.0))
    before = Asked(["background", *old], masks, {ids[old[0]]: 1, ids[old[1]]: 2, ids[new[0]]: 1})
    found = score(before, source, old, new, 64)
    assert found.new_iou == 0 and found.class_iou[1] < 1 and found.class_iou[2] == pytest.approx(1)
    with pytest.raises(UserError, match="the class bird is none of"):
        score(Asked(["background", "bird"], masks, {}), source, old, new, 64)
