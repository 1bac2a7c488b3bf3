"""Ten thousand requests from sixteen threads to the shipped models: each answer is the single one, memory is flat."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUESTS = 10_000
SAVED_MODELS = sorted((ROOT / "saved_models").glob("*/[0-9]*"))

# Each request is some rows of 40 images, codes and labels, whose answers are known one by one.
SERVE = """
import json, resource, sys, threading
for package in ("keras", "tf_keras", "keras_ssvae"):
    sys.modules[package] = None
import numpy as np
import tensorflow as tf

path, requests, threads = sys.argv[1], int(sys.argv[2]), 16
served = tf.saved_model.load(path)
ask = served.signatures
rng, rows = np.random.default_rng(0), 40
pixels = rng.integers(0, 256, (rows, *ask["classify"].structured_input_signature[1]["image"].shape[1:]), "uint8")
latent_dim = ask["decode"].structured_input_signature[1]["z"].shape[1]
images = (pixels / 127.5 - 1).astype("float32")
GIVEN = {
    "classify": {"image": images},
    "classify_uint8": {"image": pixels},
    "classify_png": {"image_bytes": np.array([tf.io.encode_png(each).numpy() for each in pixels], object)},
    "encode": {"image": images},
    "decode": {"z": rng.normal(size=(rows, latent_dim)).astype("float32")},
    "reconstruct": {"image": images},
    "generate": {"label": rng.integers(0, 10, rows), "seed": rng.integers(-9, 2**62, rows)},
    "interpolate": {"a": images, "b": images[::-1], "n": np.full(rows, 3)},
}

def answer(name, chosen):
    inputs = {key: tf.constant(value[chosen]) for key, value in GIVEN[name].items()}
    return {key: value.numpy() for key, value in ask[name](**inputs).items()}

alone = {}
for name in GIVEN:
    single = [answer(name, [i]) for i in range(rows)]
    alone[name] = {key: np.concatenate([each[key] for each in single]) for key in single[0]}

worst, wrong, memory, lock, done = 0.0, [], [], threading.Lock(), [0]

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def work(seed):
    global worst
    rng = np.random.default_rng(seed)
    for _ in range(requests // threads):
        name = rng.choice(list(GIVEN))
        chosen = rng.integers(0, rows, rng.integers(0, 9))
        try:
            given = answer(name, chosen)
            for key, value in given.items():
                expected = alone[name][key][chosen]
                expected = expected if len(chosen) else value
                if len(value) != len(chosen):
                    wrong.append(f"{name}/{key} has {len(value)} rows for {len(chosen)}")
                elif value.dtype.kind == "f":
                    worst = max(worst, float(np.abs(value - expected).max(initial=0)))
                elif not np.array_equal(value, expected):
                    wrong.append(f"{name}/{key}")
        except Exception as error:
            wrong.append(f"{name}: {error}")
        with lock:
            done[0] += 1
            if done[0] % (requests // 20) == 0:
                memory.append(megabytes())

workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(json.dumps({"done": done[0], "worst": worst, "wrong": wrong, "memory": memory}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", SAVED_MODELS, ids=lambda path: path.parent.name)
def test_a_loaded_server_answers_each_request_as_if_it_were_alone(path):
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SERVE, str(path), str(REQUESTS)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["done"] == REQUESTS
    assert result["wrong"] == []
    assert result["worst"] < 1e-4  # a sum may be taken in another order in another batch
    first, last = result["memory"][4], max(result["memory"][-5:])
    assert last < 1.1 * first + 20, result["memory"]
