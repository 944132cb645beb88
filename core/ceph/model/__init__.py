"""The network, its weights, and the codec between points and maps."""

from ceph.model import zoo  # noqa: F401 - before anything imports timm
