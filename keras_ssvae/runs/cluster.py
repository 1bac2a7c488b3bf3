"""Runs of a table on the machines of a Ray cluster.

Each run is a Ray task that starts the very process which makes it on one machine, in the directory of the command and
with the same flags. So the nodes must see the scripts, the data and the runs' directory under the same paths, as on a
file system that they share, and have the same packages: then nothing has to be brought back, and a run whose worker was
lost goes on from its checkpoint on any other node.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.launch import Job, Lost

# What the runs are told of this process' environment, where it is set.
_CARRIED = ("PYTHONPATH", "TFDS_DATA_DIR", "KERAS_HOME", "OMP_NUM_THREADS", "XLA_FLAGS")


class Cluster:
    """A running Ray cluster.

    Args:
        address: Of its head, `HOST:PORT`, or `"auto"` for the cluster that this machine belongs to.
        jobs: Runs at a time on each GPU, or where the cluster has none on each machine.
    """

    retries = 3
    free = True  # Ray has runs wait for a machine

    def __init__(self, address: str, jobs: int):
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise UserError(
                "--cluster needs Ray, which is not installed here: pip install ray (or in a clone the extra: pip "
                'install -e ".[cluster]").'
            ) from error
        self._ray = ray
        try:
            ray.init(address=address, logging_level="error", log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = "on this machine" if address == "auto" else f"at {address}"
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"--cluster found no Ray cluster {where}: {reason} Start one with `ray start --head`, and `ray start "
                "--address=HOST:PORT` on each other machine."
            ) from error
        self._task = ray.remote(max_retries=0, **_resources(ray.nodes(), jobs))(_make_task())
        self._running: dict[Any, Job] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def start(self, job: Job) -> str:
        """Hands a run to the cluster; returns what is said of it."""
        environment = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        environment["KERAS_BACKEND"] = keras.backend.backend()
        arguments = list(job.command[1:])  # without this machine's Python
        reference = self._task.remote(arguments, os.getcwd(), environment, os.path.abspath(job.log))
        self._running[reference] = job
        return "waits for the cluster"

    def wait(self) -> tuple[Job, int | Lost]:
        """Waits for the next run that ends; returns it and its exit status, or how it was lost."""
        (reference,), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(reference)
        try:
            node, status = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return job, Lost(type(error).__name__)
        if status is None:
            raise UserError(
                f"The node {node} does not see {job.log}. With --cluster the nodes must share this directory, the "
                "scripts, the data and --runs-dir, under the same paths."
            )
        if status < 0:
            return job, Lost(f"killed by signal {-status} on {node}")
        return job, status


def _resources(nodes: list[Mapping[str, Any]], jobs: int) -> dict[str, float]:
    """What a run asks for: a share of a GPU or, where there is none, of the smallest machine's cores."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if any(each.get("GPU") for each in alive):
        return {"num_cpus": 1, "num_gpus": 1 / jobs}
    cores = min(each["CPU"] for each in alive if each.get("CPU"))
    # Ray counts in whole cores from one on.
    return {"num_cpus": cores // jobs or cores / jobs}


def _make_task():
    # Inside a function, so that Ray takes it along as it is: where it looked the module up, each of its workers would
    # import Keras, only to start a process that does.
    def run(arguments, folder, environment, log):
        import os
        import platform
        import subprocess
        import sys

        node = platform.node()
        if not os.path.exists(log) or not os.path.exists(os.path.join(folder, arguments[0])):
            return node, None
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # Ray sets it
        with open(log, "ab") as out:
            child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**inherited, **environment, "PYTHONUNBUFFERED": "1"},  # as in a `Pool`
                stdin=subprocess.PIPE,  # which ends with this worker, and the child with it
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            return node, child.wait()

    return run
