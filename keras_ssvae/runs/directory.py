"""The files of a run. No run overwrites another's directory, and no file is ever left half written."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_ssvae.runs.errors import UserError

CHECKPOINT = "checkpoint.npz"
LOG = "output.log"  # what a run of a table prints, when several run at a time
# Number of epochs -> the settings that depend on it.
Scheduled = Callable[[int], dict[str, Any]]


def check_output_dir(output_dir: Path, settings: dict[str, Any], resume: bool, scheduled: Scheduled) -> None:
    """Checks that a run may use a directory; writes nothing.

    Args:
        output_dir: The directory.
        settings: The settings of the run.
        resume: Whether the run may continue what is there: an unfinished run, or a finished one of fewer epochs.
        scheduled: Maps a number of epochs to the settings of the schedules.

    Raises:
        UserError: When the directory holds a finished run of as many epochs or more, any run while `resume` is False, a
            run with other settings, or files that are not a run; when another process is training it; or when it
            cannot be written.
    """
    mine = output_dir.resolve() in _held
    hold(output_dir)
    if not mine:
        release(output_dir)
    done, started = _finished(output_dir), _started(output_dir)
    if done is not None:
        _check_longer(output_dir, done, settings, resume, scheduled)
    elif started is not None:
        if not resume:
            raise UserError(
                f"{output_dir} holds an unfinished run. Add --resume to continue it, or choose another --output-dir."
            )
        _compare(output_dir, started, settings, scheduled)
    else:
        try:
            # A killed run can leave a half-written first file, and a table creates the log before its run starts.
            own = {"config.json.tmp", LOG}
            if output_dir.exists() and any(path.name not in own for path in output_dir.iterdir()):
                raise UserError(f"{output_dir} is not empty and holds no run. Choose another --output-dir.")
        except OSError as error:
            raise _cannot_be_written(output_dir, error) from error
    check_writable(output_dir, "--output-dir")


def _check_longer(output_dir, done, settings, resume, scheduled):
    """Raises a `UserError` when a finished run cannot be extended to more epochs."""
    before, epochs = done["settings"]["epochs"], settings["epochs"]
    if not resume or epochs == before:
        raise UserError(
            f"{output_dir} holds a finished run; its metrics.json has the results. Choose another --output-dir, delete "
            "this one, or train longer by --resume with more --epochs."
        )
    _compare(output_dir, done["settings"], settings, scheduled)
    check_epochs(output_dir, before, epochs)
    stopped = done.get("epochs_done", before)
    if stopped < before:
        raise UserError(
            f"The run in {output_dir} stopped early, after {stopped} of {before} epochs; more --epochs would change "
            "nothing. Choose another --output-dir."
        )
    if not (output_dir / CHECKPOINT).exists():
        raise UserError(
            f"{output_dir} holds a finished run without {CHECKPOINT}, from which it would continue. Choose another "
            "--output-dir."
        )


def check_epochs(output_dir: Path, done: int, epochs: int) -> None:
    """Raises a `UserError` when a run has already trained for more than `epochs` epochs."""
    if epochs < done:
        raise UserError(
            f"--epochs is {epochs}, but the run in {output_dir} has done {done} already. Give at least that number, or "
            "choose another --output-dir."
        )


def finished(output_dir: Path, settings: dict[str, Any], scheduled: Scheduled) -> dict[str, Any] | None:
    """Reads the `metrics.json` of a finished run with these settings.

    Returns:
        The metrics, or None if there is no run, an unfinished one, or one of fewer epochs.

    Raises:
        UserError: When the run there was made with other settings, or the file is damaged.
    """
    metrics = _finished(output_dir)
    if metrics is None:
        return None
    before = metrics["settings"].get("epochs")
    _compare(output_dir, metrics["settings"], settings, scheduled)
    check_epochs(output_dir, before, settings["epochs"])
    return metrics if settings["epochs"] == before else None


def _finished(output_dir):
    """The metrics; None also while a finished run is being extended: then `config.json` has more epochs."""
    file = output_dir / "metrics.json"
    metrics = _read(file, f"{file} is damaged ({{}}). Delete that file, then the run is evaluated again.", "settings")
    started = _started(output_dir) if metrics is not None else None
    extended = started is not None and started.get("epochs", 0) > metrics["settings"].get("epochs", 0)
    return None if extended else metrics


def _started(output_dir):
    file = output_dir / "config.json"
    remedy = "Put a copy in its place, or choose another --output-dir."
    return _read(file, f"{file}, which holds the settings of the run, is damaged ({{}}). {remedy}")


def _read(file, damaged, *needed):
    """A JSON object whose entries `needed` are objects too; None if there is no file."""
    if not file.exists():
        return None
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        return {**content, **{name: dict(content[name]) for name in needed}}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(damaged.format(error)) from error


def _compare(output_dir, started, settings, scheduled):
    settings = json.loads(json.dumps(settings))  # as they were written: a tuple becomes a list
    # `steps_per_execution` does not change the result, and a run of more epochs continues one of fewer.
    compared = {*started, *settings} - {"steps_per_execution", "epochs"}
    differing = sorted(name for name in compared if started.get(name) != settings.get(name))
    if not differing:
        return
    changes = ", ".join(f"{n} was {started.get(n)!r} and is {settings.get(n)!r}" for n in differing)
    before, epochs = started.get("epochs"), settings["epochs"]
    if before != epochs:
        of_before = scheduled(before)
        if all(name in of_before and of_before[name] == started.get(name) for name in differing):
            raise UserError(
                f"{output_dir} holds a run of {before} epochs, whose schedules depend on that number: with --epochs "
                f"{epochs} it would be another run ({changes}). Give --epochs {before}, or another directory."
            )
    raise UserError(
        f"{output_dir} was started with other settings: {changes}. Give the same settings, or another directory."
    )


def make_output_dir(output_dir: Path) -> None:
    """Makes a run directory. Call `check_output_dir` first, and again when this process holds the directory."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_written(output_dir, error) from error


def claim_output_dir(output_dir: Path, settings: dict[str, Any]) -> None:
    """Writes the settings of a run if they are new. Call `check_output_dir` first."""
    try:
        started = _started(output_dir)
        if started is None or started.get("epochs") != settings["epochs"]:
            write_json(output_dir / "config.json", settings)
    except OSError as error:
        raise _cannot_be_written(output_dir, error) from error


# Run directory -> the open descriptor that holds its lock, as long as this process trains the run.
_held: dict[Path, int] = {}


def hold(output_dir: Path) -> None:
    """Keeps other processes from training the run of a directory: two would overwrite each other's files.

    The lock lasts until `release` or the end of this process, whatever ends it. There is none where the directory does
    not exist, on Windows, and on file systems without locks.

    Raises:
        UserError: When another process trains the run, or the directory cannot be read.
    """
    directory = output_dir.resolve()
    if directory in _held or not directory.is_dir():
        return
    try:
        import fcntl
    except ImportError:  # on Windows
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise _cannot_be_written(output_dir, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"Another process is training the run in {output_dir}. Wait until it ends, or stop it; or choose another "
            "directory."
        ) from error
    except OSError:  # a file system without locks
        os.close(descriptor)
    else:
        _held[directory] = descriptor


def release(output_dir: Path) -> None:
    """Lets other processes train the run of a directory again."""
    descriptor = _held.pop(output_dir.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def _cannot_be_written(output_dir, error):
    return UserError(f"--output-dir {output_dir} cannot be written: {error}.")


def check_writable(directory: Path, flag: str) -> None:
    """Raises a `UserError` if a directory cannot be written, so that this is found before the training, not after."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {directory} cannot be written: {existing} is not a writable directory.")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole, so that a killed process leaves either the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Writes an object as JSON; see `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Writes the terms of each epoch as CSV, a row for each epoch and a column for each term; see `write_text`."""
    names = list(history[-1])
    write_table(path, names, [[row[name] for name in names] for row in history])


def write_table(path: Path, header: list, rows: list[list]) -> None:
    """Writes a header and rows as CSV; see `write_text`."""
    table = io.StringIO()
    csv.writer(table).writerows([header, *rows])
    write_text(path, table.getvalue())
