"""Processes for the runs of a table: one after the other, several at a time on this machine, or on a cluster."""

import contextlib
import dataclasses
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS_TO_END = 20  # for a run to end after Ctrl-C, before it is killed
_SECONDS_UNTIL_SENT = 2  # for a terminal to send Ctrl-C to the run too; another program interrupts the table alone


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that gets a process of its own.

    Attributes:
        title: Its title, such as `Run 3 of 8`.
        varied: The values of the varied flags, which distinguish it from the other runs.
        command: The command that starts the process.
        log: File in the run's directory for the output of the process.
    """

    title: str
    varied: str
    command: tuple[str, ...]
    log: Path


class Lost(Exception):
    """The process or the machine of a run was lost; the run itself did not fail."""


def launch(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a process to its end and returns its exit status. The user sees its output, and Ctrl-C ends it."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)  # closes when this process ends
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(_SECONDS_UNTIL_SENT)
        except subprocess.TimeoutExpired:
            _end([process])
        raise


def _end(processes):
    """Interrupts processes as Ctrl-C does, and kills those that do not end."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            # Windows cannot interrupt a process that has its own console. Terminating is safe: a run can resume.
            process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
    until = time.monotonic() + _SECONDS_TO_END
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def end_with_parent() -> None:
    """Ends this process as soon as its standard input closes, which happens when the parent process is killed.

    Otherwise the run would continue unnoticed, beside the run that is started in its place.
    """

    def watch():
        while os.read(0, 1):
            pass
        os._exit(1)  # safe at any moment: all files are replaced as a whole

    threading.Thread(target=watch, daemon=True).start()


class Pool:
    """A place for `work_off`: processes on this machine, at most `number` at a time."""

    retries = 0

    def __init__(self, number: int, environment: Mapping[str, str]):
        # Unbuffered, a log has its lines in the order of printing, so the last line says why a run failed.
        self.number, self.environment = number, {**environment, "PYTHONUNBUFFERED": "1"}
        self._processes: dict[Job, subprocess.Popen] = {}
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error) -> None:
        _end(self._processes.values())

    @property
    def free(self) -> bool:
        return len(self._processes) < self.number

    def start(self, job: Job) -> str:
        """Starts a run; returns its state as text for the user."""
        with open(job.log, "ab") as log:
            # In a process group of its own, so that Ctrl-C reaches it only once, through `__exit__`.
            process = subprocess.Popen(
                job.command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._processes[job] = process
        threading.Thread(target=self._watch, args=(job, process), daemon=True).start()
        return "starts"

    def _watch(self, job: Job, process: subprocess.Popen) -> None:
        process.wait()
        self._ended.put(job)

    def wait(self) -> tuple[Job, int | Lost]:
        """Waits for the next run that ends; returns it with its exit status."""
        job = self._ended.get()
        process = self._processes.pop(job)
        process.communicate()  # closes its input
        return job, process.returncode


def work_off(jobs: Sequence[Job], place) -> dict[Job, str]:
    """Makes all runs, as many at a time as the place allows, and prints a line at the start and the end of each.

    Args:
        jobs: The runs.
        place: A `Pool` or a `cluster.Cluster`.

    Returns:
        A dictionary: run that failed -> the reason.
    """
    waiting, tries, failed, going = deque(jobs), dict.fromkeys(jobs, 0), {}, 0
    with place:
        while waiting or going:
            while waiting and place.free:
                job = waiting.popleft()
                job.log.parent.mkdir(parents=True, exist_ok=True)
                job.log.touch()
                _say(job, f"{place.start(job)}: {job.varied}; its output: {job.log}")
                going += 1
            job, status = place.wait()
            going -= 1
            if isinstance(status, Lost) and tries[job] < place.retries:
                tries[job] += 1
                _say(job, f"was lost ({status}) and is tried again from its last complete epoch.")
                waiting.appendleft(job)
            elif status == 0:
                _say(job, "is finished.")
            else:
                failed[job] = str(status) if isinstance(status, Lost) else _reason(job, status)
                _say(job, f"failed: {failed[job]}")
    return failed


def _reason(job, status):
    if status < 0:
        return f"it was killed by signal {-status}; see {job.log}"
    lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1]} ({job.log})" if lines else f"exit status {status}"


def _say(job, what):
    print(f"{job.title} {what}", flush=True)
