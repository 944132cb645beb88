"""The next fine-tune is chosen from a run's errors by rules; each has a case for it and a case against it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import ceph
from ceph.config.load import from_values, resolve
from ceph.data.formats.find import read
from ceph.data.geometry import letterbox_scale
from ceph.data.types import Sample
from ceph.errors import ConfigError, DataError
from ceph.run.train import check
from ceph.runfolder import State, write_state
from ceph.tools.suggest import MIN_FILMS, disagreement_mm, suggest, weigh
from ceph.tools.suggest import Evidence as Shown


@pytest.fixture
def shown(tiny, tiny_set, tmp_path):
    """A run folder as if it had made these errors: `error(film, symbol)` in mm, on the training films.

    `map_px` is the size of each error on the map; `epochs` are pairs of training and validation MRE in mm.
    """
    data = read(tiny_set)

    def make(error=lambda _film, _symbol: 1.0, *, map_px=3.0, epochs=(), **sections):
        resolved = from_values(tiny(**sections))
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text(resolved.dump())
        write_state(folder, State("finished"))
        records = [{"epoch": i, "train_mre_mm": t, "validation": {"mre_mm": v}} for i, (t, v) in enumerate(epochs)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
        films = [s for s in data.samples if s.split == "train"]
        with (folder / "predictions-train.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"])
            for n, sample in enumerate(films):
                off = map_px * 4 / letterbox_scale(sample.size, resolved.config.data.size)
                for symbol in data.landmarks:
                    mm = error(n, symbol)
                    row = [sample.id, symbol, 10 + off, 20, 0.9, *((10, 20, mm) if mm is not None else ("", "", ""))]
                    writer.writerow(row)
        return folder

    return make


def next_config(folder, tmp_path):
    """The config that is suggested after a run, read from the file as `ceph run` would."""
    file = tmp_path / "next.yaml"
    file.write_text(suggest(folder, split="train").text)
    return resolve(file).config


def varied(film, base=1.0, spread=0.2):
    """Errors that differ from film to film and average to `base` over twelve."""
    return base * (1 + spread * (film % 3 - 1))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_landmark_is_weighted_by_its_error_over_the_mean_and_never_more_than_the_hand_made_table(shown, tmp_path):
    worse = {"UMT": 100.0, "Go": 20.0}
    folder = shown(lambda film, symbol: varied(film, worse.get(symbol, 8.0)))
    mean = (100 + 20 + 27 * 8) / 29
    config = next_config(folder, tmp_path)
    assert config.plugins["weighted-loss"]["weights"] == {"UMT": 2.5, "Go": round(20 / mean, 1)}
    assert config.plugins["weighted-loss"]["other"] == 1.0


def test_an_error_within_its_own_doubt_is_not_chased(shown, tmp_path):
    # Half as large again as the mean, but only because of one film out of twelve.
    folder = shown(lambda film, symbol: 70.0 if symbol == "UMT" and film == 3 else 10.0)
    assert "weighted-loss" not in next_config(folder, tmp_path).plugins
    assert "no landmark is hard beyond doubt" in suggest(folder, split="train").text


def evidence(errors_mm, **known):
    landmarks = tuple(f"L{k}" for k in range(errors_mm.shape[1]))
    return Shown(landmarks, errors_mm, errors_mm, 0.3, **{"disagreement_mm": np.full(len(landmarks), np.nan), **known})


def test_of_equally_hard_landmarks_on_twenty_films_hardly_one_is_weighted():
    rng = np.random.default_rng(0)
    found = [len(weigh(evidence(rng.gamma(2.0, 0.8, (20, 29))))) for _ in range(100)]
    assert np.mean(found) < 1
    hard = np.ones(29)
    hard[7] = 2.0
    assert all("L7" in [c.key[0] for c in weigh(evidence(rng.gamma(4.0, 0.4, (20, 29)) * hard))] for _ in range(50))


def test_a_landmark_is_left_alone_where_its_readers_are_as_far_apart():
    errors = np.tile(np.where(np.arange(10) == 4, 3.0, 1.0), (20, 1)) * np.linspace(0.9, 1.1, 20)[:, None]
    apart = np.full(10, np.nan)
    for readers_mm, weight in ((2.9, 2.5), (3.1, 1.0)):
        apart[4] = readers_mm
        (found,) = weigh(evidence(errors, disagreement_mm=apart))
        assert (found.key, found.value) == (("L4",), weight)
        assert f"its readers are {readers_mm:.2f} mm apart" in found.reason


def test_too_few_films_tell_no_landmark_from_another():
    errors = np.tile(np.where(np.arange(10) == 4, 9.0, 1.0), (MIN_FILMS - 1, 1))
    assert weigh(evidence(errors)) == []
    assert len(weigh(evidence(np.vstack([errors, errors[:1]])))) == 1


def test_a_weight_counts_what_readers_disagree_on_only_once(shown, tmp_path):
    hard = {"UMT": 40.0}
    own = {"weighted-loss": {"weights": {"Pog": 2.0}, "noise_aware": True}}
    config = next_config(shown(lambda film, s: varied(film, hard.get(s, 8.0)), plugins=own), tmp_path)
    assert config.plugins["weighted-loss"]["weights"] == {"UMT": 2.5}  # the run's own table is gone
    assert not config.plugins["weighted-loss"]["noise_aware"]


def test_weights_that_follow_the_errors_stay(shown, tmp_path):
    own = {"weighted-loss": {"weights": "auto"}}
    config = next_config(shown(lambda film, s: varied(film, 40.0 if s == "UMT" else 8.0), plugins=own), tmp_path)
    assert config.plugins["weighted-loss"]["weights"] == "auto"


def test_readers_are_apart_by_what_is_left_without_their_convention():
    rng = np.random.default_rng(1)
    one = rng.uniform(50, 60, (30, 3, 2))
    noise = rng.normal(0, 1, (30, 3, 2)) * np.array([0, 1, 3.0])[:, None]
    other = one + np.array([20.0, -7.0]) + noise
    valid = np.ones((30, 2, 3), dtype=bool)
    valid[MIN_FILMS - 1 :, 1, 2] = False
    points = np.where(valid[..., None], np.stack([one, other], 1), np.nan)
    samples = [Sample(str(n), "train", "", "", (9, 9), 0.5, points[n], valid[n], None) for n in range(30)]
    apart = disagreement_mm(samples)
    assert apart[0] == pytest.approx(0, abs=1e-9)
    assert apart[1] == pytest.approx(0.5 * np.sqrt(np.pi / 2), rel=0.2)  # the mean of a Rayleigh distance
    assert np.isnan(apart[2])  # marked by both in too few films


# --- mining, size, augmentation, schedule -----------------------------------------------------------------------------


def test_films_are_mined_where_a_few_hold_much_of_the_error(shown, tmp_path):
    folder = shown(lambda film, _: 9.0 if film < 2 else 2.0)  # 18 of 38 mm in two films of twelve
    config = next_config(folder, tmp_path)
    assert config.plugins["hard-mining"]["films"]
    assert not config.plugins["hard-mining"]["landmarks"]
    assert "the worst 2 of 12 films hold 47% of the error" in suggest(folder, split="train").text


def test_films_of_equal_error_are_not_mined(shown, tmp_path):
    assert "hard-mining" not in next_config(shown(lambda film, _: varied(film)), tmp_path).plugins


def test_a_run_that_mined_goes_on_with_its_own_settings(shown, tmp_path):
    own = {"hard-mining": {"keep": 0.7}}
    config = next_config(shown(lambda film, _: 9.0 if film < 2 else 2.0, plugins=own), tmp_path)
    assert (config.plugins["hard-mining"]["keep"], config.plugins["hard-mining"]["landmarks"]) == (0.7, True)


@pytest.mark.parametrize(
    ("size", "map_px", "then"),
    [
        ([192, 160], 1.0, (256, 224)),
        ([192, 160], 2.0, (192, 160)),  # coarser than its map
        ([64, 64], 1.4, (96, 96)),
        ([1024, 864], 1.0, (1024, 864)),  # as large as it goes
        ([480, 480], 1.0, (480, 480)),  # the films are 330 px high
    ],
)
def test_the_size_grows_by_a_third_only_while_the_map_is_coarser_than_the_errors(shown, tmp_path, size, map_px, then):
    config = next_config(shown(map_px=map_px, data={"size": size}, train={"batch_size": 4}), tmp_path)
    grown = then != tuple(size)
    assert config.data.size == then
    assert (config.train.batch_size, config.train.accumulate) == ((2, 2) if grown else (4, 1))


def test_a_768_run_grows_to_the_size_of_high_res():
    from ceph.tools.suggest import _grown

    assert _grown(resolve(preset="base").config.data.size) == resolve(preset="high-res").config.data.size
    assert _grown((960, 960)) == (1024, 1024)
    assert _grown((1030, 900)) == (1030, 900)


@pytest.mark.parametrize(
    ("epochs", "plugins", "strength"),
    [
        ([(3.0, 4.0), (1.0, 2.0), (0.5, 2.1)], {}, 1.0),  # at the best epoch, 50 %
        ([(3.0, 4.0), (1.8, 2.0)], {}, None),
        ([], {}, None),
        ([(1.0, 2.0)], {"heavy-augmentation": {"strength": 0.7}}, 1.2),
        ([(1.0, 2.0)], {"heavy-augmentation": {"strength": 2.0}}, 2.0),
        ([(1.8, 2.0)], {"heavy-augmentation": {"strength": 0.7}}, 0.7),
    ],
)
def test_augmentation_grows_where_the_training_error_is_far_below(shown, tmp_path, epochs, plugins, strength):
    config = next_config(shown(epochs=epochs, plugins=plugins), tmp_path)
    assert config.plugins.get("heavy-augmentation", {}).get("strength") == strength


@pytest.mark.parametrize("loss", ["cross-entropy", "adaptive-wing"])
def test_the_fine_tune_is_short_and_slow_and_keeps_the_loss(shown, tmp_path, loss):
    folder = shown(loss={"name": loss}, train={"lr": 2e-3, "epochs": 90, "stop_after": 50, "seed": 5})
    config, preset = next_config(folder, tmp_path), resolve(preset="fine-tune-hard").config
    assert config.train.lr == 2e-4
    assert (config.train.epochs, config.train.warmup_epochs) == (preset.train.epochs, preset.train.warmup_epochs)
    assert (config.loss.name, config.train.stop_after, config.train.seed) == (loss, None, 5)


def test_every_choice_stands_in_the_text_with_its_reason(shown):
    found = suggest(shown(lambda film, s: varied(film, 40.0 if s == "N`" else 8.0), map_px=1.0), split="train")
    comments = " ".join(part.partition("#")[2].strip() for part in found.text.splitlines())
    assert len(found.choices) > 8
    for choice in found.choices:
        assert choice.reason in comments
    assert max(map(len, found.text.splitlines())) <= 120


LONER = '''
from ceph.plugin import Plugin, PluginConfig, hookimpl


class Loner(Plugin[PluginConfig]):
    """Goes with no mining."""

    conflicts = ("hard-mining",)

    @hookimpl
    def run_start(self):
        pass
'''


def test_a_plugin_that_does_not_go_with_the_run_s_is_left_off_and_the_text_says_why(shown, tmp_path):
    (tmp_path / "loner.py").write_text(LONER)
    plugins = {"loner": {"from": str(tmp_path / "loner.py")}}
    folder = shown(lambda film, _: 9.0 if film < 2 else 2.0, plugins=plugins)
    ceph.trust(tmp_path / "loner.py")
    assert list(next_config(folder, tmp_path).plugins) == ["loner"]
    text = " ".join(line.lstrip("# ") for line in suggest(folder, split="train").text.splitlines())
    assert "But it cannot be switched on here: cannot be combined with the plugin" in text


@pytest.mark.parametrize(
    ("validation", "unfinished"),
    [
        ((15.0, 6.5), True),
        ((9, 5, 3, 2, 1.7), True),
        ((9, 5, 3, 2, 1.9), False),
        ((9, 5, 3, 1.5, 1.7), False),
        ((), False),
    ],
)
def test_a_run_that_was_still_getting_better_is_called_so(shown, validation, unfinished):
    text = suggest(shown(epochs=[(v, v) for v in validation]), split="train").text
    assert ("# The run was not done: its validation error fell from" in text) == unfinished


def test_films_that_stayed_hard_are_counted_and_their_list_is_named(shown):
    folder = shown()
    assert "hard-films.csv" not in suggest(folder, split="train").text
    rows = ["image_id,error_mm,epochs_in_hardest,epochs,set_aside", "a,9,5,6,1", "b,8,3,6,0", "c,2,1,6,0"]
    (folder / "hard-films.csv").write_text("\n".join(rows) + "\n")
    text = " ".join(line.lstrip("# ") for line in suggest(folder, split="train").text.splitlines())
    assert "2 training films stayed hard, 1 of them suspected of a label error: look at their labels first" in text
    assert str(folder / "hard-films.csv") in text


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["test", "test1"])
def test_a_test_split_is_refused_even_where_its_predictions_are_there(shown, split):
    folder = shown()
    (folder / "predictions-train.csv").rename(folder / f"predictions-{split}.csv")
    with pytest.raises(ConfigError, match="makes its figures worthless"):
        suggest(folder, split=split)


def test_what_is_missing_or_damaged_is_named(shown, tmp_path):
    with pytest.raises(ConfigError, match="is no run folder"):
        suggest(tmp_path)
    folder = shown()
    with pytest.raises(ConfigError, match=r"(?s)no predictions-validation.csv.*ceph evaluate .* --split validation"):
        suggest(folder)
    with pytest.raises(ConfigError, match=r"(?s)no split 'validaton'.*did you mean 'validation'"):
        suggest(folder, split="validaton")
    path = folder / "predictions-train.csv"
    whole = path.read_text()
    for damaged in ("", "a,b\n1,2\n", whole.replace("error_mm", "error"), whole.rsplit("\n", 2)[0], whole + "x,y\n"):
        path.write_text(damaged)
        with pytest.raises(DataError, match="predictions-train.csv"):
            suggest(folder, split="train")
    path.write_text(whole.replace(whole.splitlines()[1].split(",")[0], "another-film"))
    with pytest.raises(DataError, match="film another-film is not in the data"):
        suggest(folder, split="train")


def test_points_without_truth_do_not_count(shown, tmp_path):
    folder = shown(lambda film, s: None if film == 0 or s == "UMT" else varied(film))
    assert "hard-mining" not in next_config(folder, tmp_path).plugins
    with pytest.raises(DataError, match="no truth"):
        suggest(without_truth(folder), split="train")


def without_truth(folder):
    """The same folder, its predictions without a truth."""
    rows = [row.split(",") for row in (folder / "predictions-train.csv").read_text().splitlines()]
    text = "\n".join(",".join(row if n == 0 else [*row[:5], "", "", ""]) for n, row in enumerate(rows))
    (folder / "predictions-train.csv").write_text(text + "\n")
    return folder


# --- end to end -------------------------------------------------------------------------------------------------------


def test_a_trained_run_is_fine_tuned_by_what_is_suggested_from_wherever_it_is_written(tiny, tmp_path, monkeypatch):
    first = ceph.train(tiny(train={"lr": 3e-3}, plugins={"hard-mining": {"warmup_epochs": 0}}), out=tmp_path / "first")
    ceph.load(first.folder).evaluate("train")
    monkeypatch.chdir(tmp_path)
    for split in ("validation", "train"):
        found = suggest("first", split=split)
        file = tmp_path / "elsewhere" / f"{split}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(found.text)
        monkeypatch.chdir(file.parent)
        config = resolve(file).config
        assert "12 train, 2 validation" in check(resolve(file))
        assert config.data.path == resolve(first.folder / "config.yaml").config.data.path
        assert config.train.lr == 3e-4
        monkeypatch.chdir(tmp_path)
    assert found.command("next one.yaml") == "ceph run 'next one.yaml' --init-from first"
    tuned = ceph.train(resolve(file, settings=["train.stop_after=2"]), out=tmp_path / "tuned", init_from="first")
    rates = [json.loads(line)["lr"] for line in (tuned.folder / "metrics.jsonl").read_text().splitlines()]
    assert rates[1] == pytest.approx([3e-4, 3e-4])
