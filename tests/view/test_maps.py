"""A map is what the decoder reads a point from, and its matrix puts that point where the run has found it."""

from __future__ import annotations

import cv2
import numpy as np
import torch

import ceph
from ceph.data.geometry import transform
from ceph.data.images import read_film
from ceph.view.maps import OPAQUE, activation_maps, as_png


def test_the_map_and_its_matrix_give_the_points_of_predict(run, tiny_set):
    trained = ceph.load(run)
    path = min(tiny_set.rglob("*.png"))
    maps, to_film = activation_maps(trained, read_film(path))
    size = trained.ensemble.sizes[0]
    points, _ = trained.evaluator.stations.decoder.decode(torch.from_numpy(maps)[None], size)
    stride = size[1] / maps.shape[2]
    in_map = (points[0].double().numpy() + 0.5) / stride - 0.5
    (found,), _ = trained.predict([path])
    assert np.allclose(transform(to_film, in_map), found, atol=1e-3)


def test_a_picture_of_a_map_is_clear_where_there_is_nothing():
    values = np.zeros((3, 4), np.float32)
    values[1, 2], values[2, 3] = 0.02, 0.01
    picture = cv2.imdecode(np.frombuffer(as_png(values), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture[1, 2, 3] == OPAQUE
    assert abs(int(picture[2, 3, 3]) - OPAQUE / 2) <= 1
    assert (picture[0, :, 3] == 0).all()
