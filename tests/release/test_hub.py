"""The hub: pushed and fetched by its own library, to and from a stand-in on this machine; nothing is sent unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modules import hub
from modules.released import CONFIG, WEIGHTS, read_released, write_released
from release.taught import Image, Taught
from segmentation_module import make_segmenter
from tests.modules.test_released import DESCRIPTION, weights
from tests.release.stand_in import Hub, serving
from utils.errors import UserError

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e .[hub]")
TOKEN = "hf_" + "secret" * 5


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_released(tmp_path / "model", DESCRIPTION, weights(), texts={"README.md": "# A model\n"})
    return tmp_path / "model"


def test_what_is_pushed_comes_back(there: Hub, folder: Path) -> None:
    there.token = TOKEN
    (folder / "work").mkdir()
    (folder / "work/private.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    there.files["me/mine"] = {"ATTRIBUTION.csv": b"of an earlier model", "extra.txt": b"theirs"}
    assert hub.push(folder, "me/mine") == f"{there.address}/me/mine"
    assert sorted(there.files["me/mine"]) == ["README.md", CONFIG, "extra.txt", WEIGHTS]
    fetched = hub.fetched("hub:me/mine")
    assert sorted(path.name for path in fetched.iterdir()) == [CONFIG, WEIGHTS]
    description, read = read_released(fetched)
    assert description == DESCRIPTION and all(torch.equal(read[key], value) for key, value in weights().items())


def test_what_is_there_is_not_fetched_twice(there: Hub, folder: Path) -> None:
    hub.push(folder, "me/mine")
    hub.fetched("hub:me/mine")
    there.asked.clear()
    hub.fetched("hub:me/mine")
    assert not [line for line in there.asked if line.startswith("GET")]


def test_a_release_of_the_hub_keeps_its_table(there: Hub, tmp_path: Path) -> None:
    """Who made the images of a model that is fetched and released again stands in its table."""
    from release.folder import release

    weights = make_segmenter(DESCRIPTION).state_dict()
    table = Taught([Image("dog", author="Ann")]).table()
    for name, text in (("with", table), ("without", None)):
        write_released(tmp_path / name, DESCRIPTION, weights, texts={"ATTRIBUTION.csv": text})
        hub.push(tmp_path / name, f"me/{name}")
    assert [image.author for image in release("hub:me/with", tmp_path / "out").taught.images] == ["Ann"]
    assert not release("hub:me/without", tmp_path / "out").taught.images


def test_what_is_there_needs_no_hub(there: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.push(folder, "me/mine")
    fetched = hub.fetched("hub:me/mine")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    there.asked.clear()
    assert hub.fetched("hub:me/mine") == fetched and not there.asked
    with pytest.raises(UserError, match="hub:me/other: cannot be fetched"):
        hub.fetched("hub:me/other")


@pytest.mark.parametrize(
    ("status", "said"), [(401, "log in with"), (403, "log in with"), (404, "no such repository"), (400, "answers 400")]
)
def test_refusals_hold_no_token(
    there: Hub, folder: Path, status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    there.status = status
    with pytest.raises(UserError, match=said) as pushed:
        hub.push(folder, "me/mine")
    with pytest.raises(UserError) as fetched:
        hub.fetched("hub:me/mine")
    shown = str(pushed.value) + str(fetched.value) + "".join(capfd.readouterr())
    assert TOKEN not in shown and str(folder) in str(pushed.value) and "hub:me/mine" in str(fetched.value)


def test_a_repository_without_a_model(there: Hub) -> None:
    there.files["me/data"] = {"README.md": b""}
    for name in ("me/data", "me/nothing"):
        with pytest.raises(UserError, match=f"hub:{name}: cannot be fetched"):
            hub.fetched(f"hub:{name}")


@pytest.mark.parametrize(
    "name",
    ["", "mine", "me/mine/more", "../../etc/passwd", "me/mi ne", "me/mine@", "me/mine\n", "https://x.org/me/mine"],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="is no name of the hub"):
        hub.fetched(f"hub:{name}")
    with pytest.raises(UserError, match="is no name of the hub"):
        hub.check_push(name)


def test_pushing_goes_to_the_main_branch() -> None:
    with pytest.raises(UserError, match="leave @v1 out"):
        hub.check_push("me/mine@v1")


def test_links_are_not_pushed(there: Hub, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="is a link"):
        hub.push(folder, "me/mine")
    assert not there.asked


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[hub\]"):
        hub.check_push("me/mine")
    with pytest.raises(UserError, match=r"pip install -e \.\[hub\]"):
        hub.fetched("hub:me/mine")
