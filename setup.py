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
    # The ranges that the tests ran on. What lies beyond may work: nobody has tried.
    install_requires=[
        "keras>=3.15,<3.16",
        "tensorflow>=2.21,<2.22",
        "tensorboard>=2.21,<2.22",  # TensorFlow 2.21 does not bring it, and tf.summary does not write without it
        "tensorflow-datasets>=4.9.10,<4.10",
        "importlib_resources",  # tensorflow-datasets needs it and does not say so
        "numpy>=2.4,<2.5",
        "scipy>=1.17,<1.18",
        "scikit-learn>=1.9,<1.10",
        "matplotlib>=3.11,<3.12",
    ],
    extras_require={
        # tensorflow-probability is an oracle of the tests only; it needs tf-keras of TensorFlow's version.
        # Some tests train on JAX in a process of their own.
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "tensorflow-probability",
            "tf-keras>=2.21,<2.22",
            "jax>=0.10,<0.11",
            "ruff",
            "mypy>=2.4,<3",
        ],
        "serving": ["tensorflow-serving-api>=2.21,<2.22"],
        # What `model.export(format="onnx")` needs, and what runs such a file; likewise LiteRT.
        "onnx": ["tf2onnx>=1.16,<2", "onnx>=1.16,<2", "onnxruntime>=1.20,<2"],
        "litert": ["ai-edge-litert>=1.4,<3"],
        "cluster": ["ray>=2.60,<3"],  # tables of runs on several machines
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
