"""Packaging of keras_ssvae; the settings of pytest and ruff are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """Read `__version__` without importing the package, which would need Keras at build time."""
    source = (ROOT / "keras_ssvae" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if match is None:
        raise RuntimeError('keras_ssvae/__init__.py must hold a line like `__version__ = "0.1.0"`.')
    return match[1]


readme = ROOT / "README.md"

setup(
    name="keras_ssvae",
    version=version(),
    description="Semi-supervised and mixture-prior variational autoencoders for Keras 3",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["keras_ssvae", "keras_ssvae.*"]),
    python_requires=">=3.11",
    # `.ci/run` tests the lowest of these versions, and the highest that are to be had. Below the next major release,
    # since ranges that end sooner downgrade what else lives in the user's environment.
    install_requires=[
        "keras>=3.10,<4",
        "tensorflow>=2.20,<3",
        "tensorboard>=2.20,<3",  # TensorFlow 2.21 does not bring it, and tf.summary does not write without it
        "tensorflow-datasets>=4.9.10,<5",
        "importlib_resources",  # tensorflow-datasets needs it and does not say so
        "numpy>=1.26,<3",
        "scipy>=1.13,<2",
        "scikit-learn>=1.5,<2",
        "matplotlib>=3.9,<4",
    ],
    extras_require={
        # tensorflow-probability is an oracle of the tests only; it needs tf-keras of TensorFlow's version.
        # Some tests train on JAX in a process of their own.
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "scikit-image",  # the oracle of the structural similarity
            "tensorflow-probability",
            "tf-keras>=2.20,<3",
            "jax>=0.8,<1",
            "ruff",
            "mypy>=2.4,<3",
            "build",  # makes what is released
        ],
        "docs": ["pdoc>=16,<17"],  # makes the API reference
        "serving": ["tensorflow-serving-api>=2.20,<3"],
        # What `model.export(format="onnx")` needs, and what runs such a file; likewise LiteRT.
        "onnx": ["tf2onnx>=1.16,<2", "onnx>=1.16,<2", "onnxruntime>=1.20,<2"],
        "litert": ["ai-edge-litert>=1.4,<3"],
        "cluster": ["ray>=2.60,<3"],  # tables of runs on several machines
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
