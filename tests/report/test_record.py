"""A run folder is read as far as it can be; what is damaged is named."""

from __future__ import annotations

import numpy as np
from tests.report.folders import write_run

from ceph.report.record import read_record
from ceph.runfolder import Setting, read_settings


def test_all_that_a_run_wrote_is_read(tmp_path):
    record = read_record(write_run(tmp_path / "r", splits=("test1", "validation")))
    assert record.notes == ()
    assert list(record.splits) == ["validation", "test1"]
    assert record.splits["validation"].errors_mm.shape == (8, 3)
    np.testing.assert_allclose(record.splits["validation"].errors_mm[:, 0], 0.5 * np.arange(1, 9))
    assert len(record.epochs) == 3
    assert record.setting("train", "seed") == "7"
    assert Setting(("train", "epochs"), "3", "--set") in record.settings
    assert list(record.plugins) == ["hard-mining"]
    assert record.state.state == "finished"
    assert record.log[-1] == ("INFO", "done: validation MRE 1.0 mm, best epoch 2")


def test_an_empty_folder_is_an_empty_record(tmp_path):
    record = read_record(tmp_path)
    assert (record.notes, record.epochs, record.tables, record.settings) == ((), (), (), ())
    assert (record.state, record.splits, record.setting("train", "seed")) == (None, {}, "")


def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path):
    run = write_run(tmp_path / "r")
    (run / "metrics.jsonl").write_text('{"epoch": 0}\n{"epo')
    (run / "environment.json").write_text("[1, 2")
    (run / "predictions-test.csv").write_text("image_id,symbol\na,S\n")
    (run / "broken.csv").write_text("a,b\n1\n")
    record = read_record(run)
    named = " ".join(record.notes)
    for file in ("metrics.jsonl", "environment.json", "predictions-test.csv", "broken.csv"):
        assert file in named
    assert list(record.splits) == ["validation"]


def test_quoted_keys_and_values_with_a_hash_are_settings(tmp_path):
    (tmp_path / "config.yaml").write_text('plugins:\n  "a: b":   # --plugin\n    text: "x # y"  # file\n')
    assert read_settings(tmp_path) == (
        Setting(("plugins",), "", ""),
        Setting(("plugins", "a: b"), "", "--plugin"),
        Setting(("plugins", "a: b", "text"), '"x # y"', "file"),
    )


def test_a_real_run_is_read_without_a_complaint(real_run):
    record = read_record(real_run)
    assert record.notes == ()
    assert [table.name for table in record.tables] == ["hard-films.csv"]
    assert set(record.splits) == {"validation", "test"}
    assert record.films["train"] > 0


def test_each_epoch_of_a_real_run_has_the_sizes_and_the_weights_of_landmarks(real_run):
    epochs = read_record(real_run).epochs
    for epoch in epochs:
        assert sum(epoch["sizes"].values()) == epoch["films"]
    assert len({size for epoch in epochs for size in epoch["sizes"]}) > 1
    weights = np.array(list(epochs[-1]["landmark_weights"].values()))
    assert np.isclose(weights.mean(), 1)
    assert np.ptp(weights) > 0.1
