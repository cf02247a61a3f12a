"""Classes that are alike by their names."""

from __future__ import annotations

import numpy as np
import pytest

from captions.likeness import likeness
from captions.similarity import make_similarity
from utils.errors import UserError

OLD = ["background", "bus", "car", "chair", "cow", "diningtable", "person"]


def test_new_classes_are_like_their_kin() -> None:
    found = likeness(["sheep", "sofa", "train", "pottedplant"], OLD)
    assert found.shape == (4, len(OLD)) and found.min() >= 0 and found.max() <= 1
    assert [OLD[i] for i in found[:3].argmax(axis=1)] == ["cow", "chair", "bus"]
    assert found[3].max() < 0.4, "no old class looks like a plant"
    assert not found[:, 0].any(), "background is like nothing"
    expected = make_similarity("lin").matrix(["sheep"], OLD[1:])
    np.testing.assert_allclose(found[:1, 1:], expected)


def test_a_word_for_the_same_is_the_same() -> None:
    np.testing.assert_allclose(likeness(["couch", "tvmonitor"], ["none", "sofa"])[:, 1], [1, 0.27], atol=0.01)


def test_another_measure() -> None:
    assert likeness(["pottedplant"], OLD, "wup")[0, -1] == pytest.approx(0.8)


@pytest.mark.parametrize(("new", "old"), [(["xyzzy"], OLD), (["sheep"], [*OLD, "xyzzy"]), (["xyzzy"], ["background"])])
def test_a_name_that_is_no_noun_is_refused(new: list[str], old: list[str]) -> None:
    with pytest.raises(UserError, match="class xyzzy: WordNet knows no such noun"):
        likeness(new, old)


def test_a_first_step_of_background_alone() -> None:
    assert likeness(["sheep"], ["background"]).tolist() == [[0.0]]
