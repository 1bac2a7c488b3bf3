"""Builds the API reference from the docstrings: `python docs/api/build.py`, then open `build/api/index.html`.

Needs pdoc, which `pip install -e ".[docs]"` brings, and TensorFlow, whose classes are in annotations. It writes a page
for each public module of keras_ssvae, and for the base classes of the public classes. It ends with an error if pdoc
warns, if a docstring describes an argument that does not exist, or if it names a function or class of this package that
does not exist.
"""

import argparse
import ast
import functools
import importlib
import inspect
import operator
import re
import sys
import textwrap
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pdoc
from numpy.typing import ArrayLike

import keras_ssvae

HERE = Path(__file__).parent
# Class that annotations name -> its public name.
_PUBLIC = {
    "Any": "Any",
    "Callback": "keras.callbacks.Callback",
    "DatasetV2": "tf.data.Dataset",
    "Dense": "keras.layers.Dense",
    "DistributedDatasetInterface": "tf.distribute.DistributedDataset",
    "History": "keras.callbacks.History",
    "Initializer": "keras.initializers.Initializer",
    "LearningRateSchedule": "keras.optimizers.schedules.LearningRateSchedule",
    "Metric": "keras.Metric",
    "Model": "keras.Model",
    "Optimizer": "keras.optimizers.Optimizer",
    "PyDataset": "keras.utils.PyDataset",
    "SeedGenerator": "keras.random.SeedGenerator",
    "Variable": "keras.Variable",
}


def public_modules(module: types.ModuleType = keras_ssvae) -> Iterator[types.ModuleType]:
    """`module`, and all modules that it and its submodules export."""
    yield module
    for name in getattr(module, "__all__", ()):
        if inspect.ismodule(value := getattr(module, name)):
            yield from public_modules(value)


def public_names(module: types.ModuleType) -> list[str]:
    """The names in `__all__`, or those that the module defines if it has none."""
    if hasattr(module, "__all__"):
        return module.__all__
    defined = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in defined if not name.startswith("_")]


def base_classes(modules: list[types.ModuleType]) -> dict[str, set[str]]:
    """Module -> its classes that are not public but are bases of public ones, whose methods users call."""
    public = [getattr(module, name) for module in modules for name in public_names(module)]
    classes = [value for value in public if inspect.isclass(value)]
    bases: dict[str, set[str]] = {}
    for base in {base for each in classes for base in each.__mro__} - set(classes):
        if base.__module__.startswith("keras_ssvae.") and not base.__name__.startswith("_"):
            bases.setdefault(base.__module__, set()).add(base.__name__)
    return bases


def documents(module: pdoc.doc.Namespace) -> Iterator[pdoc.doc.Doc]:
    """`module`, and all that it holds: classes, functions, methods and attributes."""
    yield module
    for member in module.own_members:
        if isinstance(member, pdoc.doc.Class):
            yield from documents(member)
        elif not isinstance(member, pdoc.doc.Module):
            yield member


class Pages:
    """All pages of the reference.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path):
        public = list(public_modules())
        self.output = output
        self.bases = base_classes(public)
        modules = [*public, *map(importlib.import_module, sorted(self.bases))]
        self.modules = {module.__name__: pdoc.doc.Module(module) for module in modules}
        # Where a class is defined -> its page.
        self.homes = {(module, name): module for module, names in self.bases.items() for name in names}
        for module in public:
            for value in (getattr(module, name) for name in public_names(module)):
                if inspect.isclass(value):
                    self.homes[value.__module__, value.__qualname__] = module.__name__

    def write(self) -> None:
        """Checks the docstrings and writes the pages."""
        for module in self.modules.values():
            for document in documents(module):
                if self.is_shown(document):
                    check(document)
                    shorten(document)
                    document.docstring = formatted(document.docstring)
        pdoc.render.env.globals |= {"bases": self.bases, "homes": self.homes}
        pdoc.render.env.tests["shown"] = self.is_shown
        pdoc.render.env.filters |= {"constructor": constructor, "summary": summary}
        pdoc.docstrings.GOOGLE_LIST_SECTIONS += ["Call arguments", "Warns"]
        pdoc.render.configure(docformat="google", show_source=False, template_directory=HERE)
        for name, module in self.modules.items():
            self._write(f"{name.replace('.', '/')}.html", pdoc.render.html_module(module, self.modules))
        self._write("index.html", pdoc.render.html_index(self.modules))
        self._write("search.js", pdoc.render.search_index(self.modules))

    def _write(self, name, text):
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def is_shown(self, document: pdoc.doc.Doc) -> bool:
        """Whether the pages show it: what is public and described, and is not described by Keras."""
        if isinstance(document, pdoc.doc.Module):
            return document.fullname in self.modules
        owner, _, name = document.qualname.rpartition(".")
        if document.modulename in self.bases and document.qualname.split(".")[0] not in self.bases[document.modulename]:
            return False
        if not owner:
            return not name.startswith("_")
        described = document.docstring and not document.docstring.startswith("Alias for field number")  # of a tuple
        return not name.startswith("_") and bool(described) and _is_ours(document)


def check(document: pdoc.doc.Doc) -> None:
    """Warns if the docstring describes arguments that do not exist, or names what the package does not have."""
    if isinstance(document, pdoc.doc.Class | pdoc.doc.Function):
        described = set(re.findall(r"^    \*{0,2}(\w+):", _section(document.docstring, "Args"), flags=re.M))
        unknown = described - _parameters(document)
        if unknown:
            _warn(document, f"describes the arguments {sorted(unknown)}")
    for reference in re.findall(r"`(?:keras_ssvae\.)?([a-z_]+(?:\.\w+)+)", document.docstring):
        if reference.partition(".")[0] in keras_ssvae.__all__:
            try:
                operator.attrgetter(reference)(keras_ssvae)
            except AttributeError:
                _warn(document, f"names `{reference}`")


def _warn(document, what):
    warnings.warn(f"The docstring of {document.fullname} {what}: there is no such thing.", stacklevel=3)


def _section(docstring, name):
    found = re.search(rf"^{name}:\n((?:\n|[ \t].*\n?)+)", docstring, flags=re.M)
    return found[1] if found else ""


def _parameters(document):
    function = constructor(document) if isinstance(document, pdoc.doc.Class) else document
    return set(function.signature.parameters) if function else set()


def constructor(document: pdoc.doc.Class) -> pdoc.doc.Function | None:
    """Returns `__init__`, if it has arguments that this package defines."""
    function = document.members.get("__init__")
    if function is None or function.taken_from[0].startswith(("keras.", "builtins")):
        return None
    return function if len(function.signature.parameters) > 1 else None


def _is_ours(document):
    """Whether a class of this package describes the member, not one of Keras that the owner overrides."""
    described = [each for each in _owner(document).__mro__ if getattr(vars(each).get(document.name), "__doc__", None)]
    return not described or described[0].__module__.startswith("keras_ssvae")


def _owner(document):
    """The class, or the module, that has the member."""
    return functools.reduce(getattr, document.qualname.split(".")[:-1], sys.modules[document.modulename])


def shorten(document: pdoc.doc.Doc) -> None:
    """Writes the annotations with public names."""
    if isinstance(document, pdoc.doc.Class) and (function := constructor(document)):
        shorten(function)
    elif isinstance(document, pdoc.doc.Function):
        signature, tensors = document.signature, _tensors(document.obj)
        document.signature = signature.replace(
            parameters=[
                each.replace(annotation=_printed(each.annotation, each.name in tensors))
                for each in signature.parameters.values()
            ],
            return_annotation=_printed(signature.return_annotation, "return" in tensors),
        )
    elif isinstance(document, pdoc.doc.Variable) and document.annotation is not pdoc.doc.empty:
        of_property = getattr(inspect.getattr_static(_owner(document), document.name, None), "fget", None)
        document.annotation_str = f": {_printed(document.annotation, 'return' in _tensors(of_property))}"


def _tensors(function):
    """The arguments, and "return", that the source annotates with `Tensor`, which for Python is `Any`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):  # a property of a tuple, a constructor that `dataclasses` made
        return set()
    node = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    annotations = {each.arg: each.annotation for each in (*node.args.args, *node.args.kwonlyargs)}
    annotations["return"] = node.returns
    return {name for name, each in annotations.items() if each is not None and "Tensor" in ast.unparse(each)}


class _Printed:
    """Has a text as its `repr`."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def _printed(annotation, has_tensors):
    if annotation is inspect.Parameter.empty:
        return annotation
    return _Printed(re.sub(r"\bAny\b", "Tensor", public(annotation)) if has_tensors else public(annotation))


def public(annotation: Any) -> str:
    """Returns the text of an annotation, with public names in place of the modules that define the classes."""
    parts = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in parts if part not in get_args(ArrayLike)]
        of_arrays = ["ArrayLike"] if len(parts) - len(rest) == len(get_args(ArrayLike)) else []
        return " | ".join((*of_arrays, *map(public, rest if of_arrays else parts)))
    if parts and not isinstance(parts[0], list):
        inside = ", ".join("..." if part is ... else public(part) for part in parts)
        return f"{get_origin(annotation).__name__}[{inside}]"
    if not inspect.isclass(annotation) or annotation.__module__ == "builtins":
        return "None" if annotation is type(None) else inspect.formatannotation(annotation)
    name = f"{annotation.__module__}.{annotation.__qualname__}"
    if name.startswith(("keras.src.", "tensorflow.python.", "typing.")):
        if annotation.__name__ not in _PUBLIC:
            warnings.warn(f"_PUBLIC of {__file__} must have the public name of {name}.", stacklevel=2)
        return _PUBLIC.get(annotation.__name__, name)
    return name


def formatted(docstring: str) -> str:
    """Returns the docstring with Markdown where pdoc does not know the form of a section."""
    docstring = re.sub(r"^Example:\n\n", "###### Example:\n\n", docstring, flags=re.M)
    docstring = re.sub(r"^Reference: (.+)$", r"###### Reference:\n\n> \1", docstring, flags=re.M)
    return re.sub(r"^    (\*+)(?=\w+:)", lambda stars: "    " + r"\*" * len(stars[1]), docstring, flags=re.M)


def summary(document: pdoc.doc.Doc) -> str:
    """Returns the first paragraph of the docstring."""
    return document.docstring.partition("\n\n")[0]


def main() -> None:
    """Builds the reference, as the command line says."""
    parser = argparse.ArgumentParser(description="Builds the API reference of keras_ssvae.")
    parser.add_argument("output", nargs="?", type=Path, default=HERE.parents[1] / "build/api", help="folder to write")
    output = parser.parse_args().output
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Pages(output).write()
    # Not those of other categories, such as deprecations inside of what pdoc needs.
    problems = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"Open {output / 'index.html'}")


if __name__ == "__main__":
    main()
