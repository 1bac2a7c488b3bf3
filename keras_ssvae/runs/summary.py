"""The results of a finished run: the content of `metrics.json`, and a printed summary."""

import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import __version__
from keras_ssvae.runs import devices
from keras_ssvae.runs.plan import Run

_MOST_CLASSES = 10  # that a line of the summary lists


def metrics(run: Run, report: dict[str, Any], own: dict[str, Any], exported: str | None) -> dict[str, Any]:
    """Returns the content of `metrics.json`.

    Args:
        run: The trained run.
        report: The entries from the report of the test set.
        own: The entries that the experiment adds.
        exported: The directory of the SavedModel, or None.
    """
    settings, history = run.settings, run.checkpoint.history
    seconds = [row["train_seconds"] for row in history]
    # The first epoch also compiles; the median ignores single epochs that a busy machine slowed down.
    usual = 1e3 * statistics.median(seconds[1:]) / settings["steps_per_epoch"] if len(seconds) > 1 else None
    errors = {}
    if "error_percent" in report:  # of a model that classifies
        errors = {
            "test_error_percent": report["error_percent"],
            "validation_error_percent": history[-1].get("val_error"),
        }
    return {
        **{name: settings[name] for name in ("dataset", "labels", "beta", "seed", "epochs") if name in settings},
        "epochs_done": len(history),
        "steps": len(history) * settings["steps_per_epoch"],
        **errors,
        **{name: value for name, value in report.items() if name != "error_percent"},
        **own,
        "seconds": sum(seconds),
        "step_milliseconds": usual,
        "test_images": run.sets.num_test_images,
        "device": devices.device_name(),
        "backend": keras.backend.backend(),
        "settings": settings,
        "saved_model": exported,
        "versions": {
            "keras_ssvae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", keras.backend.backend(), "numpy")},
        },
    }


def summarise(run: Run, metrics: dict[str, Any]) -> None:
    """Prints the results of a run and where its files are."""
    lines = {"settings": " ".join(f"{name}={value}" for name, value in run.settings.items())}
    if metrics["epochs_done"] < metrics["epochs"]:
        lines["stopped"] = f"early, after {metrics['epochs_done']} of {metrics['epochs']} epochs"
    if "test_error_percent" in metrics:
        validation = metrics["validation_error_percent"]
        validation = "" if validation is None else f", validation {validation:.2f} %"
        lines["test error"] = f"{metrics['test_error_percent']:.2f} %{validation}"
        lines |= _by_class(metrics.get("error_percent_per_class") or [])
    lines |= run.experiment.summary(run.model, metrics)
    model, step = run.output_dir / "model.keras", metrics["step_milliseconds"]
    step = "" if step is None else f", {step:.0f} ms a step"
    lines |= {
        "time": f"{metrics['seconds']:.0f} s{step} on {metrics['device']}",
        "figures": run.output_dir / "figures",
        "model": model,
        "SavedModel": metrics["saved_model"]
        or "none, since it needs TensorFlow. Where TensorFlow is installed: python "
        f"{Path(sys.argv[0]).with_name('export.py')} --model {model} --export-dir {run.export_dir}",
    }
    print(f"\n{run.title}\n" + "\n".join(f"  {name:12s} {value}" for name, value in lines.items()), flush=True)


def _by_class(errors):
    """The line with the error of each class, or of the worst classes if there are many."""
    known = [(error, k) for k, error in enumerate(errors) if error is not None]
    if not known:
        return {}
    if len(known) <= _MOST_CLASSES:
        return {"by class": ", ".join(f"{k}: {error:.2f} %" for error, k in known)}
    worst = sorted(known, key=lambda each: -each[0])[:_MOST_CLASSES]
    return {"worst classes": ", ".join(f"{k}: {error:.2f} %" for error, k in worst)}
