"""The runs of a table on the machines of a Ray cluster.

Each run is a Ray task. The task starts the same process that would make the run on one machine, in the directory of the
command and with the same flags. So all nodes must have the same packages and must see the scripts, the data and the
directory of the runs under the same paths, as on a shared file system. Then no files have to be copied back, and a run
whose worker was lost continues from its checkpoint on any other node.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.launch import Job, Lost

# Environment variables of this process that the runs inherit, where they are set.
_CARRIED = ("PYTHONPATH", "TFDS_DATA_DIR", "KERAS_HOME", "OMP_NUM_THREADS", "XLA_FLAGS")


class Cluster:
    """A running Ray cluster, as a place for `launch.work_off`.

    Args:
        address: Address of the cluster's head, `HOST:PORT`, or `"auto"` for the cluster that this machine belongs to.
        jobs: Number of runs at a time on each GPU, or on each machine if the cluster has no GPU.

    Raises:
        UserError: When Ray is not installed, or no cluster answers at `address`.
    """

    retries = 3
    free = True  # Ray itself lets runs wait for a machine

    def __init__(self, address: str, jobs: int):
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise UserError(
                "--cluster needs Ray, which is not installed here. Install it with `pip install ray`, or in a clone "
                'with `pip install -e ".[cluster]"`.'
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
        """Hands a run to the cluster; returns its state as text for the user."""
        environment = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        environment["KERAS_BACKEND"] = keras.backend.backend()
        arguments = list(job.command[1:])  # without this machine's Python
        reference = self._task.remote(arguments, os.getcwd(), environment, os.path.abspath(job.log))
        self._running[reference] = job
        return "waits for the cluster"

    def wait(self) -> tuple[Job, int | Lost]:
        """Waits for the next run that ends; returns it with its exit status, or with a `Lost` that says why."""
        (reference,), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(reference)
        try:
            node, status = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return job, Lost(type(error).__name__)
        if status is None:
            raise UserError(
                f"The node {node} cannot find {job.log}. With --cluster all nodes must see this directory, the "
                "scripts, the data and --runs-dir under the same paths."
            )
        if status < 0:
            return job, Lost(f"killed by signal {-status} on {node}")
        return job, status


def _resources(nodes: list[Mapping[str, Any]], jobs: int) -> dict[str, float]:
    """The resources that a run requests: a share of a GPU or, without GPUs, of the smallest machine's cores."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if any(each.get("GPU") for each in alive):
        return {"num_cpus": 1, "num_gpus": 1 / jobs}
    cores = min(each["CPU"] for each in alive if each.get("CPU"))
    # Ray accepts fractions below one core, and whole cores above.
    return {"num_cpus": cores // jobs or cores / jobs}


def _make_task():
    # Ray sends a nested function by value. It would import a function of the module, and with it Keras, in each worker,
    # only to start a process that imports Keras again.
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
                stdin=subprocess.PIPE,  # closes when this worker ends, and the child then ends too
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            return node, child.wait()

    return run
