"""Several processes that share one run: who is there, who computes what, and who is lost.

Each computes on its own devices, and nothing that is computed goes from one to another but through
files. JAX's coordination service, which process 0 runs, tells the others what to compute, and says
which of them still live.
"""

import contextlib
import heapq
import itertools
import json
import secrets
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

# JAX has no public name for the client of its coordination service.
from jax._src import distributed

from practical._files import atomic_path
from practical._inputs import check_count

_PLAN = ".plan.json"  # in the folder: what is missing, as process 0 saw it
_SEEN = 60  # seconds until a file that one process wrote is seen by all: NFS may wait for 60
_TOLD = 3600  # seconds until process 0, which may be reading images, says what to compute
_runs = itertools.count()  # all processes make their runs in the same order


class Job(NamedTuple):
    """What is known of a part before it is computed."""

    images: Hashable  # which ones; who has read them takes all of their parts
    calls: int  # of the model, about


@contextlib.contextmanager
def join(
    coordinator: str,
    *,
    processes: int | None = None,
    process: int | None = None,
    timeout: int = 100,
) -> Iterator[None]:
    """Be one of several processes, each on devices of its own, until the block ends.

    Call it before anything else asks JAX for a device. A process that is lost does not stop the
    others, unless it is process 0: then JAX aborts all of them.

    Args:
        coordinator: "HOST:PORT", where process 0 listens and all others find it; or "auto", under
            Slurm, Open MPI or another cluster that JAX knows, for one process a GPU.
        processes: How many there are; "auto" knows.
        process: Which one this is, from 0; "auto" knows.
        timeout: Seconds without a sign of life after which a process counts as lost.

    Raises:
        ValueError: If an argument breaks its rule, or "auto" finds no cluster.
    """
    known = _check_join(coordinator, processes, process)
    check_count("timeout", timeout)
    jax.config.update("jax_enable_recoverability", True)
    # JAX would catch SIGTERM (kill, timeout, scancel, the end of a job's time) for whoever asks it.
    jax.config.update("jax_enable_preemption_service", False)
    who = f" as process {process} of {processes}" if known else ""
    # JAX waits for the others for five minutes, and then it aborts.
    print(f"Joining the processes at {coordinator}{who}", file=sys.stderr)
    try:
        jax.distributed.initialize(**known, heartbeat_timeout_seconds=timeout)
    except ValueError as error:
        raise ValueError(
            f'coordinator "auto" needs a cluster that JAX knows, such as Slurm ({error}); give '
            "HOST:PORT, processes and process instead"
        ) from error
    try:
        yield
        if jax.process_index() == 0:
            # Without the coordinator JAX aborts the others, so it is the last to leave.
            _client().get_live_nodes(list(range(jax.process_count())))
    finally:
        jax.distributed.shutdown()


def _check_join(coordinator: str, processes: int | None, process: int | None) -> dict[str, Any]:
    """Return what `jax.distributed.initialize` is to be told."""
    if coordinator == "auto":
        if processes is not None or process is not None:
            raise ValueError(
                'processes and process must be left out with coordinator "auto", which asks the '
                f"cluster; got {processes} and {process}"
            )
        return {}
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            "coordinator must be HOST:PORT of process 0, with a port from 1 to 65535, or "
            f'"auto" under Slurm and the like, got {coordinator!r}'
        )
    if processes is None or process is None:
        raise ValueError(
            f"processes and process must be given with coordinator {coordinator}: how many there "
            f"are, and which one this is, from 0; got {processes} and {process}"
        )
    check_count("processes", processes)
    if not 0 <= check_count("process", process, least=0) < processes:
        raise ValueError(f"process must be from 0 to {processes - 1}, got {process}")
    # A cluster that JAX knows would leave this process one device alone.
    return {
        "coordinator_address": coordinator, "num_processes": processes, "process_id": process,
        "cluster_detection_method": "deactivate",
    }  # fmt: skip


def _client() -> Any:
    return distributed.global_state.client


class Team:
    """The processes that share one run, of which process 0 decides; often it is alone."""

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        self.index, self.count = jax.process_index(), jax.process_count()
        self._out, self._settings = out, json.loads(json.dumps(settings))
        self._live = list(range(self.count))
        self._complete = False  # whether all of the last shares must be in the folder
        self._run = next(_runs)
        self._round = itertools.count()

    @contextlib.contextmanager
    def leading(self, folder: Callable[[], contextlib.AbstractContextManager]) -> Iterator[None]:
        """Hold `folder()`, in process 0 alone; if it refuses, all others raise as well."""
        with contextlib.ExitStack() as stack:
            if self.index == 0:
                try:
                    stack.enter_context(folder())
                except Exception as error:
                    if self.count > 1:
                        self._refuse(error)
                    raise
            yield

    def shares(self, work: Mapping[str, Job]) -> Iterator[list[str]]:
        """Yield the names of what this process is to compute, until nothing is missing.

        Args:
            work: The files of `parts/` by name, the same in all processes.

        Yields:
            This process's share of what is missing; after that, what lost processes have left.

        Raises:
            RuntimeError: If process 0 refuses the folder, or a process does not see in it what
                another one has written.
            ValueError: If process 0 has other settings.
        """
        while missing := self._missing(work) if self.index == 0 else self._ask():
            jobs = {name: work[name] for name in missing}
            yield deal(jobs, len(self._live))[self._live.index(self.index)]
            if self.count > 1:
                # Returns when all processes have called it that JAX does not count as lost.
                live = sorted(_client().get_live_nodes(self._live))
                self._complete = live == self._live
                if self.index == 0 and not self._complete:
                    lost = ", ".join(map(str, sorted(set(self._live) - set(live))))
                    print(f"Lost process {lost}: the others do its part", file=sys.stderr)
                self._live = live

    def _missing(self, work: Mapping[str, Job]) -> list[str]:
        """Look into the folder, and tell the others what is not there."""
        deadline = time.monotonic() + _SEEN
        while True:
            there = {path.name for path in (self._out / "parts").glob("*.csv")}
            missing = [name for name in work if name not in there]
            if not missing or not self._complete:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{missing[0]} was written by another process, and process 0 does not see it "
                    f"in {self._out / 'parts'}; name a folder on a file system that all of them see"
                )
            time.sleep(0.1)
        if self.count > 1:
            token = secrets.token_hex(8)
            plan = {"token": token, "settings": self._settings, "missing": missing}
            with atomic_path(self._out / _PLAN) as temporary:
                temporary.write_text(json.dumps(plan))
            _client().key_value_set(self._key(), json.dumps({"token": token}))
        return missing

    def _ask(self) -> list[str]:
        """Ask process 0 what is missing."""
        try:
            answer = json.loads(_client().blocking_key_value_get(self._key(), 1000 * _TOLD))
        except jax.errors.JaxRuntimeError as error:
            raise RuntimeError(
                f"process 0 has not said within {_TOLD} s what is to compute; look at its output "
                f"({error})"
            ) from error
        if "refused" in answer:
            _client().key_value_set(f"{self._key()}/{self.index}", "")
            raise RuntimeError(f"process 0 refuses the folder: {answer['refused']}")
        plan = self._read_plan(answer["token"])
        differing = [n for n, here in self._settings.items() if plan["settings"].get(n) != here]
        if differing:
            listed = "; ".join(
                f"{n}: {plan['settings'].get(n)} there, {self._settings[n]} here" for n in differing
            )
            raise ValueError(
                f"all processes must have the settings of process 0, and process {self.index} has "
                f"others ({listed}); start them by the same command"
            )
        return plan["missing"]

    def _read_plan(self, token: str) -> dict[str, Any]:
        path, deadline = self._out / _PLAN, time.monotonic() + _SEEN
        while time.monotonic() < deadline:
            # It may be there as an earlier run left it, or be just exchanged.
            with contextlib.suppress(OSError, ValueError):
                plan = json.loads(path.read_text())
                if plan["token"] == token:
                    return plan
            time.sleep(0.1)
        raise RuntimeError(
            f"process {self.index} does not see {path.absolute()}, which process 0 has written "
            f"{_SEEN} s ago; name a folder on a file system that all of them see"
        )

    def _refuse(self, error: Exception) -> None:
        """Tell the others, and wait until they know: when process 0 ends, JAX aborts them."""
        deadline = time.monotonic() + _SEEN
        _client().key_value_set(self._key(), json.dumps({"refused": str(error)}))
        heard = self._key()
        while time.monotonic() < deadline:
            if len(_client().key_value_dir_get(heard)) >= self.count - 1:
                break
            time.sleep(0.1)

    def _key(self) -> str:
        return f"practical/{self._run}/{next(self._round)}"


def deal(jobs: Mapping[str, Job], count: int) -> list[list[str]]:
    """Deal names to `count` processes, those of the same images to one, and all about as much."""
    groups: dict[Hashable, list[str]] = {}
    for name, job in jobs.items():
        groups.setdefault(job.images, []).append(name)
    if len(groups) < count:
        groups = {name: [name] for name in jobs}
    costs = {images: sum(jobs[name].calls for name in names) for images, names in groups.items()}
    hands: list[list[str]] = [[] for _ in range(count)]
    loads = [(0, place) for place in range(count)]
    for images in sorted(costs, key=lambda images: -costs[images]):
        load, place = heapq.heappop(loads)
        hands[place] += groups[images]
        heapq.heappush(loads, (load + costs[images], place))
    return hands
