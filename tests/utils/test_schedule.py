"""Learning-rate policies against the reference, their edges, and an exact resume."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from utils.errors import UserError
from utils.schedule import POLICIES, make_scheduler


def _optimizer(rates: list[float]) -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return SGD(groups, lr=0.1, momentum=0.9)


def _rates(optimizer: SGD) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def _run(optimizer: SGD, scheduler: LRScheduler, iterations: int) -> list[list[float]]:
    """Rates used at each of the next iterations."""
    used = []
    for _ in range(iterations):
        used.append(_rates(optimizer))
        optimizer.step()
        scheduler.step()
    return used


@pytest.mark.golden
def test_rates_equal_the_reference(golden: Path) -> None:
    data = np.load(golden / "schedules.npz")
    options = {"power", "start_decay", "step_size", "gamma"}
    policies = [key for key in data.files if key not in options | {"max_iters", "base_lrs"}]
    assert policies
    for policy in policies:
        optimizer = _optimizer(data["base_lrs"].tolist())
        scheduler = make_scheduler(
            optimizer, policy, int(data["max_iters"]), **{key: data[key].item() for key in options}
        )
        used = _run(optimizer, scheduler, len(data[policy]))
        np.testing.assert_allclose(used, data[policy], rtol=0, atol=1e-12, err_msg=policy)


def test_one_cycle_is_torchs_and_leaves_momentum() -> None:
    ours, theirs = _optimizer([0.01, 0.1]), _optimizer([0.01, 0.1])
    reference = OneCycleLR(theirs, max_lr=[0.01, 0.1], total_steps=30)
    used = _run(ours, make_scheduler(ours, "one_cycle", 30), 30)
    np.testing.assert_allclose(used, _run(theirs, reference, 30), rtol=0, atol=1e-15)
    assert np.max(used, axis=0) == pytest.approx([0.01, 0.1], rel=0.01)
    assert ours.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("policy", POLICIES)
def test_resume_is_exact_and_the_state_is_plain(policy: str) -> None:
    options: dict[str, Any] = {"start_decay": 5, "step_size": 4, "gamma": 0.5}
    whole = _optimizer([0.02, 0.003])
    expected = _run(whole, make_scheduler(whole, policy, 20, **options), 20)

    first = _optimizer([0.02, 0.003])
    scheduler = make_scheduler(first, policy, 20, **options)
    _run(first, scheduler, 8)
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    for order in (("optimizer", "scheduler"), ("scheduler", "optimizer")):
        second = _optimizer([0.02, 0.003])
        resumed = make_scheduler(second, policy, 20, **options)
        for name in order:
            (second if name == "optimizer" else resumed).load_state_dict(state[name])
        assert _run(second, resumed, 12) == expected[8:]


@pytest.mark.parametrize("policy", POLICIES)
def test_one_iteration_and_one_step_beyond(policy: str) -> None:
    optimizer = _optimizer([0.1])
    scheduler = make_scheduler(optimizer, policy, 1)
    _run(optimizer, scheduler, 1)
    assert all(isinstance(rate, float) and 0 <= rate <= 0.1 for rate in _rates(optimizer))


def test_bad_input_is_one_line() -> None:
    with pytest.raises(UserError, match="cosine"):
        make_scheduler(_optimizer([0.1]), "cosine", 10)
    with pytest.raises(UserError, match="0 iterations"):
        make_scheduler(_optimizer([0.1]), "poly", 0)
    with pytest.raises(UserError, match="lr_decay_step"):
        make_scheduler(_optimizer([0.1]), "step", 10, step_size=0)
