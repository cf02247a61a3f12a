"""Bodies that are not trained: one pass where student and teacher share one, the losses those of two passes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import engine.networks
from dataset.batch import Batch
from engine.networks import Student
from methods.base import Iteration
from modules.localizer import make_localizer
from modules.norm import make_norm
from segmentation_module import make_model
from tests.trainers import make_trainer
from train import Trainer
from utils import distributed
from utils.normalisation import Normalisation


class Exact(distributed.Runtime):
    """The CPU, with networks in float64."""

    dtype = torch.float64


apply = Normalisation.apply
EXACT = Exact(torch.device("cpu"))


def make_step(folder: Path, extra: str, same: bool = True) -> Trainer:
    """A weak step of 5-3 in float64; ``same``: the teacher's body has the student's weights."""
    dummy = folder / "previous.pth"
    dummy.touch()
    line = (
        f"--dataset shapes --task 5-3 --overlap --step 1 --weakly --affinity --pseudo_ep 0 --backbone timm:resnet10t --crop_size 32 "
        f"--batch_size 2 --device cpu --step_ckpt {dummy} {extra}"
    )
    trainer = make_trainer(line, folder / "log")
    networks = trainer.networks
    assert networks.teacher is not None
    networks.student.double(), networks.teacher.double()
    if same:
        networks.model.body.load_state_dict(networks.teacher.body.state_dict())
    trainer.build(1)
    networks.student.train()
    return trainer


def losses(trainer: Trainer) -> list[dict[str, float]]:
    """Of two iterations: those of the second one have seen the first one's gradients."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        batch = Batch(
            images=torch.rand(2, 3, 32, 32, generator=generator).double(),
            masks=torch.zeros(2, 32, 32, dtype=torch.uint8),
            image_labels=torch.tensor([[1.0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]]).double(),
            is_replay=torch.zeros(2, dtype=torch.bool),
            names=("a", "b"),
        )
        found.append({term: value.item() for term, value in trainer.train_step(batch, 0).items()})
    return found


@pytest.mark.parametrize(
    ("extra", "same", "told"),
    [
        # Where nothing is folded, one pass still serves both.
        ("--freeze", True, "Frozen body: 0 of 14 norms folded"),
        ("--freeze", True, "The teacher's body is the same: one pass of it serves both"),
        ("--freeze", False, "The teacher's body is another one: each has its own pass"),
        ("--loss_de 1", True, "Teacher's body: 14 of 14 norms folded"),
    ],
)
def test_losses_are_those_of_two_passes(
    extra: str, same: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ": 0 of" in told:
        monkeypatch.setattr(engine.networks, "FOLDS_ON", set())
    two, one = (make_step(tmp_path, extra, same) for _ in range(2))
    networks = one.networks
    keys = {key: value.clone() for key, value in networks.model.state_dict().items()}
    lines = networks.settle(EXACT, keep_teacher=False)
    assert any(told in line for line in lines), lines
    assert (networks.frozen_body is not None) == ("--freeze" in extra)
    assert (networks.teacher_body is None) == (extra == "--freeze" and same)
    own = networks.model.state_dict()
    assert own.keys() == keys.keys() and all(torch.equal(own[key], value) for key, value in keys.items())
    calls: list[nn.Module] = []
    for body in {networks.frozen_body, networks.teacher_body, networks.model.body} - {None}:
        body.register_forward_hook(lambda module, *_: calls.append(module))
    found, expected = losses(one), losses(two)
    assert len(calls) == (2 if extra == "--freeze" and same else 4)
    for own_losses, wanted in zip(found, expected, strict=True):
        assert own_losses.keys() == wanted.keys() > {"cls", "loc", "seg", "ref"}
        for term, value in wanted.items():
            assert own_losses[term] == pytest.approx(value, rel=1e-6, abs=1e-12), term


def test_a_teacher_that_is_asked_later_stays_as_it_was(tmp_path: Path) -> None:
    networks = make_step(tmp_path, "--loss_de 1").networks
    assert networks.teacher is not None
    before = copy.deepcopy(networks.teacher.state_dict())
    networks.settle(EXACT, keep_teacher=True)
    after = networks.teacher.state_dict()
    assert networks.teacher_body is not None and after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


def test_ranks_see_the_scenes_that_one_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted objects: the body sees the scenes that hold them, the localizer and the teacher the images as they were."""
    # A localizer that has learned nothing is sure of nothing.
    monkeypatch.setattr("methods.paste.SURE", 0.1)
    monkeypatch.setattr("methods.paste.LARGEST", 1.0)
    trainer = make_step(tmp_path, f"--freeze --batch_size 8 --replay --replay_path {tmp_path} --paste 0.8")
    networks = trainer.networks
    networks.settle(EXACT, keep_teacher=True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(8, 8)
    labels[::2, 6] = 1
    whole = Batch(
        images=torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8),
        masks=torch.zeros(8, 32, 32, dtype=torch.int64),
        image_labels=labels,
        is_replay=torch.arange(8) % 2 == 1,
        names=tuple("abcdefgh"),
    )

    def seen(batch: Batch, rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps = networks.look(networks.normalisation.apply(batch.images))
        scenes = networks.paste(batch, maps, Iteration(0, lambda value: value, world, rank, number=3))
        assert maps is not None and scenes is not None
        return maps[0], scenes[0][0], scenes[1]

    monkeypatch.setattr(Normalisation, "apply", lambda self, images: apply(self, images).double())
    before, scenes, pasted = seen(whole, 0, 1)
    changed = [place for place in range(8) if not torch.equal(before[place], scenes[place])]
    assert changed == [place for place in range(8) if pasted[place].any()] and 1 < len(changed) < 5
    assert all(place % 2 for place in changed)
    halves = [
        Batch(whole.images[part], whole.masks[part], labels[part], whole.is_replay[part], whole.names[part])
        for part in (slice(0, 4), slice(4, 8))
    ]
    parts = [seen(half, rank, 2) for rank, half in enumerate(halves)]
    for i, expected in ((1, scenes), (2, pasted)):
        torch.testing.assert_close(torch.cat([part[i] for part in parts]), expected)
    assert networks.localizer is not None and networks.localizer.training
    # Of maps at the second place nobody here asks.
    plain, mixed = (networks.student(whole.images, [before, before], other) for other in (None, [scenes, scenes]))
    assert plain.localizer is not None and mixed.localizer is not None
    assert torch.equal(plain.body, mixed.body) and torch.equal(plain.localizer, mixed.localizer)
    assert not torch.equal(plain.logits[changed], mixed.logits[changed])


def test_the_localizer_is_asked_in_both_modes() -> None:
    """Bit for bit what two calls of it give, statistics and gradients too, though its first convolution runs once."""
    torch.manual_seed(0)
    model = make_model(backbone="timm:resnet10t", output_stride=16, norm_act="iabn", classes=[2], pooling=2)
    localizer = make_localizer(model.body.out_channels, 2, make_norm("iabn"))
    student = Student(model, localizer, freeze=True, freeze_norm=False).train()
    alone = copy.deepcopy(localizer)
    found = student(torch.randn(2, 3, 64, 64))
    body = found.body.detach()
    with torch.no_grad():
        fixed = alone.eval()(body)
    trained = alone.train()(body)
    assert torch.equal(found.localizer, trained) and torch.equal(found.localizer_eval, fixed)
    assert not found.localizer_eval.requires_grad
    for output in (found.localizer, trained):
        output.square().sum().backward()
    own, others = dict(localizer.named_parameters()), dict(alone.named_parameters())
    assert all(torch.equal(own[key].grad, others[key].grad) for key in own)
    assert all(torch.equal(value, alone.state_dict()[key]) for key, value in localizer.state_dict().items())
