"""Where the tests find what lies outside the project, and what they say where it is absent."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Their tests start, kill and signal several processes, which a machine that is busy may end in an order of its own. A test that
# fails is tried once more, and the summary says so (R).
RACING = {
    "test_resume.py",
    "test_ddp.py",
    "test_nodes.py",
    "test_generate_label.py",
    "test_adopted_step.py",
    "test_run.py",
    "test_stopping.py",
    "test_runner.py",
    "test_collect.py",
    "test_captioning.py",
    "test_state.py",
    "test_whole.py",
    "test_distributed.py",
    "test_watch.py",
    "test_norm.py",
    "test_quickstart.py",
    "test_add_class.py",
}
sys.path.insert(0, str(ROOT))
# pytest-xdist has its workers ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test draws the same whatever ran before it, in this process or another one."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of races get a second try; slow ones run where SLOW=1."""
    for item in items:
        if item.get_closest_marker("slow") and os.environ.get("SLOW") != "1":
            item.add_marker(pytest.mark.skip(reason="takes minutes; SLOW=1 runs it"))
        if item.path.name in RACING or item.path.parent.name in {"faults", "spread"}:
            item.add_marker(pytest.mark.flaky(reruns=1))


def _folder(variable: str, default: str) -> Path:
    path = (ROOT / os.environ.get(variable, default)).resolve()
    if not path.is_dir():
        pytest.skip(f"{variable} ({path}) is not a folder: tests on shared data are left out")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with inputs and outputs of the reference implementation (``GOLDEN_DIR``)."""
    return _folder("GOLDEN_DIR", "../shared/golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real images, masks and published lists (``SHARED_DATA_DIR``)."""
    return _folder("SHARED_DATA_DIR", "../shared/data")


@pytest.fixture(scope="session")
def small_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set of a few images, rendered once."""
    from dataset import shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    for split in ("train", "val"):
        shapes.make(folder, split, size=64, train=48, val=12)
    return folder


@pytest.fixture(scope="session")
def odd_ckpt(tmp_path_factory: pytest.TempPathFactory, small_shapes: Path) -> Path:
    """A checkpoint of the second step of a task in odd order, whose random classifiers see something of every class."""
    from tests.odd_checkpoint import odd_checkpoint

    return odd_checkpoint(tmp_path_factory.mktemp("odd"), small_shapes)
