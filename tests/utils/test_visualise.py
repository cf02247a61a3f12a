"""Pictures have the colours, shapes and places that they should."""

from __future__ import annotations

import numpy as np
import pytest

from utils.visualise import colourise, confusion_figure, overlay, palette, panel


def test_palette_is_vocs() -> None:
    colours = palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert all(tuple(colours[i].tolist()) == colour for i, colour in known.items())
    assert tuple(colours[255].tolist()) == (224, 224, 192)
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    assert not colours.flags.writeable


def test_colourise_takes_any_integers() -> None:
    mask = np.array([[0, 1], [255, 20]])
    for dtype in (np.uint8, np.int64):
        picture = colourise(mask.astype(dtype))
        assert picture.shape == (2, 2, 3) and picture.dtype == np.uint8
        assert (picture == palette()[mask]).all()


def test_overlay_leaves_background() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    picture = overlay(image, np.array([[0, 1], [1, 0]]), 0.25)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert picture[0, 1].tolist() == [107, 75, 75]
    assert (overlay(image, np.ones((2, 2), int), 1.0) == palette()[1]).all()


@pytest.mark.parametrize("classes", [2, 21, 81])
def test_confusion_figure_normalises_rows(classes: int) -> None:
    matrix = np.random.default_rng(0).integers(1, 50, (classes, classes))
    matrix[1] = 0
    names = [f"class {i}" for i in range(classes)]
    figure = confusion_figure(matrix, names)
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    rows = np.delete(np.ma.getdata(shown).sum(1), 1)
    np.testing.assert_allclose(rows, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert bool(axes.texts) == (classes <= 25)
    figure.canvas.draw()


def test_panel_places_columns() -> None:
    red, small = np.full((4, 6, 3), (255, 0, 0), np.uint8), np.zeros((2, 2, 3), np.uint8)
    sheet = panel([[red, red], [small, red]], gap=2)
    assert sheet.shape == (10, 14, 3)
    assert (sheet[:4, :6] == red).all() and (sheet[6:, 8:] == red).all()
    assert (sheet[4:6] == 255).all(), "the gap is white"
    assert (sheet[1:3, 10:12] == 0).all() and (sheet[0, 8:] == 255).all(), "a small image is centred"
    with pytest.raises(ValueError, match="shorter"):
        panel([[red], []])
    with pytest.raises(ValueError, match="at least one"):
        panel([])
