"""Films that nobody marked train beside the others, and are never test films."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.training.runs import last_weights, same_weights
from tests.training.test_sampling_runs import StopAt

import ceph
from ceph.errors import CephError, Interrupted

WATCHES = '''
import json
from ceph.plugin import Plugin, PluginConfig, hookimpl

class Watches(Plugin[PluginConfig]):
    """Writes down what it sees of marked and unmarked films; trains all of them to be dark."""

    seen = ()

    @hookimpl
    def run_start(self, run):
        self.folder = str(run.folder)
        self.films = [len(run.samples), len(run.unmarked)]

    @hookimpl
    def extras(self, truth, look):
        return {"window": look(truth[0][:1], 10.0, 4)}

    @hookimpl
    def sample_weights(self, samples):
        self.films.append(len(samples))

    @hookimpl
    def loss_terms(self, batch, pred):
        self.seen = (*self.seen, [batch.index.tolist(), batch.valid.any(1).tolist(), batch.mm_per_px.tolist()])
        return {"dark": (pred.mean((1, 2, 3)) * (batch.index < 0)).mean()}

    @hookimpl
    def epoch_end(self, samples, loss):
        with open(self.folder + "/seen.json", "w") as file:
            json.dump([self.films, len(samples), loss.isnan().any(1).sum().item(), self.seen], file)
'''


@pytest.fixture
def config(tiny, tiny_set, tmp_path):
    """A run of twelve marked films (its twelve training films) beside five copies of others, named anew."""
    import cv2

    from ceph.data.synthetic.sets import draw

    (tmp_path / "watches.py").write_text(WATCHES)
    folder = tmp_path / "unmarked"
    (folder / "below").mkdir(parents=True)
    for number in range(5):
        film = draw(100 + number, height=330)
        cv2.imwrite(str(folder / ("below" if number else ".") / f"{number}.png"), film.image)

    def make(**data):
        return tiny(
            data={"unmarked": str(folder), **data},
            train={"batch_size": 6},
            plugins={"watches": {"from": str(tmp_path / "watches.py")}},
        )

    make.folder = folder
    return make


def test_each_batch_has_its_share_of_them_and_the_epoch_is_one_pass_over_the_marked(config, tmp_path):
    run = ceph.train(config(unmarked_share=0.33), out=tmp_path / "run")
    films, samples, missing, seen = json.loads((run.folder / "seen.json").read_text())
    assert films[:2] == [12, 5]
    assert set(films[2:]) == {12}
    assert samples == 12
    assert missing == 0  # each marked film was drawn once an epoch, and has its loss
    assert len(seen) == 6  # two epochs of three batches: four marked, two unmarked
    for index, valid, mm_per_px in seen:
        assert [place >= 0 for place in index] == [True] * 4 + [False] * 2
        assert valid == [True] * 4 + [False] * 2
        assert max(mm_per_px[4:]) < 1.5 * max(mm_per_px[:4])
        assert min(mm_per_px) > 0
    assert json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])["films"] == 18
    kept = json.loads((run.folder / "data_fingerprint.json").read_text())["films"]
    assert sorted(kept["unmarked"]) == ["0", *(f"below/{n}" for n in range(1, 5))]


def test_workers_and_a_stop_change_nothing(config, tmp_path):
    whole = last_weights(ceph.train(config(), out=tmp_path / "whole").folder)
    with pytest.raises(Interrupted):
        ceph.train(config(workers=2), out=tmp_path / "run", watcher=StopAt(6))  # the second of four of the second epoch
    ceph.resume(tmp_path / "run")
    assert same_weights(whole, last_weights(tmp_path / "run"))


def test_a_test_film_among_them_is_refused_by_its_bytes(config, tiny_set, tmp_path):
    film = min((tiny_set / "test" / "Cephalograms").iterdir())
    shutil.copy(film, config.folder / "renamed.png")
    with pytest.raises(CephError, match=r"renamed\.png is .*, of the split test") as caught:
        ceph.train(config(), out=tmp_path / "run")
    assert "data.unmarked" in str(caught.value)


def test_test_films_of_their_own_set_are_refused(config, tiny_set, tmp_path):
    with pytest.raises(CephError, match="of the split test"):
        ceph.train(config(unmarked=str(tiny_set)), out=tmp_path / "run")
    (config.folder / "ceph-films.csv").write_text("film,split,mm_per_px\n0,,0.4\n1,test2,\n")
    with pytest.raises(CephError, match=r"1\.png is of the split test2"):
        ceph.train(config(), out=tmp_path / "run")


@pytest.mark.parametrize(("folder", "words"), [("none", "no folder"), (".", "no film")])
def test_a_folder_without_films_is_told(config, tmp_path, folder, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CephError, match=words):
        ceph.train(config(unmarked=str(tmp_path / "empty" / folder)), out=tmp_path / "run")
