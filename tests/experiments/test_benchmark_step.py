"""The benchmark: what it counts, against a count by hand of the paper's tables, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
KEYS = {"step_ms", "step_with_pipeline_ms", "pipeline_ms", "matmul_gflops", "step_gflop", "share_of_limit"}


def test_it_prints_its_figures_as_json_and_counts_as_by_hand():
    command = [sys.executable, EXPERIMENTS / "benchmark_step.py", "--json", "--rounds", "1", "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) >= KEYS
    assert all(figures[name] > 0 for name in KEYS)

    # Table 5: kernel sizes times pixels; 960 passes of an image: 3 x (128 + 32 + 32 + 96), and 96 for pseudo-labels
    classifier = 784 * 25 * 32 + 196 * 9 * 32 * 64 + 49 * 9 * 64 * 128 + 128 * 64 + 64 * 10
    autoencoder = 784 * 256 + 256 * 128 + 128 * 2 * 20 + 2 * 128 + 128 * 256 + 256 * 784
    assert figures["step_gflop"] == pytest.approx(2e-9 * (960 * classifier + 3 * 128 * autoencoder), abs=0.006)
