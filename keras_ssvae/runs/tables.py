"""The table of a sweep: its cells and its files."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ssvae.runs import saved
from keras_ssvae.runs.directory import write_table, write_text
from keras_ssvae.runs.plan import Plan


def model_file(plan: Plan) -> Path:
    """Where the run of a plan leaves its trained model."""
    return plan.output_dir / "model.keras"


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its plan, and its metrics."""

    plan: Plan
    metrics: dict[str, Any]

    def model(self) -> keras.Model:
        return saved.load_model(model_file(self.plan), "the model of a run")


def by(results: Sequence[Result], key: str | Callable[[Result], Any]) -> dict[Any, list[Result]]:
    """Groups the results by a setting, or by what a function gives for each; groups and results keep their order."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        value = result.plan.settings[key] if isinstance(key, str) else key(result)
        groups.setdefault(value, []).append(result)
    return groups


def filled(columns: Mapping[str, tuple[str, int]], results: Sequence[Result]) -> dict[str, tuple[str, int]]:
    """The columns, heading -> (name in the metrics, digits), that at least one of the results has a value for."""
    names = {name for result in results for name in result.metrics}
    return {heading: column for heading, column in columns.items() if column[0] in names}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number from each run of a row. Shown as the mean and, of two or more, the standard deviation.

    Attributes:
        values: The numbers. If one of them is None, the cell is empty.
        digits: Digits after the decimal point.
    """

    values: Sequence[float | None]
    digits: int

    @property
    def mean(self) -> str:
        return "" if None in self.values else f"{np.mean(self._numbers):.{self.digits}f}"

    @property
    def deviation(self) -> str:
        few = None in self.values or len(self.values) < 2
        return "" if few else f"{np.std(self._numbers, ddof=1):.{self.digits}f}"

    @property
    def _numbers(self) -> list[float]:
        return [value for value in self.values if value is not None]

    def __str__(self) -> str:
        return f"{self.mean} ({self.deviation})" if self.deviation else self.mean


def write_tables(
    output_dir: Path, results: Sequence[Result], header: Sequence[str], rows: Sequence[Sequence[str | Cell]]
) -> str:
    """Writes `table.csv`, with standard deviations in columns of their own, and `table.md`; returns that text."""
    settings, title = results[0].plan.settings, results[0].plan.data_title
    names: list[str] = []
    for name, cell in zip(header, rows[0], strict=True):
        names += [name, f"{name}, deviation"] if isinstance(cell, Cell) else [name]
    write_table(output_dir / "table.csv", names, [_texts(row) for row in rows])
    steps = " or ".join(map(str, sorted({result.plan.settings["steps_per_epoch"] for result in results})))
    planned = f" of {settings['schedule_epochs']}" if "schedule_epochs" in settings else ""
    layout = f", layout {settings['layout']}" if settings.get("layout") else ""
    about = f"{title}, {settings['epochs']}{planned} epochs, each of {steps} steps{layout}; "
    text = f"{about}mean (standard deviation) over the runs.\n\n{markdown(header, rows)}"
    write_text(output_dir / "table.md", f"{text}\n")
    return text


def markdown(header: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *(map(str, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _texts(row):
    """A row of `table.csv`."""
    return [text for cell in row for text in ((cell.mean, cell.deviation) if isinstance(cell, Cell) else (cell,))]
