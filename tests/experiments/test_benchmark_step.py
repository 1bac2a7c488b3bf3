"""The benchmark: the operations that it counts, against a count by hand from EXoN's tables, and what it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ssvae import priors
from keras_ssvae.models import M2, VAE
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment

SCRIPT = "benchmark_step"
KEYS = {"step_ms", "step_with_pipeline_ms", "pipeline_ms", "matmul_gflops", "step_gflop", "share_of_limit"}
KEYS |= {"peak_memory_gb"}
# Table 5: kernel sizes times pixels.
CLASSIFIER = 784 * 25 * 32 + 196 * 9 * 32 * 64 + 49 * 9 * 64 * 128 + 128 * 64 + 64 * 10
AUTOENCODER = 784 * 256 + 256 * 128 + 128 * 2 * 20 + 2 * 128 + 128 * 256 + 256 * 784


@pytest.fixture
def measured(small):
    """A function that runs the benchmark in a process of its own and reads the JSON that it prints."""

    def run(backend, *args):
        command = [sys.executable, small.script.with_name("benchmark_step.py"), "--json", "--rounds", "1", *args]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        done = subprocess.run([*command, "--steps", "1"], capture_output=True, text=True, check=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_it_prints_its_figures_as_json_and_counts_as_by_hand(request, measured, backend):
    if backend == "jax":
        pytest.importorskip("jax")
    else:
        request.getfixturevalue("tensorflow")
    flags = ("--batch-size", "24", "--labeled-batch-size", "8", "--steps-per-epoch", "4", "--steps-per-execution", "2")
    figures = measured(backend, *flags)
    assert set(figures) >= KEYS
    assert all(figures[name] > 0 for name in KEYS)
    assert (figures["backend"], figures["steps_per_execution"]) == (backend, 2)
    # 184 passes of an image: 3 x (24 + 8 + 8 + 16), and 16 for pseudo-labels.
    assert figures["step_gflop"] == pytest.approx(2e-9 * (184 * CLASSIFIER + 3 * 24 * AUTOENCODER), abs=0.006)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--data-parallel"], "--data-parallel is not measured here"),
        (["--dataset", "digits"], "--dataset is not measured here"),
        (["--labels", "50"], "--labels is not measured here"),
        (["--batch-size", "16"], "--labeled-batch-size is 32; it must be smaller"),
    ],
)
def test_what_it_does_not_measure_is_a_sentence(modules, monkeypatch, args, match):
    monkeypatch.setattr(sys, "argv", ["benchmark_step.py", *args])
    with pytest.raises(SystemExit, match=f"^benchmark_step.py: error: {match}"):
        modules.script.main()


def test_an_experiment_whose_step_nobody_counted_is_a_sentence(modules, monkeypatch):
    class Script:
        EXPERIMENT = Experiment("VAE", "", {"mnist": {}}, None, build_model=None, figures=None)

    monkeypatch.setattr(modules.script.importlib, "import_module", lambda name: Script)
    monkeypatch.setattr(sys, "argv", ["benchmark_step.py"])
    with pytest.raises(SystemExit, match=r"error: --experiment mnist cannot be measured: .* how much VAE computes"):
        modules.script.main()


def test_a_peer_that_is_not_installed_is_skipped(modules, monkeypatch, capsys, tmp_path):
    (tmp_path / "pythae.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert modules.script.peer_of("pythae", VAE(), 4, 2) is None
    assert "--peer pythae is skipped: not here. Install it with `pip install pythae`." in capsys.readouterr().err
    assert modules.script.against_peer([{"step_ms": 1.0, "step_with_pipeline_ms": 2.0}]) == {}


def test_a_peer_without_the_model_is_a_sentence(modules):
    with pytest.raises(UserError, match="--peer pythae has no M2"):
        modules.script.peer_of("pythae", M2(), 4, 2)
    mixture = VAE(prior=priors.LearnedMixture(3, 40, bounded=False))
    with pytest.raises(UserError, match="--peer pythae has no mixture of Gaussians"):
        modules.script.peer_of("pythae", mixture, 4, 2)


STUB = """
def stub(sleep):
    print("no answer")
    if sleep is None:
        raise ImportError("no stub")
    return {"peer_step_ms": lambda: time.sleep(sleep) if sleep else sys.exit(7)}
"""


@pytest.fixture
def stub(modules, monkeypatch, tmp_path):
    """`Peer` with one more library, whose step sleeps."""
    code = Path(modules.script.peers.__file__).read_text()
    (tmp_path / "peers.py").write_text(code.replace("def answer()", f"{STUB}\n\ndef answer()"))
    monkeypatch.setattr(modules.script.peers, "__file__", str(tmp_path / "peers.py"))
    return modules.script.peers.Peer


def test_a_peer_in_its_own_process_says_how_long_its_steps_take(stub):
    peer = stub("stub", sleep=0.02)
    assert peer.steps == ["peer_step_ms"]
    assert 20.0 <= peer.timed("peer_step_ms", 3) < 2000.0
    peer.close()


def test_a_peer_that_lacks_its_library_or_ends_is_an_error(stub):
    with pytest.raises(ImportError, match="no stub"):
        stub("stub", sleep=None)
    peer = stub("stub", sleep=0.0)
    with pytest.raises(RuntimeError, match="ended with status 7"):
        peer.timed("peer_step_ms", 1)


@pytest.mark.parametrize("prior", [lambda: None, lambda: priors.VampPrior(3, 40)])
def test_the_peer_takes_its_steps(modules, prior):
    pytest.importorskip("pythae")
    peer = modules.script.peer_of("pythae", VAE(prior=prior()), 8, 4)
    assert peer.steps == ["peer_step_ms", "peer_step_with_pipeline_ms"]
    assert all(peer.timed(step, 2) > 0 for step in peer.steps)
    peer.close()


def test_the_ratio_to_a_peer_is_the_median_of_those_within_a_round(modules):
    rounds = [
        {"step_ms": ours, "peer_step_ms": theirs, "step_with_pipeline_ms": 1.0, "peer_step_with_pipeline_ms": 3.0}
        for ours, theirs in ((1.0, 2.0), (10.0, 30.0), (2.0, 8.0))
    ]
    figures = modules.script.against_peer(rounds)
    assert figures["peer_step_ms_over_ours"] == 3.0
    assert figures["peer_step_with_pipeline_ms_over_ours"] == 3.0
