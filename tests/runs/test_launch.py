"""Several processes at a time: what is said of them, what they print, and that none outlives its starter."""

import os
import runpy
import signal
import subprocess
import sys
import time

import pytest

from keras_ssvae.runs import launch
from keras_ssvae.runs.launch import Job, Lost, Pool, work_off


def jobs(tmp_path, *codes):
    return [
        Job(
            f"Run {i + 1} of {len(codes)}",
            f"seed {i}",
            (sys.executable, "-c", code),
            tmp_path / f"run{i}" / "output.log",
        )
        for i, code in enumerate(codes)
    ]


def test_runs_print_to_their_logs_and_a_failed_one_is_named(tmp_path, capsys):
    fine = "import time; print('epoch 1'); time.sleep(0.1)"
    made = jobs(tmp_path, fine, "import sys; print('begins'); sys.exit('x.py: error: no disk')", fine)
    failed = work_off(made, Pool(2, os.environ))
    assert failed == {made[1]: f"x.py: error: no disk ({made[1].log})"}
    assert [job.log.read_text() for job in made] == ["epoch 1\n", "begins\nx.py: error: no disk\n", "epoch 1\n"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Run 1 of 3 starts: seed 0; its output: {made[0].log}"
    assert f"Run 2 of 3 failed: {failed[made[1]]}" in lines
    assert "Run 3 of 3 is finished." in lines
    assert len(lines) == 6


def test_no_more_than_so_many_go_on_at_a_time(tmp_path):
    mark = "import os, sys, time; open(str(time.monotonic_ns()) + '.in', 'w'); time.sleep(0.2);"
    mark += " open(str(time.monotonic_ns()) + '.out', 'w')"
    at_work = tmp_path / "at_work"
    at_work.mkdir()
    made = jobs(tmp_path, *[f"import os; os.chdir({str(at_work)!r}); {mark}"] * 5)
    assert work_off(made, Pool(2, os.environ)) == {}
    going, most = 0, 0
    for name in sorted(os.listdir(at_work), key=lambda name: int(name.partition(".")[0])):
        going += 1 if name.endswith(".in") else -1
        most = max(most, going)
    assert most == 2


def test_a_killed_process_is_no_retry_on_this_machine(tmp_path):
    (job,) = made = jobs(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert work_off(made, Pool(2, os.environ)) == {job: f"it was killed by signal 9; see {job.log}"}


class Losing:
    """A place that loses a run so many times."""

    retries, free = 3, True

    def __init__(self, times):
        self.times, self.started = times, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def start(self, job):
        self.started.append(job)
        return "waits"

    def wait(self):
        self.times -= 1
        return self.started[-1], Lost("its node died") if self.times >= 0 else 0


def test_a_lost_run_is_tried_again_a_few_times(tmp_path, capsys):
    (job,) = made = jobs(tmp_path, "")
    place = Losing(2)
    assert work_off(made, place) == {}
    assert len(place.started) == 3
    assert "Run 1 of 1 was lost (its node died) and is tried again from its last" in capsys.readouterr().out
    assert work_off(made, Losing(9)) == {job: "its node died"}


# The module needs nothing but Python, so these processes start at once.
PARENT = f"""
import os, runpy, sys
from pathlib import Path
launch = runpy.run_path({launch.__file__!r})
child = f"import os, runpy, time; runpy.run_path({launch.__file__!r})['end_with_parent']();" \\
    "print(os.getpid(), flush=True); time.sleep(60)"
command = (sys.executable, "-c", child)
jobs = [launch["Job"](str(i), "", command, Path(f"run{{i}}/output.log")) for i in range(2)]
try:
    if sys.argv[1:] == ["one at a time"]:
        launch["launch"](command, os.environ)
    launch["work_off"](jobs, launch["Pool"](2, os.environ))
except KeyboardInterrupt:
    sys.exit(130)
"""


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(happened):
    end = time.monotonic() + 30
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    return happened()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_runs_end_with_the_table(tmp_path, sent):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process inherits
    process = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.DEVNULL)
    logs = [tmp_path / f"run{i}/output.log" for i in range(2)]
    try:
        assert wait_for(lambda: all(log.exists() and log.read_text().endswith("\n") for log in logs))
        process.send_signal(sent)
        assert process.wait(30) == (130 if sent == signal.SIGINT else -sent)
        pids = [int(log.read_text().split()[0]) for log in logs]
        assert wait_for(lambda: all(map(gone, pids)))
    finally:
        process.kill()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_has_the_terminal_ends_with_the_table_too(sent):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process inherits
    process = subprocess.Popen([sys.executable, "-c", PARENT, "one at a time"], stdout=subprocess.PIPE)
    try:
        pid = int(process.stdout.readline())
        process.send_signal(sent)
        assert process.wait(30) == (130 if sent == signal.SIGINT else -sent)
        assert wait_for(lambda: gone(pid))
    finally:
        process.kill()


def test_the_module_needs_nothing_but_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    runpy.run_path(launch.__file__)
