"""The public door: what it offers, and random numbers that depend on their keys alone."""

import ceph.plugin as door


def test_every_name_of_the_door_is_there_once_and_sorted_as_written():
    assert len(set(door.__all__)) == len(door.__all__)
    assert [name for name in door.__all__ if not hasattr(door, name)] == []


def test_a_generator_depends_on_its_keys_alone():
    def draw(*keys):
        return door.generator(*keys).random(3).tolist()

    assert draw(1, "ohkm", 2) == draw(1, "ohkm", 2)
    assert len({tuple(draw(*keys)) for keys in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", 0)]}) == 5
