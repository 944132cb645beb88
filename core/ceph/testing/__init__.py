"""The conformance kit for authors of plugins: the rules that every plugin keeps, each as a check that pytest can run.

    import pytest
    from ceph.testing import checks
    from my_package import MyPlugin

    @pytest.mark.parametrize("check", checks(MyPlugin, neutral={"strength": 0}), ids=str)
    def test_conformance(check):
        check()

The same checks run from the shell: `ceph plugins check NAME`.
"""

from ceph.testing.contract import ConformanceWarning
from ceph.testing.suite import Check, checks, suite

__all__ = ["Check", "ConformanceWarning", "checks", "suite"]
