"""What a step showed of its films: errors in mm, and the moves that mend them along the axes of the film."""

import numpy as np
import pytest
import torch

from ceph.data.geometry import similarity, transform
from ceph.data.types import Batch
from ceph.model.codec import gaussians
from ceph.training.seen import off_mm


@pytest.mark.parametrize(("turn", "size"), [(0, 1.0), (90, 0.5), (-12, 1.15)])
def test_a_move_is_turned_back_to_the_film_and_as_long_as_the_error(turn, size):
    to_network = 0.5 * similarity(turn, size, (3, -2), (128, 128))
    to_network[2] = 0, 0, 1
    film_px, move_px = np.array([[[120.0, 130.0], [100.0, 150.0]]]), np.array([[[6.0, 0.0], [-4.0, 8.0]]])
    found, true = (torch.from_numpy(transform(to_network, at)).float() for at in (film_px, film_px + move_px))
    maps = gaussians(found, (128, 128), "distribution", 1.5, 1).log().clamp_min(-50)
    mm_per_px = torch.tensor([0.1 / (0.5 * size)])
    frame = torch.from_numpy(to_network)[None]
    image, valid, index = torch.zeros(1, 1, 128, 128), torch.ones(1, 2, dtype=torch.bool), torch.arange(1)
    errors, moves = off_mm(Batch(image, true, valid, index, mm_per_px, frame), maps, "distribution")
    np.testing.assert_allclose(moves.numpy(), 0.1 * move_px, atol=0.01)
    np.testing.assert_allclose(errors.numpy(), 0.1 * np.linalg.norm(move_px, axis=-1), atol=0.01)
