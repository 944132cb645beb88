"""The marking tools' own code takes what `ceph predict` writes, and what it writes of that is read here again."""

from __future__ import annotations

import json

import pytest
from tests.data.test_formats_strangers import point, predicted

from ceph.data.formats.find import read

pytestmark = pytest.mark.slow  # where the tool's package is installed


def test_labelme_opens_and_saves_a_film(tmp_path):
    labelme = pytest.importorskip("labelme._label_file", reason="needs the package labelme")
    file = str(predicted(tmp_path, "labelme") / "001.json")
    found = labelme.read_label_file(file)
    shapes = [{**shape.pop("other_data"), **shape} for shape in found.shapes]  # as its window does
    assert [shape["score"] for shape in shapes] == [0.9, 0.8]
    more = {"image_height": 80, "image_width": 64, "other_data": found.other_data, "flags": found.flags}
    labelme.write_label_file(file, shapes=shapes, image_path=found.image_path, **more)
    data = read(tmp_path, mm_per_px=0.1)
    assert data.readers == ("corrected",)
    assert (point(data, "001", "S"), point(data, "001", "N")) == ((1.5, 2.25), (30.125, 39.3))


@pytest.mark.parametrize(("kind", "name"), [("cvat", "cvat"), ("coco", "coco_person_keypoints")])
def test_datumaro_imports_cvat_s_points_and_coco_s_keypoints(tmp_path, kind, name):
    datumaro = pytest.importorskip("datumaro", reason="needs the package datumaro")
    folder = predicted(tmp_path / "set", kind)
    if kind == "coco":
        text = (folder / "points.json").read_text().replace(f"{folder}/", "")  # as when predicted from there
        (folder / "points.json").unlink()
        for name_, content in (("annotations/person_keypoints_train.json", text), ("images/train/.keep", "")):
            (folder / name_).parent.mkdir(parents=True)
            (folder / name_).write_text(content)
    else:
        (folder / "images").mkdir()
        (folder / "001.png").rename(folder / "images/001.png")
    [item] = datumaro.Dataset.import_from(str(folder), name)
    corner = 0.5 if kind == "cvat" else 0.0  # COCO's pixels are counted from the first one's centre
    found = [value - corner for one in item.annotations if hasattr(one, "points") for value in one.points][:4]
    assert found == pytest.approx([1.5, 2.25, 30.125, 39.3], abs=0.01)


def test_label_studio_s_own_check_finds_no_fault_with_a_prediction(tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="needs the package label-studio-sdk")
    [task] = json.loads((predicted(tmp_path, "labelstudio") / "points.json").read_text())
    labels = "".join(f'<Label value="{symbol}"/>' for symbol in task["data"]["landmarks"])
    tags = f'<Image name="image" value="$image"/><KeyPointLabels name="landmarks" toName="image">{labels}'
    view = interface.LabelInterface(f"<View>{tags}</KeyPointLabels></View>")
    assert [view.validate_prediction(one, return_errors=True) for one in task["predictions"]] == [[]]
