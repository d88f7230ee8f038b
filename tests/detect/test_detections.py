import sys
from pathlib import Path

import numpy as np
import pytest

from mecha.detect.detections import Detection, Detections
from mecha.errors import ConfigError

# As much of the package as is called, for machines that do not have it.
SUPERVISION = """
class Detections:
    def __init__(self, xyxy, confidence, class_id, data):
        assert xyxy.flags.writeable and confidence.flags.writeable and class_id.flags.writeable
        self.xyxy, self.confidence, self.class_id, self.data = xyxy, confidence, class_id, data
    def __len__(self):
        return len(self.xyxy)
"""


@pytest.fixture
def found() -> Detections:
    return Detections(
        np.array([[10, 20, 30, 60], [0, 0, 5.5, 4]], np.float32),
        np.array([0.75, 0.25], np.float32),
        np.array([1, 7], np.int32),
        ("cone", "ball"),
    )


@pytest.fixture
def empty() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), ("cone",))


def test_arrays_are_frozen(found: Detections) -> None:
    for array in (found.boxes_xyxy, found.scores, found.class_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_iterating_gives_one_object_after_the_other(found: Detections) -> None:
    assert list(found) == [
        Detection("ball", 1, 0.75, (10.0, 20.0, 30.0, 60.0)),
        Detection("class_7", 7, 0.25, (0.0, 0.0, 5.5, 4.0)),
    ]


def test_a_mask_a_slice_or_positions_select_objects(found: Detections) -> None:
    assert [item.label for item in found[found.scores > 0.5]] == ["ball"]
    assert [item.label for item in found[1:]] == ["class_7"]
    assert [item.label for item in found[np.array([1, 0])]] == ["class_7", "ball"]
    assert found[:1].names == found.names


def test_coco_results_are_x_y_width_height(found: Detections) -> None:
    assert found.to_coco(9) == [
        {"image_id": 9, "category_id": 1, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.75},
        {"image_id": 9, "category_id": 7, "bbox": [0.0, 0.0, 5.5, 4.0], "score": 0.25},
    ]


def test_classes_without_a_category_are_left_out_of_coco_results(found: Detections) -> None:
    assert [result["category_id"] for result in found.to_coco(9, {1: 37})] == [37]


def test_nothing_found_is_an_empty_list_in_every_form(empty: Detections) -> None:
    assert (list(empty), empty.to_json(), empty.to_coco(1), len(empty[:5])) == ([], [], [], 0)


def test_supervision_is_asked_for_by_name_where_it_is_missing(
    found: Detections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError) as caught:
        found.to_supervision()
    assert str(caught.value) == "to_supervision needs the package supervision, which is not installed"
    assert caught.value.hint == "Install it with: pip install supervision"


@pytest.fixture
def supervision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself where it is installed, else one of the same signature."""
    try:
        import supervision  # noqa: F401 - it is there
    except ImportError:
        (tmp_path / "supervision.py").write_text(SUPERVISION)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "supervision", raising=False)


@pytest.mark.usefixtures("supervision")
def test_supervision_gets_copies_and_the_class_names(found: Detections, empty: Detections) -> None:
    taken = found.to_supervision()
    np.testing.assert_array_equal(taken.xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(taken.confidence, found.scores)
    assert taken.class_id.tolist() == [1, 7]
    assert taken.data["class_name"].tolist() == ["ball", "class_7"]
    assert taken.xyxy.flags.writeable
    assert len(empty.to_supervision()) == 0
