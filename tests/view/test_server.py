"""The server keeps to this machine: host names, a secret, films by their place; and answers with its own words."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from tests.view.conftest import errors, serving, table

import ceph
from ceph.data.images import read_film
from ceph.errors import ConfigError
from ceph.view.maps import activation_maps, as_png


def get(url, path="", host=None):
    """Status, headers and body of a request whose path goes out as it is written."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.putrequest("GET", parts.path + path, skip_host=True)
        connection.putheader("Host", host or parts.netloc)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_listens_to_this_machine_only(site):
    assert urlsplit(site).hostname == "127.0.0.1"


def test_a_foreign_host_name_is_refused(site):
    assert get(site)[0] == 200
    assert get(site, host="localhost:1")[0] == 200
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0"):
        assert get(site, host=host)[0] == 400


def test_without_the_secret_there_is_nothing(site):
    root = f"http://{urlsplit(site).netloc}"
    for path in ("/", "/runs", "/film/0/test/0", "/guess/", "/guess/film/0/test/0"):
        status, _, body = get(root, path)
        assert (status, b"open the address that `ceph view` printed" in body) == (404, True)


@pytest.mark.parametrize(
    "path",
    [
        "page/../server.py",
        "page/%2e%2e/server.py",
        "page/..%2f..%2f..%2fetc/passwd",
        "page//etc/passwd",
        "film/0/../0",
        "film/0/test/../../../config.yaml",
        "film/0/..%2f..%2fconfig/0",
        "films/0/..%2Fconfig",
        "film/0/test/-1",
        "film/0/test/x",
        "film/9/test/0",
        "film/0/nosplit/0",
        "map/0/test/0/99",
    ],
)
def test_no_path_leads_out(site, path):
    status, _, body = get(site, path)
    assert status == 404
    assert b"root:" not in body


def test_a_film_that_is_not_there_is_a_problem_in_words(site):
    status, _, body = get(site, "film/0/test/99")
    assert (status, json.loads(body)["problem"]) == (409, "the data set of good has no such film")


def test_other_pages_are_kept_out(site):
    for path in ("", "runs", "film/0/test/0", "nothing"):
        _, headers, _ = get(site, path)
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_films_come_with_every_point_in_their_own_pixels(site, good):
    answer = json.loads(get(site, "films/0/test")[2])
    lines = table(good / "predictions-test.csv")
    film = answer["films"][0]
    assert answer["landmarks"] == list(errors(good, "test")[film["id"]])
    assert [f["id"] for f in answer["films"]] == list(errors(good, "test"))
    first = lines[0]
    assert film["points"][0] == [float(first["x_px"]), float(first["y_px"])]
    assert film["truth"][0] == [float(first["true_x_px"]), float(first["true_y_px"])]
    assert (film["errors"][0], film["scores"][0]) == (float(first["error_mm"]), float(first["score"]))
    senior, junior = (np.array(marks) for marks in film["readers"].values())
    assert np.allclose((senior + junior) / 2, film["truth"], atol=0.02)
    apart = np.hypot(*(senior - junior).T) * film["mm_per_px"]
    assert np.allclose(film["apart"], apart, atol=0.01)


def test_a_film_is_the_film(site, tiny_set):
    answer = json.loads(get(site, "films/0/test")[2])
    for place, film in enumerate(answer["films"]):
        status, headers, body = get(site, f"film/0/test/{place}")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        (path,) = tiny_set.rglob(f"{film['id']}.png")
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (film["height"], film["width"])
        assert np.abs(picture.astype(float) - read_film(path)).mean() < 2


def test_a_map_comes_as_a_picture_with_its_place(site, run, tiny_set):
    film = json.loads(get(site, "films/2/test")[2])["films"][0]
    (path,) = tiny_set.rglob(f"{film['id']}.png")
    maps, matrix = activation_maps(ceph.load(run), read_film(path))
    for k in (0, 20):
        found = json.loads(get(site, f"map/2/test/0/{k}")[2])
        assert base64.b64decode(found["png"].removeprefix("data:image/png;base64,")) == as_png(maps[k])
        assert (found["height"], found["width"]) == maps[k].shape
        assert found["matrix"] == pytest.approx(matrix[:2].T.flatten().tolist())
        assert found["peak"] == pytest.approx(maps[k].max())


def test_a_broken_film_and_a_run_without_checkpoint_are_problems_in_words(run, tiny_set, tmp_path):
    films, other = tmp_path / "films", tmp_path / "other"
    shutil.copytree(tiny_set, films)
    shutil.copytree(run, other)
    shutil.rmtree(other / "checkpoints")
    film = next(iter(errors(run, "test")))
    with serving(other, data=films) as url:
        status, _, body = get(url, "map/0/test/0/0")
        assert (status, "there is no checkpoint" in json.loads(body)["problem"]) == (409, True)
        (path,) = films.rglob(f"{film}.png")
        path.write_bytes(path.read_bytes()[:2000])
        status, _, body = get(url, "film/0/test/0")
        assert (status, "damaged or cut off" in json.loads(body)["problem"]) == (409, True)


def test_a_damaged_table_names_its_line(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    path = other / "predictions-test.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], "1,2", *lines[6:]]))
    with serving(other) as url:
        status, _, body = get(url, "films/0/test")
    assert (status, "predictions-test.csv:6: 2 values" in json.loads(body)["problem"]) == (409, True)


def test_a_port_that_is_taken_is_said_so():
    from ceph.view.server import listen

    taken = listen(0)
    try:
        with pytest.raises(ConfigError, match=r"cannot listen at 127\.0\.0\.1:\d+: address already in use"):
            listen(taken.getsockname()[1])
    finally:
        taken.close()
