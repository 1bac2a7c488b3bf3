"""The files of a run: a directory that is never lost or taken for another's, and files that are never half written."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from keras_ssvae.runs.errors import UserError


def check_output_dir(output_dir: Path, settings: dict[str, Any], resume: bool) -> None:
    """Refuses a run directory that is not this run's own; writes nothing.

    Raises:
        UserError: When it holds a finished run, an unfinished one without `resume`, one with other settings, or files
            that are no run at all, or cannot be written.
    """
    config = output_dir / "config.json"
    if (output_dir / "metrics.json").exists():
        raise UserError(
            f"{output_dir} holds a finished run, see its metrics.json. Choose another --output-dir, or delete it."
        )
    if config.exists():
        if not resume:
            raise UserError(
                f"{output_dir} holds an unfinished run. Add --resume to go on with it, or choose another --output-dir."
            )
        try:
            started = dict(json.loads(config.read_text()))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{config}, which holds the settings of the run, is damaged ({error}). Put a copy in its place, or "
                "choose another --output-dir."
            ) from error
        _compare(output_dir, started, settings)
    else:
        try:
            # A kill can leave the first file half written.
            if output_dir.exists() and any(path.name != "config.json.tmp" for path in output_dir.iterdir()):
                raise UserError(f"{output_dir} is not empty and holds no run. Choose another --output-dir.")
        except OSError as error:
            raise _cannot_be_written(output_dir, error) from error
    check_writable(output_dir, "--output-dir")


def finished(output_dir: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What the `metrics.json` of a finished run with these settings holds; None where none is finished.

    Raises:
        UserError: When the run there was made with other settings, or the file is damaged.
    """
    file = output_dir / "metrics.json"
    if not file.exists():
        return None
    try:
        metrics = dict(json.loads(file.read_text()))
        started = dict(metrics["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is damaged ({error}). Delete that file, and the run is evaluated again.") from error
    _compare(output_dir, started, settings)
    return metrics


def _compare(output_dir, started, settings):
    # Whatever `steps_per_execution` is, the result is the same.
    compared = {*started, *settings} - {"steps_per_execution"}
    differing = sorted(name for name in compared if started.get(name) != settings.get(name))
    if differing:
        changes = ", ".join(f"{n} was {started.get(n)!r} and is {settings.get(n)!r}" for n in differing)
        raise UserError(
            f"{output_dir} was started with other settings: {changes}. Take the same settings, or another directory."
        )


def claim_output_dir(output_dir: Path, settings: dict[str, Any]) -> None:
    """Makes a run directory, after `check_output_dir`, and writes the settings where it is new."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if not (output_dir / "config.json").exists():
            write_json(output_dir / "config.json", settings)
    except OSError as error:
        raise _cannot_be_written(output_dir, error) from error


def _cannot_be_written(output_dir, error):
    return UserError(f"--output-dir {output_dir} cannot be written: {error}.")


def check_writable(directory: Path, flag: str) -> None:
    """Fails before training, not after it, when the result could not be written."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {directory} cannot be written: {existing} is not a writable directory.")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole, so that a kill leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, newline="")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    names = list(history[-1])
    write_table(path, names, [[row[name] for name in names] for row in history])


def write_table(path: Path, header: list, rows: list[list]) -> None:
    table = io.StringIO()
    csv.writer(table).writerows([header, *rows])
    write_text(path, table.getvalue())
