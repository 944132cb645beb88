"""`ceph data preview`: the picture shows films and points exactly as training loads them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.data.small_sets import shared_data

from ceph.cli.app import main
from ceph.config.load import from_values
from ceph.report.sheet import sheet
from ceph.run.prepare import prepare
from ceph.tools.preview import draw_films, preview, when_drawn
from ceph.training.engine import planned_epoch
from ceph.training.progress import Progress

SMALL = ("data.size=[96,80]", "data.workers=0", "train.batch_size=4", "train.epochs=3", "train.device=cpu")


def call(*words, settings=SMALL):
    return ["data", "preview", *(w for s in settings for w in ("--set", s)), *words]


def test_the_command_writes_the_picture_that_python_gives_and_says_so(tiny_set, tmp_path, capsys):
    out = tmp_path / "films.png"
    words = ("--data", str(tiny_set), "--plugin", "heavy-augmentation", "--seed", "5", "--films", "2", "--draws", "3")
    assert main(call(*words, "--out", str(out))) == 0
    text = capsys.readouterr().out
    with Image.open(out) as image:
        picture = np.asarray(image)
    values = {
        "data": {"path": str(tiny_set), "size": [96, 80], "workers": 0},
        "train": {"batch_size": 4, "epochs": 3, "device": "cpu", "seed": 5},
        "plugins": {"heavy-augmentation": {}},
    }
    assert np.array_equal(picture, preview(from_values(values), films=2, draws=3))
    assert f"wrote {out}, {picture.shape[1]} x {picture.shape[0]} px: 2 training films" in text
    assert list(tmp_path.iterdir()) == [out]


def test_the_picture_lies_in_the_current_folder_by_default(tiny_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(call("--data", str(tiny_set), "--films", "1", "--draws", "1")) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["preview.png"]


def test_each_draw_is_what_training_loads_in_that_epoch(tiny):
    plugins = {"heavy-augmentation": {}, "multi-scale": {"scales": [0.5, 1.0]}}
    config = from_values(tiny(data={"size": [96, 80]}, train={"epochs": 2}, plugins=plugins))
    rows = draw_films(config, films=3, draws=2)
    prepared = prepare(config)

    class Job:  # what planned_epoch reads of a job
        run, hooks = prepared.run, prepared.hooks

    shown = 0
    for epoch in (0, 1):
        plan = planned_epoch(Job, Progress(epoch=epoch))
        loaded = {
            prepared.run.samples[entry.film].id: prepared.train[entry] for batch in plan.batches for entry in batch
        }
        for row in rows:
            tile, item = row[1 + epoch], loaded.get(row[0].caption)
            if item is not None:
                assert np.array_equal(tile.image, item.image)
                assert np.array_equal(tile.points, item.points[item.valid])
                assert tile.caption.startswith(f"epoch {epoch + 1}")
                shown += 1
    assert shown >= 4


def test_the_first_column_is_the_plain_letterboxed_film(tiny):
    config = from_values(tiny(plugins={"heavy-augmentation": {}}))
    plain = from_values(tiny(data={"augmentation": "none"}))
    for row, other in zip(draw_films(config, 3, 1), draw_films(plain, 3, 1), strict=True):
        assert row[0].caption == other[0].caption
        assert np.array_equal(row[0].image, other[0].image)
        assert np.array_equal(other[0].image, other[1].image)  # without augmentation a draw is the film itself
        assert not np.array_equal(row[0].image, row[1].image)
        assert row[0].points.shape == (29, 2)


def test_growing_films_are_shown_at_the_sizes_they_grow_to(tiny):
    growing = {"mode": "progressive", "scales": [0.34], "grow_until": 2}
    config = from_values(tiny(data={"size": [96, 64]}, train={"epochs": 5}, plugins={"multi-scale": growing}))
    for row in draw_films(config, films=2, draws=3):
        assert [tile.image.shape for tile in row] == [(96, 64), (32, 32), (96, 64), (96, 64)]
        assert row[1].caption == "epoch 1, 32 x 32 px"
        assert row[3].caption.startswith("epoch ")


def test_more_draws_than_epochs_and_more_films_than_there_are_still_make_a_sheet(tiny):
    rows = draw_films(from_values(tiny(train={"epochs": 1, "batch_size": 5})), films=99, draws=4)
    assert len(rows) == 10  # of 12 films; the last 2 make no batch
    assert max(len(row) for row in rows) == 5
    assert all(len({tile.image.tobytes() for tile in row}) == len(row) > 1 for row in rows)
    assert sheet(rows).shape[2] == 3


def test_a_draw_that_an_epoch_leaves_out_is_the_next_one_and_none_is_shown_twice():
    assert when_drawn([True] * 9, [0, 4, 8]) == [0, 4, 8]
    assert when_drawn([True, True, True, True, False, True], [0, 4]) == [0, 5]
    assert when_drawn([True, True, False, False], [0, 1, 2, 3]) == [0, 1]
    assert when_drawn([True, False, True], [1, 2]) == [0, 2]


def test_another_seed_shows_other_films(tiny):
    ids = [[row[0].caption for row in draw_films(tiny(train={"seed": seed}), 4, 1)] for seed in (0, 1)]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--plugin", "heavy-augmentaton"), "did you mean 'heavy-augmentation'?"),
        (("--out", "nowhere/films.png"), "--out: cannot write nowhere/films.png: no such file or directory"),
    ],
)
def test_a_mistake_is_one_clear_message_and_exit_code_2(tiny_set, tmp_path, monkeypatch, capsys, words, what):
    monkeypatch.chdir(tmp_path)
    assert main(call("--data", str(tiny_set), "--films", "1", "--draws", "1", *words)) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("error:") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_real_films_keep_their_points_inside_the_picture():
    values = {"data": {"path": str(shared_data() / "isbi2015"), "mm_per_px": 0.25, "size": [240, 192], "workers": 0}}
    for row in draw_films({**values, "plugins": {"heavy-augmentation": {}}}, films=2, draws=2):
        assert row[0].points.shape == (19, 2)
        for tile in row:
            assert len(tile.points) > 12
            assert (tile.points > -0.5).all()
            assert (tile.points < np.array([192, 240]) - 0.5).all()
