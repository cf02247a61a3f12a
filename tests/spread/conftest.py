"""One Ray on this machine for all tests; images, a checkpoint and a discriminator for all scripts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import pytest

from tests.web.conftest import step_ckpt, web_images

__all__ = ["ray_here", "step_ckpt", "web_images"]


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Two cores of a Ray that lives as long as the tests of this process; ``--ray local`` uses it."""
    pytest.importorskip("ray.data", reason="the extra ray is not installed: tests on Ray are left out")
    from spread.on_ray import QUIET

    os.environ.update(QUIET)
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )  # fmt: skip
    yield
    ray.shutdown()
