"""Check a data set before training on it: films, points, readers, copies. `ceph.data.check.check` does all of it."""
