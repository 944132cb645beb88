"""Run folders become paired differences: the right films, seeds and truth, or an error that says what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ceph.config.load import from_values
from ceph.errors import ConfigError, DataError
from ceph.evaluation import comparison, metrics
from ceph.evaluation.comparison import compare, differences, to_dict
from ceph.evaluation.runs import find_groups
from ceph.evaluation.scores import Group, choose_split, read_scores
from ceph.runfolder import Predictions, State, read_settings, values_of, write_predictions, write_state

LANDMARKS = ("Go", "Ar", "UMT")
IDS = tuple(f"film-{i}" for i in range(10))


def write_run(
    folder, errors=None, *, seed=0, lr=1e-3, ids=IDS, landmarks=LANDMARKS, split="validation", prints=None, true_x=0.0
):
    """A run folder as a run writes it: `errors` [F, K] in mm, NaN where there is no truth."""
    errors = np.ones((len(ids), len(landmarks))) if errors is None else errors
    folder.mkdir(parents=True)
    config = from_values({"data": {"path": "./films # 1"}, "train": {"seed": seed, "lr": lr}})
    (folder / "config.yaml").write_text(config.dump())
    truth = np.full((*errors.shape, 2), true_x)
    found = truth + np.stack([np.nan_to_num(errors) * 10, np.zeros_like(errors)], axis=-1)
    scored = Predictions(tuple(ids), tuple(landmarks), found, np.ones_like(errors), truth, errors)
    write_predictions(folder, split, scored)
    write_state(folder, State("finished"))
    if prints is not None:
        films, groups = ({split: {i: p[n] for i, p in prints.items()}} for n in (0, 1))
        (folder / "data_fingerprint.json").write_text(json.dumps({"films": films, "groups": groups}))
    return folder


def noise(seed, films=10, landmarks=3):
    return np.round(np.random.default_rng(seed).lognormal(0.3, 0.5, (films, landmarks)), 4)


def scores(*runs, split="validation"):
    return read_scores([(run.name, [run]) for run in runs], split)


def test_errors_are_read_as_they_were_written_and_a_missing_truth_stays_missing(tmp_path):
    errors = noise(0)
    errors[2, 1] = np.nan
    found = scores(write_run(tmp_path / "a", errors, seed=7), write_run(tmp_path / "b", errors))
    assert (found.ids, found.landmarks, found.split) == (IDS, LANDMARKS, "validation")
    assert [g.seeds for g in found.groups] == [(7,), (0,)]
    np.testing.assert_array_equal(found.groups[0].errors_mm[0], errors)


def test_the_figures_are_those_of_the_runs_themselves(tmp_path):
    errors = [noise(i) for i in range(4)]
    for e in errors:
        e[0, 0] = np.nan
    runs = [write_run(tmp_path / str(i), e, seed=i % 2, lr=1e-3 * (1 + i // 2)) for i, e in enumerate(errors)]
    [found] = compare(read_scores([("a", runs[:2]), ("b", runs[2:])], "validation"))
    own = [metrics.summarise(e, LANDMARKS, "mean") for e in errors]
    for difference, path in [
        (found.mre, ("mre_mm",)),
        *((d, ("sdr_percent", d.name.removeprefix("SDR "))) for d in found.sdr),
        *((d, ("per_landmark", d.name, "mre_mm")) for d in found.landmarks),
    ]:
        values = []
        for figures in own:
            for key in path:
                figures = figures[key]
            values.append(figures)
        assert difference.baseline == pytest.approx(np.mean(values[:2]))
        assert difference.other == pytest.approx(np.mean(values[2:]))
        assert difference.estimate.value == pytest.approx(difference.other - difference.baseline)
    assert {d.name: d.n for d in found.landmarks} == {"Go": 9, "Ar": 10, "UMT": 10}
    assert (found.films, found.units, found.seeds) == (10, 10, ((0, 1), (0, 1)))
    assert comparison.THRESHOLDS_MM == metrics.THRESHOLDS_MM


def test_a_gain_is_shown_and_the_same_run_again_shows_nothing(tmp_path):
    base = noise(0, films=40)
    ids = tuple(map(str, range(40)))
    better = base.copy()
    better[:, 0] *= 0.7
    one, two = compare(
        scores(
            write_run(tmp_path / "a", base, ids=ids),
            write_run(tmp_path / "b", better, ids=ids),
            write_run(tmp_path / "c", base, ids=ids),
        )
    )
    assert [d.name for d in one.landmarks if d.shown] == ["Go"]
    assert one.landmarks[0].name == "Go", "the largest gain is first"
    assert one.mre.shown
    assert one.mre.estimate.high < 0
    assert not any(d.shown for d in (two.mre, *two.sdr, *two.landmarks))
    assert all(d.p >= d.estimate.p for d in (*one.landmarks, *one.sdr))
    assert one.one_seed
    assert any("one seed of a" in note for note in one.notes)
    json.dumps(to_dict(one), allow_nan=False)


def test_films_of_one_group_or_of_the_same_pixels_are_one_unit(tmp_path):
    prints = {film: (f"pixels{i}:marks", f"patient{i}") for i, film in enumerate(IDS)}
    prints["film-1"] = ("pixels1:marks", "patient0")  # the patient of film 0
    prints["film-2"] = ("pixels1:other", "patient2")  # the pixels of film 1
    found = scores(write_run(tmp_path / "a", prints=prints), write_run(tmp_path / "b", prints=prints))
    assert len(set(found.units[:3])) == 1
    assert len(set(found.units)) == 8
    assert found.notes == ()


def test_without_a_fingerprint_each_film_is_its_own_unit_and_it_is_said(tmp_path):
    found = scores(write_run(tmp_path / "a"), write_run(tmp_path / "b"))
    assert len(set(found.units)) == 10
    assert "each film counts as independent" in found.notes[0]


def test_only_films_and_landmarks_that_all_have_scored_are_compared_and_it_is_said(tmp_path):
    few = write_run(tmp_path / "a", noise(0, films=8), ids=IDS[:0:-1][:8])
    found = scores(
        write_run(tmp_path / "b", noise(1)), few, write_run(tmp_path / "c", noise(2)[:, :2], landmarks=("UMT", "Go"))
    )
    assert found.ids == IDS[2:]
    assert found.landmarks == ("Go", "UMT")
    np.testing.assert_array_equal(found.groups[1].errors_mm[0], noise(0, films=8)[::-1][:, [0, 2]])
    np.testing.assert_array_equal(found.groups[2].errors_mm[0], noise(2)[2:, [1, 0]])
    assert found.notes[:2] == (
        "left out 2 films that not every run has scored",
        "left out landmarks that not every run has: Ar",
    )
    with pytest.raises(DataError, match="no film of validation in common"):
        scores(few, write_run(tmp_path / "d", ids=("other",)))


@pytest.mark.parametrize("kind", ["points", "digest"])
def test_runs_scored_against_different_truth_are_refused(tmp_path, kind):
    prints = {film: (f"p{film}:m{film}", film) for film in IDS}
    a = write_run(tmp_path / "a", prints=prints)
    if kind == "points":
        b = write_run(tmp_path / "b", true_x=0.5)
    else:
        b = write_run(tmp_path / "b", prints={**prints, "film-3": ("pfilm-3:new", "film-3")})
    with pytest.raises(DataError) as error:
        scores(a, b)
    text = str(error.value)
    assert str(a) in text
    assert str(b) in text
    assert ("film-0" if kind == "points" else "film-3") in text


def test_runs_of_fewer_landmarks_may_have_another_digest_of_the_marks(tmp_path):
    prints = [{film: (f"p{film}:{marks}", film) for film in IDS} for marks in "xy"]
    a = write_run(tmp_path / "a", prints=prints[0])
    b = write_run(tmp_path / "b", noise(1)[:, :2], landmarks=LANDMARKS[:2], prints=prints[1])
    assert scores(a, b).landmarks == LANDMARKS[:2]


def test_a_run_that_has_not_scored_the_split_is_told_how_to(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", split="test")
    with pytest.raises(ConfigError, match=f"ceph evaluate {b} --split validation"):
        scores(a, b)


def test_the_split_is_validation_or_the_only_one_that_all_have(tmp_path):
    a, b = write_run(tmp_path / "a", split="test1"), write_run(tmp_path / "b", split="test1")
    assert choose_split([("a", [a]), ("b", [b])]) == "test1"
    for run in (a, b):
        (run / "predictions-validation.csv").write_bytes((run / "predictions-test1.csv").read_bytes())
    assert choose_split([("a", [a]), ("b", [b])]) == "validation"


def test_a_seed_twice_in_one_group_is_refused(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    with pytest.raises(ConfigError, match="seed 0 twice"):
        read_scores([("a", [a, b])], "validation")


def test_runs_are_grouped_by_their_config(tmp_path):
    base = [write_run(tmp_path / f"base-s{s}", seed=s) for s in range(3)]
    low = [write_run(tmp_path / f"low-s{s}", seed=s, lr=1e-4) for s in range(3)]
    expected = [("base", base), ("low", low)]
    assert find_groups([*base, *low]) == expected
    assert find_groups([base[0], low[0], *base[1:], *low[1:]]) == expected
    assert find_groups([low[0], base[0]]) == [("low-s0", low[:1]), ("base-s0", base[:1])]


def test_a_folder_of_runs_is_one_group_of_one_config(tmp_path):
    runs = [write_run(tmp_path / "base" / str(s), seed=s) for s in range(2)]
    other = write_run(tmp_path / "other")
    assert find_groups([tmp_path / "base", other]) == [("base", runs), ("other", [other])]
    write_run(tmp_path / "base" / "2", seed=2, lr=1e-4)
    with pytest.raises(ConfigError, match=r"train.lr is 0.001 in 0, 0.0001 in 2"):
        find_groups([tmp_path / "base", other])


def test_runs_from_other_initial_weights_are_another_config(tmp_path):
    def started(folder, source, **settings):
        run = write_run(folder, **settings)
        (run / "environment.json").write_text(json.dumps({"init_from": source and str(source)}))
        return run

    base = [write_run(tmp_path / f"base-s{s}", seed=s, lr=1e-4) for s in range(2)]
    other = write_run(tmp_path / "other", lr=1e-2)
    none = [started(tmp_path / f"none-s{s}", None, seed=s) for s in range(2)]
    tuned = [started(tmp_path / f"tuned-s{s}", base[s], seed=s) for s in range(2)]
    rest = [started(tmp_path / "rest", other), started(tmp_path / "file", tmp_path / "weights.safetensors")]
    found = find_groups([*none, *tuned, *rest])
    assert found == [("none", none), ("tuned", tuned), *((run.name, [run]) for run in rest)]


def test_groups_of_the_same_name_are_told_apart(tmp_path):
    one, two = write_run(tmp_path / "x" / "run"), write_run(tmp_path / "y" / "run", lr=1e-4)
    assert [name for name, _ in find_groups([one, two])] == ["x/run", "y/run"]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run folder and holds none"):
        find_groups([tmp_path])


def test_settings_are_read_as_a_run_writes_them(tmp_path):
    resolved = from_values(
        {"data": {"path": './a # "b": c'}, "train": {"seed": 3}, "plugins": {"weighted-loss": {}, "hard-mining": {}}}
    )
    (tmp_path / "config.yaml").write_text(resolved.dump())
    settings = values_of(read_settings(tmp_path))
    assert settings.keys() == {
        key for key in resolved.provenance if key not in {f"plugins.{n}" for n in resolved.plugins}
    }
    assert settings["train.seed"] == "3"
    assert settings["data.path"].startswith('"')
    assert settings["data.path"].endswith('c"')
    assert settings["data.size"] == "[512, 416]"


@pytest.mark.parametrize(
    "text", ["train: {seed: 1}\n", "train:\n  lr: 1\n", "train:\n  seed: x\n", "- a\n", "a:\n   b: 1\n"]
)
def test_a_config_that_no_run_wrote_is_refused(tmp_path, text):
    run = write_run(tmp_path / "a")
    (run / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"config\.yaml"):
        scores(run)


def test_every_seed_counts_whatever_its_number():
    errors = np.random.default_rng(0).lognormal(size=(5, 10, 3))
    a, b = Group("a", (), (0, 1, 2), errors[:3]), Group("b", (), (1, 7), errors[3:])
    found = differences(a, b, np.arange(10), LANDMARKS)
    assert found.seeds == ((0, 1, 2), (1, 7))
    assert (found.notes, found.one_seed) == ((), False)
    assert (found.mre.baseline, found.mre.other) == pytest.approx((errors[:3].mean(), errors[3:].mean()))


def test_runs_of_one_training_are_subtracted_seed_by_seed_and_it_is_said():
    rng = np.random.default_rng(0)
    trained = rng.lognormal(size=(3, 40, 3)) + rng.uniform(0, 2, (3, 1, 1))
    decoded = trained[[2, 0, 1]] * 0.97
    found = differences(
        Group("a", (), (0, 1, 2), trained), Group("b", (), (2, 0, 1), decoded), np.arange(40), LANDMARKS
    )
    assert found.mre.shown
    assert any("pairs" in note for note in found.notes)
    apart = differences(
        Group("a", (), (0, 1, 2), trained), Group("b", (), (3, 4, 5), decoded), np.arange(40), LANDMARKS
    )
    assert not apart.mre.shown


def test_counts_that_four_films_carry_are_not_called_shown():
    base = np.full((2, 128, 3), 1.9)
    other = base.copy()
    base[:, :4] = 2.1  # of both seeds, the first four films
    found = differences(Group("a", (), (0, 1), base), Group("b", (), (0, 1), other), np.arange(128), LANDMARKS)
    rate = found.sdr[0]
    assert (rate.estimate.p, rate.shown) == (2 / 16, False)
    assert rate.estimate.low < 0 < rate.estimate.value


HEADER = "image_id,symbol,x_px,y_px,score,true_x_px,true_y_px,error_mm"
GOOD = "f,Go,1,2,0.5,1,2,0.0"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["image_id,symbol", GOOD], ":1: the header must be"),
        ([], ":1: the header must be"),
        ([HEADER], "holds no predictions"),
        ([HEADER, "f,Go,1,2,0.5,1,2"], ":2: 7 values where there must be 8"),
        ([HEADER, GOOD, "f,Ar,1,x,0.5,1,2,0.0"], ":3: y_px must be a number, not 'x'"),
        ([HEADER, "f,Go,1,2,0.5,1,2,nan"], ":2: error_mm must be a number"),
        ([HEADER, "f,Go,1,2,0.5,1,2,1e999"], ":2: error_mm must be a number"),
        ([HEADER, "f,Go,1,2,0.5,1,2,-1"], ":2: error_mm must not be negative"),
        ([HEADER, "f,Go,1,2,0.5,1,,0.0"], ":2: the truth and its error must be given together"),
        ([HEADER, GOOD, GOOD], ":3: Go of f stands there twice"),
        ([HEADER, GOOD, "g,Ar,1,2,0.5,1,2,0.0"], "Ar of f is missing"),
        ([HEADER, 'f,"Go'], ":2: is not CSV"),
    ],
)
def test_malformed_predictions_are_refused_with_file_and_line(tmp_path, lines, what):
    run = write_run(tmp_path / "a")
    file = run / "predictions-validation.csv"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as error:
        scores(run)
    assert str(file) in str(error.value)
    assert what in str(error.value)


def test_no_truth_at_all_is_nothing_to_compare(tmp_path):
    nothing = np.full((10, 3), np.nan)
    with pytest.raises(DataError, match="nothing to compare"):
        compare(scores(write_run(tmp_path / "a", nothing), write_run(tmp_path / "b", nothing)))


@pytest.mark.parametrize(
    "text", ["{", '{"films": {"validation": 3}}', '{"films": {"validation": {"a": 1}}}', '{"groups": []}']
)
def test_a_malformed_fingerprint_is_refused(tmp_path, text):
    run = write_run(tmp_path / "a")
    (run / "data_fingerprint.json").write_text(text)
    with pytest.raises(DataError, match=r"data_fingerprint\.json"):
        scores(run)
