"""Two machines train as two processes of one; one that is killed, or cut off, ends the job with one error."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from tests.distributed.launch import launch, until, written
from tests.distributed.machines import MINUTES, Loopback, Namespaces
from tests.training.runs import ALL, last_weights, same_weights

from ceph.errors import ConfigError, TrainingError
from ceph.training.ranks import connected, patience

EPOCHS = 6


@pytest.fixture(scope="module")
def whole(tiny_set, tmp_path_factory):
    """A config, and the weights in which two processes of one machine end."""
    folder = tmp_path_factory.mktemp("whole")
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": EPOCHS, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "plugins": ALL,
    }
    path = written(config, folder / "c.json")
    code, _, err = launch(2, "run", path, "--out", folder / "run")
    assert code == 0, err
    return path, last_weights(folder / "run")


@pytest.fixture(params=[Namespaces, Loopback])
def machines(request):
    made = request.param()
    yield made
    made.end()


def ended(jobs):
    """What each of them said, and its exit code."""
    said = [job.communicate(timeout=300)[1] for job in jobs]
    return [job.returncode for job in jobs], said


@pytest.mark.slow
def test_a_machine_that_is_gone_ends_the_job_and_it_goes_on_to_the_bits_of_two_processes(machines, whole, tmp_path):
    config, weights = whole
    jobs = machines.start("run", config, "--out", tmp_path / "run")
    until(tmp_path / "run", 2)
    machines.kill(jobs[1])
    codes, said = ended(jobs[:1])
    assert codes != [0]
    assert said[0].count("error: another process of this job has ended without a word") == 1
    assert said[0].count("error: ") == 1
    codes, said = ended(machines.start("run", "--resume", tmp_path / "run"))
    assert codes == [0, 0], said
    assert same_weights(last_weights(tmp_path / "run"), weights)


@pytest.mark.slow
def test_a_machine_that_is_cut_off_ends_the_job_in_time_with_one_error_and_nothing_is_lost(machines, whole, tmp_path):
    config, weights = whole
    run = tmp_path / "run"
    jobs = machines.start("run", config, "--out", run)
    until(run, 2)
    machines.cut(jobs)
    cut = time.monotonic()
    codes, said = ended([jobs[n] for n in machines.heard])
    assert 0 not in codes
    assert time.monotonic() - cut < 60 * MINUTES + 20
    for err in said:
        assert err.count(f"error: another process of this job has said nothing for {MINUTES} minutes") == 1
        assert err.count("error: ") == 1
        assert err.count("Traceback") == 1, err  # torchrun's own, of its end
    machines.mend(jobs)
    assert len((run / "metrics.jsonl").read_text().splitlines()) < EPOCHS
    codes, said = ended(machines.start("run", "--resume", run))
    assert codes == [0, 0], said
    assert same_weights(last_weights(run), weights)


def test_the_words_of_a_transport_that_waited_in_vain_are_those_of_a_silent_process(monkeypatch):
    monkeypatch.setenv("CEPH_TIMEOUT_MINUTES", "0.25")
    store, pair = dist.HashStore(), [None, None]

    def join(rank):
        pair[rank] = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=1))

    threads = [threading.Thread(target=join, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        with pytest.raises(TrainingError, match=r"said nothing for 0.25 minutes \(CEPH_TIMEOUT_MINUTES\)"), connected():
            pair[0].allreduce([torch.ones(1)]).wait()  # the other one is there and says nothing
    finally:
        dist.destroy_process_group()


def test_a_silent_process_is_waited_for_half_an_hour_or_as_long_as_was_asked(monkeypatch):
    monkeypatch.delenv("CEPH_TIMEOUT_MINUTES", raising=False)
    assert patience() == timedelta(minutes=30)
    monkeypatch.setenv("CEPH_TIMEOUT_MINUTES", "0.5")
    assert patience() == timedelta(seconds=30)
    for wrong in ("soon", "0", "-1", "nan", "inf", "1e300", ""):
        monkeypatch.setenv("CEPH_TIMEOUT_MINUTES", wrong)
        with pytest.raises(ConfigError, match="is no number of minutes"):
            patience()
