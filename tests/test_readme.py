"""The README's Python is run as it stands, but for the number of steps."""

import base64
import json
import re
import subprocess
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


SHORTER = {"steps_per_epoch=75": "steps_per_epoch=2", " epochs=20": " epochs=1"}


def shortened(code, shorter=SHORTER):
    for long, short in shorter.items():
        assert long in code
        code = code.replace(long, short)
    return code


def test_the_library_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(shortened(BLOCKS[0], {**SHORTER, "every=5": "every=1"}), names)
    assert names["probs"].shape == (5, 10)
    assert names["z"].shape == (5, 2)
    assert names["new"].shape == (2, 28, 28, 1)
    assert (tmp_path / "model.keras").exists()
    assert (tmp_path / "figures" / "epoch_0001_latent.png").exists()
    exec(shortened(BLOCKS[1]), names)
    assert names["styled"].shape == (4, 32, 32, 1)
    assert (tmp_path / "traversals.png").exists()
    exec(shortened(BLOCKS[2], {'"steps_per_epoch": 24': '"steps_per_epoch": 2', " epochs=300": " epochs=1"}), names)
    assert names["seven"].shape == (5, 28, 28, 1)
    assert (tmp_path / "interventions.png").exists()
    exec(shortened(BLOCKS[3]), names)
    assert names["likelihood"].per_image.shape == (20,)
    assert (tmp_path / "generated.png").exists()
    exec(BLOCKS[4], names)
    assert 0 <= names["report"]["error_percent"] <= 100
    assert (tmp_path / "latent.png").exists()
    assert (tmp_path / "explained.png").exists()


def test_the_example_of_a_layout_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings(action="error", category=UserWarning):
        exec(BLOCKS[5], names)
    assert names["model"].prior.means[2].tolist() == [0, 25]
    assert names["overlap"].shape == (3, 3)
    assert (tmp_path / "prior.png").exists()


def test_the_serving_example_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {}
    exec(BLOCKS[6], names)
    assert names["images"].shape == (2, 28, 28, 1)
    assert {name: value.shape for name, value in names["answer"].items()} == {
        "probs": (2, 10),
        "label": (2,),
        "label_name": (2,),
    }


def test_the_request_with_a_picture_is_one_of_all_its_bytes(tmp_path):
    picture = bytes(range(256)) * 800  # more than fits in an argument of a command
    (tmp_path / "digit.png").write_bytes(picture)
    (body,) = re.findall(r"^(\(echo .*base64 .*\)) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)
    request = subprocess.run(["sh", "-c", body], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    request = json.loads(request.replace("\n", ""))  # as curl sends it
    assert request["signature_name"] == "classify_png"
    assert base64.b64decode(request["instances"][0]["b64"], validate=True) == picture
