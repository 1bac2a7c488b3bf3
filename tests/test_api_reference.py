"""The API reference is built from the docstrings without a warning, and holds every public name."""

import importlib.util
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import keras_ssvae

BUILD = Path(__file__).parents[1] / "docs/api/build.py"


def exported(module=keras_ssvae):
    """Page, name on the page, for all that is exported."""
    for name in module.__all__ if hasattr(module, "__all__") else defined(module):
        value = getattr(module, name)
        if not inspect.ismodule(value):
            yield f"{module.__name__.replace('.', '/')}.html", name
        elif value.__name__.startswith("keras_ssvae."):
            yield from exported(value)


def defined(module):
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


@pytest.mark.slow
def test_the_reference_is_built_and_has_every_public_name(tmp_path):
    pytest.importorskip("pdoc")
    pytest.importorskip("tensorflow")  # whose classes are in annotations
    built = subprocess.run([sys.executable, BUILD, tmp_path], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    names = list(exported())
    assert len(names) > 100
    text = {page: (tmp_path / page).read_text(encoding="utf-8") for page in {page for page, _ in names}}
    assert [name for name in names if f'id="{name[1]}"' not in text[name[0]]] == []
    index = (tmp_path / "keras_ssvae.html").read_text(encoding="utf-8")
    is_object = [(page, name) for page, name in names if not name.isupper() and name != "Tensor"]
    assert [(page, name) for page, name in is_object if f'href="{page}#{name}"' not in index] == []
    assert list(broken_links(tmp_path)) == []
    # How to make an EXoN and call it, and what it inherits.
    systems = text["keras_ssvae/models.html"]
    assert "encoder: keras.Model | None = None, " in signature(systems, "EXoN")
    assert signature(systems, "EXoN.encode").endswith("encode(self, images: Tensor) -> Tensor:")
    assert 'href="models/labels.html#ClassifierMixin.generate"' in systems


def broken_links(directory):
    """Page and link, for all links to a place of the reference that does not exist."""
    text = {page.resolve(): page.read_text(encoding="utf-8") for page in directory.rglob("*.html")}
    places = {page: set(re.findall(r'id="([^"]+)"', html)) for page, html in text.items()}
    for page, html in text.items():
        for link in re.findall(r'<a [^>]*href="([^":$]+)"', html):
            path, _, place = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if target not in places or place not in {"", *places[target]}:
                yield page.name, link


def signature(page, name):
    begins = re.search(rf'<(section|div) id="{name}".*?>', page).end()
    return " ".join(re.sub(r"<.+?>", "", page[begins:].partition('<a class="headerlink"')[0]).split())


@pytest.mark.parametrize(
    ("docstring", "problem"),
    [
        ("See `priors.circle`, `keras_ssvae.data.augment.mnist(images, 1)`, `priors.cube()`.", "priors.cube"),
        ("Summary.\n\nArgs:\n    mean: A number.\n    variance: Another.\n", "variance"),
    ],
)
def test_a_docstring_that_names_what_does_not_exist_is_a_warning(docstring, problem):
    pdoc = pytest.importorskip("pdoc")
    spec = importlib.util.spec_from_file_location("api_reference", BUILD)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)

    def function(mean):
        pass

    function.__doc__ = docstring
    module = types.ModuleType("described")
    document = pdoc.doc.Function(module.__name__, "function", function, ("described", "function"))
    with pytest.warns(UserWarning, match=f"described.function .*{problem}"):
        build.check(document)
