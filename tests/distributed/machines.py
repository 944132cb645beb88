"""Two machines of one job on one host: network namespaces joined by a cable, or two agents of the loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from tests.distributed.launch import ranks_of

MINUTES = 0.5  # that a silent machine is waited for


def _ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


class Machines:
    """Two agents of torchrun, a process each; the first is the meeting point."""

    inside, names, addresses = ((), ()), ("lo", "lo"), ("127.0.0.1", "127.0.0.1")

    def __init__(self):
        self.jobs = []

    def start(self, *words, **environment):
        """`torchrun --nnodes 2 ... -m ceph WORDS` on both."""
        with socket.socket() as free:
            free.bind(("", 0))
            port = str(free.getsockname()[1])
        meet = ("--master-addr", self.addresses[0], "--master-port", port)
        limits = {"OMP_NUM_THREADS": "1", "CEPH_TIMEOUT_MINUTES": str(MINUTES)}
        for number in (0, 1):
            torchrun = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meet)
            job = subprocess.Popen(
                [*self.inside[number], sys.executable, *torchrun, "--node-rank", str(number), "-m", "ceph", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **limits, "GLOO_SOCKET_IFNAME": self.names[number], **environment},
                start_new_session=True,
            )
            self.jobs.append(job)
        return self.jobs[-2:]

    def end(self):
        """Nothing is left of what was started."""
        for job in self.jobs:
            if job.poll() is None:
                self.kill(job)
            job.communicate()

    @staticmethod
    def kill(job):
        """The machine of this agent is gone, without a word."""
        for process in (job.pid, *ranks_of(job).values()):
            os.kill(process, signal.SIGKILL)


class Loopback(Machines):
    """Two agents on 127.0.0.1: the second falls silent as it is stopped, and says nothing of what it saw."""

    heard = (0,)

    def cut(self, jobs):
        for process in (jobs[1].pid, *ranks_of(jobs[1]).values()):
            os.kill(process, signal.SIGSTOP)

    def mend(self, jobs):
        self.kill(jobs[1])


class Namespaces(Machines):
    """Two network namespaces, with a network of their own between them: a cut takes its link down."""

    heard = (0, 1)

    def __init__(self):
        super().__init__()
        self.spaces = tuple(f"ceph-{os.getpid()}-{n}" for n in (0, 1))
        self.names = tuple(f"c{os.getpid()}n{n}" for n in (0, 1))
        self.addresses = ("10.77.0.1", "10.77.0.2")
        self.inside = tuple(("ip", "netns", "exec", space) for space in self.spaces)
        try:
            made = [_ip("netns", "add", space) for space in self.spaces]
            made.append(_ip("link", "add", self.names[0], "type", "veth", "peer", "name", self.names[1]))
            for space, name, address in zip(self.spaces, self.names, self.addresses, strict=True):
                made.append(_ip("link", "set", name, "netns", space))
                made.append(_ip("-n", space, "address", "add", f"{address}/24", "dev", name))
                made += [_ip("-n", space, "link", "set", link, "up") for link in ("lo", name)]
        except FileNotFoundError:
            pytest.skip("there is no `ip` (iproute2) to make network namespaces with")
        if refused := next((one.stderr.strip() for one in made if one.returncode), ""):
            self.end()
            pytest.skip(f"no network namespaces here: {refused}")

    def cut(self, _jobs):
        assert _ip("-n", self.spaces[1], "link", "set", self.names[1], "down").returncode == 0

    def mend(self, _jobs):
        assert _ip("-n", self.spaces[1], "link", "set", self.names[1], "up").returncode == 0

    def end(self):
        super().end()
        for space in self.spaces:
            _ip("netns", "delete", space)
