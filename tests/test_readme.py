"""README and docs: their Python runs as it stands, but for the number of steps, and their links lead somewhere."""

import base64
import inspect
import json
import re
import subprocess
import warnings
from pathlib import Path

import keras
import pytest

from keras_ssvae import models
from keras_ssvae.models.base import BaseVAE

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
# Its example continues the README's.
CONTINUED = {"README.md": "docs/evaluation.md"}
# Page -> the shapes of what its example leaves.
SHAPES = {
    "README.md": {"probs": (5, 10), "z": (5, 2), "new": (2, 28, 28, 1)},
    "docs/cp_vae.md": {"clusters": (360, 10), "drawn": (5, 28, 28, 1)},
    "docs/data_and_training.md": {"z": (5, 2)},
    "docs/exon.md": {"overlap": (3, 3), "images": (2, 28, 28, 1), "walk": (1, 10, 28, 28, 1)},
    "docs/m2.md": {"probs": (5, 10), "drawn": (2, 28, 28, 1)},
    "docs/nvae.md": {"drawn": (2, 28, 28, 1), "kl": (10, 10)},
    "docs/parted_vae.md": {"styled": (4, 32, 32, 1)},
    "docs/revae.md": {"seven": (5, 28, 28, 1), "swapped": (4, 28, 28, 1), "with_hat": (4, 64, 64, 3)},
    "docs/serving.md": {"images": (2, 28, 28, 1)},
    "docs/vae.md": {"binary": (360, 28, 28, 1)},
}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def python(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", text(page), flags=re.DOTALL))


def shortened(code):
    shorter = {"steps_per_epoch": 2, "epochs": 1, "every": 1}
    return re.sub(rf"\b({'|'.join(shorter)})=\d+", lambda found: f"{found[1]}={shorter[found[1]]}", code)


def test_every_page_with_an_example_is_run():
    with_example, known = {page for page in PAGES if python(page)}, {*SHAPES, *CONTINUED.values()}
    assert with_example == known, f"Only a page or only `SHAPES` of this file has: {sorted(with_example ^ known)}"


@pytest.mark.parametrize("page", SHAPES)
def test_the_example_runs_and_the_page_names_each_term_of_the_log(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    names = {}
    code = "\n".join(map(python, filter(None, (page, CONTINUED.get(page)))))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*overlap")
        exec(shortened(code), names)
    assert {name: tuple(names[name].shape) for name in SHAPES[page]} == SHAPES[page]
    saved = re.findall(r'save(?:fig)?\("(.+?)"\)', code)
    assert [name for name in saved if not (tmp_path / name).exists()] == []
    described = text("docs/exon.md" if page == "README.md" else page)
    for history in (value for name, value in names.items() if name.startswith("history")):
        terms = {name.removeprefix("val_") for name in history.history} - {"loss", "error"}
        assert "reconstruction" in terms
        assert [name for name in terms if f"`{name}`" not in described] == []


def test_the_request_with_a_picture_is_one_of_all_its_bytes(tmp_path):
    picture = bytes(range(256)) * 800  # more than fits in an argument of a command
    (tmp_path / "digit.png").write_bytes(picture)
    (body,) = re.findall(r"^(\(echo .*base64 .*\)) \|$", text("docs/serving.md"), flags=re.M)
    request = subprocess.run(["sh", "-c", body], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    request = json.loads(request.replace("\n", ""))  # as curl sends it
    assert request["signature_name"] == "classify_png"
    assert base64.b64decode(request["instances"][0]["b64"], validate=True) == picture


# Links

LINKED = [*PAGES, "CHANGELOG.md", "CONTRIBUTING.md", "experiments/README.md"]
LINKED += [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "saved_models").glob("*/README.md"))]


def without_code(markdown):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.M))


def anchors(markdown):
    """Those that GitHub makes of the headings."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.M), flags=re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


def test_anchors_are_those_of_github():
    markdown = "# A b: c, 0.4 % (x_y)\n```bash\n# no\n```\n## Two\n## Two\n"
    assert anchors(markdown) == ["a-b-c-04--x_y", "two", "two-1"]


@pytest.mark.parametrize("page", LINKED)
def test_each_link_of_a_page_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(text(page)))
    dead = []
    for link in links:
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_files_that_commands_name_are_there(page):
    named = re.findall(r"\b(experiments/[\w/]+\.(?:py|json))", text(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_leads_to_each_page_and_each_page_to_the_tables_of_symbols():
    assert [page for page in PAGES[1:] if f"({page})" not in text("README.md")] == [], "The README has no link to it."
    systems = [each for each in vars(models).values() if inspect.isclass(each) and issubclass(each, keras.Model)]
    pages = "\n".join(map(text, PAGES[1:]))
    for system in systems:
        file = Path(inspect.getfile(system)).relative_to(ROOT).as_posix()
        assert f"](../{file})" in pages, f"No page links to {file}, whose {system.__name__} has the table of symbols."
        documented = "\n".join(each.__doc__ or "" for each in system.__mro__ if issubclass(each, BaseVAE))
        assert re.search(r"^ *\| .*\bpapers? .*\| code ", documented, flags=re.M), system
