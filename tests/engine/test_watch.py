"""Losses are looked at a window at a time; one that is not finite reaches no weight, and is named as if it had been looked at at once."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import argparser
import run
from benchmarks.step import make_batch, make_trainer
from engine.guarded import GuardedSGD
from engine.watch import Watch
from methods.supervised import Supervised
from tests.conftest import ROOT
from tests.unread import unread
from train import Trainer
from utils import checkpoint
from utils.distributed import Runtime
from utils.errors import UserError

CPU = Runtime(torch.device("cpu"))
NAN, INF = float("nan"), float("inf")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)


def sgd(module: nn.Sequential, kind: Callable[..., Any] = GuardedSGD, **settings: Any) -> Any:
    groups = [{"params": list(module[0].parameters()), "lr": 0.1}, {"params": list(module[2].parameters()), "lr": 0.5}]
    return kind(groups, **{"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2} | settings)


def learn(module: nn.Module, optimizer: Any, seed: int) -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad(set_to_none=True)
    module(images).square().mean().backward()
    optimizer.step()


def state(module: nn.Module, optimizer: Any) -> list[Tensor]:
    kept = [value for one in optimizer.state.values() for value in one.values()]
    return [value.detach().clone() for value in [*module.parameters(), *kept]]


# ---- what is kept ---------------------------------------------------------------------------------------------------


def kept(watch: Watch, iteration: int, **losses: float) -> None:
    terms = {name: torch.tensor(value) for name, value in losses.items()}
    watch.keep(
        terms | {"total": torch.stack(list(terms.values())).sum()}, 3, iteration, (f"a{iteration}", f"b{iteration}")
    )


def test_losses_are_seen_once_and_in_order() -> None:
    watch = Watch(CPU, 3)
    kept(watch, 0, seg=1.5)
    kept(watch, 1, seg=2.0, kd=0.5)
    assert not watch.due
    kept(watch, 2, seg=4.0)
    assert watch.due
    assert watch.look() == [
        {"seg": 1.5, "total": 1.5},
        {"seg": 2.0, "kd": 0.5, "total": 2.5},
        {"seg": 4.0, "total": 4.0},
    ]
    assert watch.look() == [] and not watch.due and watch.failed == 0


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("bad", [0, 2, 4])
def test_the_first_iteration_is_named(bad: int, value: float) -> None:
    watch = Watch(CPU, 5)
    for iteration in range(5):
        kept(watch, iteration, seg=value if iteration >= bad else 1.0, kd=1.0)
        assert watch.failed == (iteration >= bad)
    with pytest.raises(UserError) as caught:
        watch.look()
    assert str(caught.value) == (
        f"loss seg = {value} at epoch 3, iteration {bad}, images a{bad}, b{bad}: training stopped; "
        "lower --lr or look at these images"
    )
    kept(watch, 5, seg=1.0)
    assert watch.failed == 1, "a later finite loss opens nothing"


def test_a_sum_that_is_not_finite_is_named() -> None:
    watch = Watch(CPU, 1)
    kept(watch, 0, seg=3e38, kd=3e38)
    with pytest.raises(UserError, match=r"^loss total = inf at epoch 3, iteration 0, images a0, b0: "):
        watch.look()


# ---- what learns ----------------------------------------------------------------------------------------------------


def test_the_fused_update_is_the_plain_one() -> None:
    one, other = network(), network()
    guarded, plain = sgd(one), sgd(other, torch.optim.SGD)
    for seed in range(5):
        learn(one, guarded, seed)
        learn(other, plain, seed)
    for mine, expected in zip(state(one, guarded), state(other, plain), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)
    saved, expected_state = guarded.state_dict(), plain.state_dict()
    assert (
        saved["param_groups"] == expected_state["param_groups"]
        and saved["state"].keys() == expected_state["state"].keys()
    )


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_blocked_step_changes_no_bit(first: bool, momentum: float) -> None:
    """Nor momenta, whose memory torch would leave as it found it where the very first step is blocked."""
    module, free = network(), network()
    optimizer = sgd(module, momentum=momentum, nesterov=momentum > 0)
    beside = sgd(free, momentum=momentum, nesterov=momentum > 0)
    if not first:
        learn(module, optimizer, 0)
        learn(free, beside, 0)
    before = state(module, optimizer)
    optimizer.blocked = torch.ones(())
    learn(module, optimizer, 1)
    after = state(module, optimizer)
    assert all(map(torch.equal, before, after))
    optimizer.blocked = torch.zeros(())
    learn(module, optimizer, 2)
    learn(free, beside, 2)
    assert all(map(torch.equal, state(module, optimizer), state(free, beside)))


def test_goes_on_from_plain_states_of_any_layout() -> None:
    """A state of another version, whose momenta lie in memory in another order."""
    one, other = network(), network()
    plain = sgd(other, torch.optim.SGD)
    learn(other, plain, 0)
    saved = plain.state_dict()
    saved["state"] = {
        n: {"momentum_buffer": s["momentum_buffer"].contiguous().clone()} for n, s in saved["state"].items()
    }
    one.load_state_dict(other.state_dict())
    guarded = sgd(one)
    guarded.load_state_dict(saved)
    learn(one, guarded, 1)
    learn(other, plain, 1)
    for mine, expected in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


def test_gradients_of_another_layout() -> None:
    one, other = network(), network()
    for module, optimizer in ((one, sgd(one)), (other, sgd(other, torch.optim.SGD))):
        module(torch.ones(1, 3, 8, 8)).square().mean().backward()
        for weight in module.parameters():
            weight.grad = weight.grad.contiguous()
        optimizer.step()
    for mine, expected in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


def test_goes_with_loss_scaling() -> None:
    """fp16: a gradient that overflows leaves out one step and halves the scale; a blocked step is left out, too."""
    module = network()
    optimizer, scaler = sgd(module), torch.amp.GradScaler("cpu", init_scale=2.0**15)
    blocked = torch.zeros(())
    optimizer.blocked = blocked

    def step(factor: float) -> bool:
        before = state(module, optimizer)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(factor * module(torch.ones(1, 3, 8, 8)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert not hasattr(optimizer, "found_inf")
        return not all(map(torch.equal, before, state(module, optimizer)))

    assert not step(1e38) and scaler.get_scale() == 2.0**14
    assert step(1.0) and step(1.0)
    weights = [weight.detach().clone() for weight in module.parameters()]
    blocked.fill_(1)
    assert not step(1.0) and not step(1.0)
    assert all(map(torch.equal, weights, module.parameters()))


# ---- the training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "precision"), [(0, "fp32"), (1, "fp32"), (1, "bf16")])
def test_an_iteration_reads_nothing(step: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a GPU would stand still in every iteration until the host has read, and the host until the GPU is done."""
    monkeypatch.setattr("modules.norm._counts", lambda x: False)  # As on a GPU.
    settings = argparse.Namespace(
        backbone="timm:test_resnet",
        crop_size=32,
        batch_size=2,
        device="cpu",
        precision=precision,
        compile=False,
        freeze=False,
    )
    trainer = make_trainer(step, settings)
    batch = make_batch(trainer, 32, 2)
    with unread():
        trainer.train_step(batch, trainer.options.pseudo_ep)
    assert trainer.watch.look()[0]["total"] > 0
    with pytest.raises(AssertionError, match="waits"), unread():
        trainer.watch.look()  # Nothing is left to be read,
        trainer.train_step(batch, 0)["total"].item()  # but this would be.


def line(folder: Path, data: Path, name: str, words: str = "") -> list[str]:
    return (
        f"--dataset shapes --task 5-3 --overlap --dataset_dir {data} --checkpoints {folder}/checkpoints --logdir {folder}/logs "
        f"--backbone timm:test_resnet --crop_size 32 --crop_size_val 32 --batch_size 4 --iters_per_epoch 5 --num_workers 0 --device cpu "
        f"--sample_num 0 --step 0 --bce --no_pretrained --print_interval 2 --name {name} {words}"
    ).split()


def weights_of(trainer: Trainer) -> list[Tensor]:
    return state(trainer.networks.student, trainer.optimisation.optimizer)


def test_a_window_ends_as_a_look_at_every_loss_does(
    tmp_path: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same error at the same iteration; weights and momenta are those before it, and nothing is saved behind it."""
    once, saw = Supervised.losses, list[list[Tensor]]()
    trainers: list[Trainer] = []

    def poisoned(self: Supervised, *arguments: Any) -> dict[str, Tensor]:
        trainer = trainers[-1]
        if trainer.progress.epoch == 1 and trainer.progress.iteration == 2:
            saw.append(weights_of(trainer))
            return {name: term * NAN for name, term in once(self, *arguments).items()}
        return once(self, *arguments)

    begin = Trainer.__init__

    def noted(self: Trainer, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        trainers.append(self)

    errors, states = [], []
    monkeypatch.setattr(Supervised, "losses", poisoned)
    for every in (1, 50):
        monkeypatch.setattr(Trainer, "__init__", partialmethod(noted, look_every=every))
        with pytest.raises(UserError) as caught:
            run.main(
                argparser.parse(
                    line(tmp_path, small_shapes, f"every{every}", "--epochs 2 --ckpt_interval 1 --print_interval 50")
                )
            )
        errors.append(str(caught.value))
        states.append(weights_of(trainers[-1]))
        # The window saw more iterations after the one that failed.
        assert trainers[-1].progress.iteration == (3 if every == 1 else 5)
        saved = checkpoint.load(tmp_path / f"checkpoints/step/shapes-5-3-ov/every{every}_0.pth")
        assert (saved["epoch"], saved["iteration"]) == (1, 0), "the last save is that before the loss"
    assert errors[0] == errors[1] and "loss seg = nan at epoch 1, iteration 2, images " in errors[0]
    for before, after in zip(saw, states, strict=True):
        assert len(before) == len(after) and all(map(torch.equal, before, after))
    assert all(map(torch.equal, *states))


def test_a_stopped_window_goes_on_bit_for_bit(
    tmp_path: Path, small_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop in the middle of a window; and what the log says of losses is the same however often they are looked at."""
    monkeypatch.setattr(Trainer, "__init__", partialmethod(Trainer.__init__, look_every=50))
    folder = tmp_path / "checkpoints/step/shapes-5-3-ov"

    def losses(name: str) -> list[tuple[str, int, float]]:
        lines = (tmp_path / f"logs/shapes-5-3-ov/{name}/scalars.jsonl").read_text().splitlines()
        rows = [json.loads(text) for text in lines]
        return [(row["tag"], row["step"], row["value"]) for row in rows if row["tag"].startswith("loss/")]

    assert run.main(argparser.parse(line(tmp_path, small_shapes, "whole", "--epochs 1"))) == 0
    original = Trainer.train_step

    def stopping(self: Trainer, *arguments: Any) -> dict[str, Tensor]:
        if self.progress.iteration == 2:
            self.stopping.ask(15)
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", stopping)
        assert run.main(argparser.parse(line(tmp_path, small_shapes, "broken", "--epochs 1"))) == 128 + 15
    assert checkpoint.load(folder / "broken_0.pth")["iteration"] == 3
    assert run.main(argparser.parse(line(tmp_path, small_shapes, "broken", "--epochs 1 --resume auto"))) == 0
    monkeypatch.undo()
    assert run.main(argparser.parse(line(tmp_path, small_shapes, "each", "--epochs 1"))) == 0
    whole, broken, each = (checkpoint.load(folder / f"{name}_0.pth") for name in ("whole", "broken", "each"))
    for other in (broken, each):
        for part in ("model_state", "optimizer_state"):
            assert str(whole[part]) == str(other[part])
        assert all(torch.equal(value, other["model_state"][key]) for key, value in whole["model_state"].items())
    assert losses("each") == losses("whole") and len(losses("each")) == 6


RANK = """
import sys, torch
from torch import nn
from engine.guarded import GuardedSGD
from engine.watch import Watch
from utils import distributed
from utils.errors import UserError

runtime = distributed.start("cpu")
torch.manual_seed(0)
module = nn.Conv2d(3, 2, 3)
forward, watch = runtime.wrap(module), Watch(runtime, 9)
optimizer = GuardedSGD([{"params": list(module.parameters())}], lr=0.1, momentum=0.9)
before = []
for iteration in range(6):
    before.append([weight.detach().clone() for weight in module.parameters()])
    optimizer.zero_grad(set_to_none=True)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2 * iteration + runtime.rank))
    loss = forward(images).square().mean() * (float("nan") if (runtime.rank, iteration) == (1, 3) else 1)
    watch.keep({"seg": loss, "total": loss}, 0, iteration, (f"image {iteration} of rank {runtime.rank}",))
    loss.backward()
    optimizer.blocked = watch.failed
    optimizer.step()
same = [all(map(torch.equal, earlier, module.parameters())) for earlier in before]
try:
    watch.look()
except UserError as error:
    print(f"\\nrank {runtime.rank}: {same} {error}\\n", end="", flush=True)
distributed.stop()
"""


def test_ranks_agree_on_a_loss_of_one_of_them(tmp_path: Path) -> None:
    program = tmp_path / "rank.py"
    program.write_text(RANK)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program)]
    done = subprocess.run(
        launcher,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = sorted(text for text in done.stdout.splitlines() if text.startswith("rank "))
    # The weights are those before iteration 3, which are those before the later ones, too.
    same = [False, False, False, True, True, True]
    assert said == [
        f"rank 0: {same} loss of another process is not finite at epoch 0, iteration 3, its own line says which: training stopped",
        f"rank 1: {same} loss seg = nan at epoch 0, iteration 3, images image 3 of rank 1: training stopped; "
        "lower --lr or look at these images",
    ]
