"""The house has floors and rooms: imports go down, never up, and never round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

GROUND, PARTS, METHODS, ENGINE, STUDIES, ENTRY = 1, 2, 3, 4, 5, 6
# Room or file of the hall -> floor. Methods and whatever stands on them know the options' type.
FLOORS = {
    "tasks": GROUND, "utils": GROUND,
    "modules": PARTS, "captions": PARTS, "dataset": PARTS, "segmentation_module": PARTS, "results": PARTS, "spread": PARTS,
    "argparser": 2.5, "methods": METHODS,
    "train": ENGINE, "engine": ENGINE, "web": ENGINE, "prediction": ENGINE, "release": ENGINE,
    "experiments": STUDIES, "benchmarks": STUDIES, "adding": STUDIES,
    "run": ENTRY, "add_class": ENTRY, "predict": ENTRY, "export": ENTRY,
    "collect_web": ENTRY, "train_discriminator": ENTRY, "select_web": ENTRY,
    "generate_caption": ENTRY, "generate_label": ENTRY, "generate_train_file": ENTRY, "data": ENTRY, "pretrained": ENTRY,
}  # fmt: skip
# Entry scripts on a lower floor: a user calls ``python -m utils.measure_noun`` by its published name.
ENTRIES = {"utils.measure_noun", "utils.table"}
# The engine writes rows of results and studies read them, on machines without torch too.
LIGHT = ["results.confusion", "results.page", "results.rows", "results.table", "results.tables"]
HEAVY = {"torch", "torchvision", "timm"}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the house; ``methods`` is ``methods/__init__.py``."""
    places = [root / name for name in FLOORS]
    files = [place.with_suffix(".py") for place in places if place.with_suffix(".py").is_file()]
    files += [path for place in places if place.is_dir() for path in sorted(place.rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def statements(path: Path, typing: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a file, those inside functions too; ``typing`` adds those for type checkers alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not typing:
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def imported(path: Path, typing: bool = False) -> set[str]:
    """Dotted names that a file imports; of ``from a import b`` both ``a`` and ``a.b``, since either may be meant."""
    names: set[str] = set()
    for node in statements(path, typing):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0 and node.module, f"{path}: relative imports are not used here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(module: str) -> str:
    """A file of the hall and an entry script by a published name are rooms of their own."""
    return module if module in ENTRIES else module.partition(".")[0]


def floor(module: str) -> float:
    return ENTRY if module in ENTRIES else FLOORS.get(room(module), 0)


def file_graph(root: Path) -> dict[str, set[str]]:
    """Module -> modules of the house that it imports.

    Of ``from a import b`` it is ``a.b`` where that is a module, else ``a``.
    """
    house = modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in house.items():
        graph[name] = set()
        for node in statements(path, typing=False):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            else:
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted = [dotted if dotted in house else str(node.module) for dotted in inside]
            graph[name] |= {dotted for dotted in wanted if dotted in house}
    return graph


def room_graph(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Room -> other rooms of its floor that it imports from."""
    rooms: dict[str, set[str]] = {}
    for name, targets in graph.items():
        others = {room(target) for target in targets if floor(target) == floor(name)}
        rooms.setdefault(room(name), set()).update(others - {room(name)})
    return rooms


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


HOUSE = modules(ROOT)


def test_every_file_has_a_floor() -> None:
    hall = {path.stem for path in ROOT.glob("*.py")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert hall | packages <= set(FLOORS)


@pytest.mark.parametrize("name", HOUSE)
def test_imports_go_down(name: str) -> None:
    above = {dotted for dotted in imported(HOUSE[name], typing=True) if floor(dotted) > floor(name)}
    assert not above, f"{HOUSE[name].relative_to(ROOT)} imports from a floor above: {above}"


def test_files_import_in_no_circle() -> None:
    assert not circle(file_graph(ROOT))


def test_rooms_of_one_floor_import_in_no_circle() -> None:
    assert not circle(room_graph(file_graph(ROOT)))


@pytest.mark.parametrize("name", LIGHT)
def test_tables_need_no_torch(name: str) -> None:
    """Neither the file nor what it imports from below."""
    graph = file_graph(ROOT)
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting += graph[module] - reached
    heavy = {f"{module}: {dotted}" for module in reached for dotted in imported(HOUSE[module])}
    assert not {text for text in heavy if text.partition(": ")[2].partition(".")[0] in HEAVY}


def test_nobody_calls_cuda() -> None:
    for path in HOUSE.values():
        assert ".cuda()" not in path.read_text(encoding="utf-8"), path


def test_circles_are_seen(tmp_path: Path) -> None:
    """Of files of a room and of rooms of a floor; imports inside functions count, those for types alone do not."""
    files = {
        "tasks.py": "import utils.one\n",
        "utils/__init__.py": "",
        "utils/one.py": "from utils import two\n",
        "utils/two.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from utils.one import thing\n",
        "modules/__init__.py": "from dataset.voc import ids\n",
        "dataset/__init__.py": "",
        "dataset/voc.py": "import utils.two\n",
        "dataset/coco.py": "def make():\n    from modules import body\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    graph = file_graph(tmp_path)
    assert graph["tasks"] == {"utils.one"} and graph["dataset.coco"] == {"modules"} and not circle(graph)
    assert set(circle(room_graph(graph))) == {"modules", "dataset"}
    (tmp_path / "utils/two.py").write_text("def late():\n    from utils.one import thing\n")
    assert set(circle(file_graph(tmp_path))) == {"utils.one", "utils.two"}
    (tmp_path / "utils/two.py").write_text("import tasks\n")
    assert set(circle(room_graph(file_graph(tmp_path)))) >= {"tasks", "utils"}
    assert "methods.base" in imported_of(tmp_path, "from methods import base\n")


def imported_of(folder: Path, text: str) -> set[str]:
    """What a file of this text imports."""
    path = folder / "text.py"
    path.write_text(text)
    return imported(path)
