"""`--cluster`: runs as tasks of Ray, on a local cluster of two nodes, with a worker that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae.runs import cluster
from keras_ssvae.runs.errors import UserError

SCRIPT = Path(__file__).parents[2] / "experiments/mnist_beta.py"
SMALL = ("--dataset", "digits", "--epochs", "4", "--steps-per-epoch", "3", "--batch-size", "16")
SMALL = (*SMALL, "--labeled-batch-size", "8")


def test_without_ray_a_cluster_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--cluster needs Ray, which is not installed here. Install it with `pip "):
        cluster.Cluster("auto", 1)


def test_where_no_cluster_runs_there_is_a_sentence(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(address, **options):
        raise ConnectionError("Could not find any running Ray instance.\nAnd more.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"--cluster found no Ray cluster on this machine: Could not find .*ray start"):
        cluster.Cluster("auto", 1)
    with pytest.raises(UserError, match="found no Ray cluster at head:6379: "):
        cluster.Cluster("head:6379", 1)


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "jobs", "asked"),
    [
        ([node(CPU=8.0), node(CPU=4.0), node(alive=False, CPU=1.0)], 1, {"num_cpus": 4}),
        ([node(CPU=8.0), node(CPU=4.0)], 2, {"num_cpus": 2}),
        ([node(CPU=1.0)], 4, {"num_cpus": 0.25}),
        ([node(CPU=8.0, GPU=2.0), node(CPU=8.0)], 1, {"num_cpus": 1, "num_gpus": 1.0}),
        ([node(CPU=8.0, GPU=2.0)], 2, {"num_cpus": 1, "num_gpus": 0.5}),
        ([node(memory=1.0), node(CPU=2.0)], 1, {"num_cpus": 2}),
    ],
)
def test_a_run_asks_for_its_share_of_a_machine(nodes, jobs, asked):
    assert cluster._resources(nodes, jobs) == asked


def test_a_task_says_that_its_node_does_not_see_the_files(tmp_path):
    task = cluster._make_task()
    (tmp_path / "script.py").write_text("print('hello')")
    log = tmp_path / "output.log"
    assert task(["script.py"], str(tmp_path), {}, str(log))[1] is None
    log.touch()
    assert task(["none.py"], str(tmp_path), {}, str(log))[1] is None
    assert task(["script.py"], str(tmp_path), {}, str(log))[1] == 0
    assert log.read_text() == "hello\n"


@pytest.fixture
def two_nodes(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers give way to all else on a busy machine
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    nodes.add_node(num_cpus=1, **memory)
    yield nodes
    nodes.shutdown()


def process_of(run):
    """The process that makes this run of the table, and the worker of Ray that started it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if SCRIPT.name.encode() in words[1] and b"--only" in words and words[words.index(b"--only") + 1] == run:
                status = (folder / "status").read_text()
                return int(folder.name), int(status.partition("PPid:")[2].split()[0])
        except (OSError, IndexError):
            continue
    return None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_a_table_on_two_nodes_outlives_a_killed_worker(two_nodes, tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    arguments = (*SMALL, "--beta", "0.25", "1", "--seed", "1")

    def start(folder, *more):
        folder.mkdir()
        command = [sys.executable, SCRIPT, *arguments, *more]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    table = start(tmp_path / "cluster", "--cluster", two_nodes.address)
    killed = tmp_path / "cluster/runs/exon_digits_100_beta0.25_seed1"
    try:
        until = time.monotonic() + 900
        while not (killed / "checkpoint.npz").exists():
            assert table.poll() is None, table.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.01)
        child, worker = process_of(b"0")
        os.kill(worker, signal.SIGKILL)
        out, err = table.communicate(timeout=900)
    finally:
        table.kill()
    assert table.returncode == 0, err  # where Ray itself tells of the worker
    assert "Run 1 of 2 was lost (WorkerCrashedError) and is tried again" in out
    assert "Run 1 of 2 is finished." in out
    assert "Run 2 of 2 is finished." in out
    assert not Path(f"/proc/{child}").exists()
    printed = (killed / "output.log").read_text()
    assert "Going on after epoch" in printed
    alone = start(tmp_path / "alone", "--beta", "0.25")
    out, err = alone.communicate(timeout=900)
    assert (alone.returncode, err) == (0, "")
    name = "runs/exon_digits_100_beta0.25_seed1/checkpoint.npz"
    with np.load(tmp_path / "cluster" / name) as actual, np.load(tmp_path / "alone" / name) as expected:
        for each in set(expected.files) - {"history"}:
            np.testing.assert_array_equal(actual[each], expected[each], err_msg=each)
