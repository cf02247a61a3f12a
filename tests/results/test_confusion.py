"""Confusion matrices as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from results.confusion import read_confusion, write_confusion
from utils.errors import UserError


def test_confusion_matrices_are_written_and_read(tmp_path: Path) -> None:
    path, names = tmp_path / "run" / "confusion_1.csv", ["background", 'a "cat", big', "dog"]
    matrix = np.array([[2**40, 1, 0], [0, 5, 6], [7, 0, 0]])
    write_confusion(path, matrix, names)
    found, found_names = read_confusion(path)
    assert (found == matrix).all() and found_names == names
    for text in ("", "true,a\nb,1\n", "true,a,b\na,1,2\n", "true,a\na,x\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"confusion_1\.csv: "):
            read_confusion(path)
    with pytest.raises(UserError, match="cannot be read as a confusion matrix"):
        read_confusion(tmp_path / "nowhere.csv")
