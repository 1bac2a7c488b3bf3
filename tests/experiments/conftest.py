"""What the tests of the experiments share: processes, one finished run, one killed run, and calls in this process."""

import contextlib
import csv
import functools
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_ssvae.runs import flags, run


class Small:
    """The MNIST experiment with the embedded digits and very few steps, in processes of its own."""

    script = Path(__file__).parents[2] / "experiments/mnist_exon.py"
    epochs, steps = 3, 2
    args = ("--dataset", "digits", "--epochs", "3", "--steps-per-epoch", "2", "--batch-size", "16")
    args = (*args, "--labeled-batch-size", "8")
    output = Path("runs/exon_digits_100_beta0.25_seed1")
    export = Path("saved_models/exon_digits_100")
    timeout = 900  # a run takes half a minute on an idle machine
    backend = "tensorflow"
    flags = ("dataset", "labels", "labeled-indices", "validation", "beta", "epochs", "steps-per-epoch", "batch-size")
    flags = (*flags, "labeled-batch-size", "seed", "data-dir", "output-dir", "export-dir", "resume", "augment-on")
    flags = (*flags, "jit-compile", "mixed-precision", "steps-per-execution", "data-parallel")

    def start(self, folder, *args, script="mnist_exon.py", **environment):
        """Starts the script in another folder, with the environment of a user, not that of the tests."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "PYTEST"))}
        environment = {**inherited, "KERAS_BACKEND": self.backend, **environment}
        command = [sys.executable, self.script.with_name(script), *args]
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # If a shell runs the tests in the background, they and the processes that they start ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)

    def finish(self, process, folder):
        """Waits for the end of a process; returns its folder, its exit code and what it printed."""
        try:
            code = process.wait(self.timeout)
        finally:
            process.kill()
        out, err = ((folder / name).read_text() for name in ("stdout", "stderr"))
        return SimpleNamespace(folder=folder, code=code, out=out, err=err)

    def run(self, folder, *args, **environment):
        return self.finish(self.start(folder, *args, **environment), folder)

    def wait_until(self, happened, process, seconds=timeout):
        """Waits until `happened()` is true; returns False if the process ended, or the time was over, before that."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            if happened():
                return True
            time.sleep(0.002)
        return False

    def metrics(self, folder):
        return json.loads((folder / self.output / "metrics.json").read_text(), parse_constant=pytest.fail)

    def history(self, folder):
        with open(folder / self.output / "history.csv") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def arrays(self, folder):
        return arrays(folder / self.output)


def arrays(folder):
    """The arrays of a run's checkpoint, without the history, which has the times."""
    with np.load(folder / "checkpoint.npz") as file:
        return {name: file[name] for name in file.files if name != "history"}


@pytest.fixture(scope="session")
def small():
    return Small()


@pytest.fixture(scope="session")
def tensorflow():
    """TensorFlow, for tests that need it as the backend; other tests skip."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("on the TensorFlow backend")
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="session")
def finished(small, tensorflow, tmp_path_factory):
    """A run that was not interrupted."""
    return small.run(tmp_path_factory.mktemp("finished"), *small.args)


@pytest.fixture(scope="session")
def killed(small, tensorflow, tmp_path_factory):
    """The folder of the same run, killed as soon as its first checkpoint was written."""
    folder = tmp_path_factory.mktemp("killed")
    process = small.start(folder, *small.args)
    seen = small.wait_until((folder / small.output / "checkpoint.npz").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert seen, (folder / "stderr").read_text()
    assert not (folder / small.output / "metrics.json").exists()
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of the killed run, which a test may change."""
    folder = tmp_path / "unfinished"
    shutil.copytree(killed, folder)
    return folder


@contextlib.contextmanager
def loaded_script(name):
    """The modules of an experiment, in this process: its script, `runs.run` as `runner`, and `runs.flags`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Small.script.parent)
        yield SimpleNamespace(script=importlib.import_module(name), runner=run, flags=flags)
    for each, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == Small.script.parent:
            del sys.modules[each]


@pytest.fixture(scope="module")
def modules(request):
    """The modules of the experiment that a test module names in `SCRIPT`, by default `mnist_exon`."""
    with loaded_script(getattr(request.module, "SCRIPT", "mnist_exon")) as modules:
        yield modules


@pytest.fixture
def modules_of():
    """A context manager that loads the modules of the script with the given name."""
    return loaded_script


@pytest.fixture
def in_process(monkeypatch, capsys, tmp_path):
    """Calls `main()` in this process as a script with these arguments; returns the exit code and what was printed."""

    def run(main, script, *args, folder=tmp_path):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
        code, message = 0, ""
        try:
            main()
        except SystemExit as end:  # for a message in place of a code, Python prints it and exits with 1
            code, message = (1, f"{end.code}\n") if isinstance(end.code, str) else (end.code, "")
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err + message)

    return run


@pytest.fixture
def call(modules, in_process, monkeypatch):
    """Runs the experiment in this process; the result has the calls of `train`, if the test replaces it."""

    def run(*args, train=None, **folder):
        calls = []
        if train is not None:
            monkeypatch.setattr(modules.runner, "train", lambda run: [calls.append(run), train(run)])
        main = functools.partial(modules.runner.main, modules.script.EXPERIMENT)
        result = in_process(main, modules.script.__file__, *args, **folder)
        result.calls = calls
        return result

    return run


@pytest.fixture
def without_export(modules, monkeypatch):
    """Runs export no SavedModel. It takes time, and other tests have it."""
    monkeypatch.setattr(modules.runner, "export_saved_model", lambda model, folder: folder / "1")


@pytest.fixture
def arrays_of():
    return arrays


@pytest.fixture
def stop_after_an_epoch(modules):
    """Replaces `train`: trains one epoch and then raises a TypeError, so that the run is left as by a kill."""
    trained = modules.runner.train

    def stop(run):
        run.settings["epochs"] = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("keras_ssvae.evaluation.report", None)
            trained(run)

    return stop


@pytest.fixture
def goes_on_bit_for_bit(call, modules, stop_after_an_epoch, tmp_path):
    """Runs the script twice, once stopped after an epoch and resumed, and compares the checkpoints."""
    trained = modules.runner.train

    def compare(*args):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        assert call(*args, "--output-dir", whole).code == 0
        with pytest.raises(TypeError):
            call(*args, "--output-dir", parts, train=stop_after_an_epoch)
        modules.runner.train = trained
        assert call(*args, "--output-dir", parts, "--resume").code == 0
        before, after = arrays(whole), arrays(parts)
        assert before.keys() == after.keys()
        for name, values in before.items():
            np.testing.assert_array_equal(values, after[name], err_msg=name)

    return compare


class TableCall:
    """Calls a table in this process.

    Its runs train nothing. With `in_earnest` they train, each in a process of its own.
    """

    def __init__(self, modules_of, in_process, patch):
        self.modules_of, self.in_process, self.patch = modules_of, in_process, patch
        self.interrupt_at = None  # number of the run that Ctrl-C interrupts
        self.fail_at = None  # number of the run that fails
        self.metrics = lambda settings: {}  # settings -> the other entries of metrics.json

    def pretend(self, run):
        self.trained.append(run.output_dir.name)
        if self.interrupt_at == len(self.trained):
            raise KeyboardInterrupt
        if self.fail_at == len(self.trained):
            raise OSError(28, "No space left on device")
        for epoch in range(run.done, run.settings["epochs"]):
            run.checkpoint.on_epoch_end(epoch)
        run.model.save(run.output_dir / "model.keras")
        metrics = {**self.metrics(run.settings), "settings": run.settings}
        (run.output_dir / "metrics.json").write_text(json.dumps(metrics))

    def __call__(self, script, *args, in_earnest=False):
        self.trained = []
        with self.modules_of(script) as modules:
            table = modules.script.sweep
            argv = [modules.script.__file__, *map(str, args)]

            def launch(command, environment):
                assert command[: len(argv) + 1] == [sys.executable, *argv]
                self.patch.setattr(sys, "argv", command[1:])
                try:
                    table.main(modules.script.SWEEP)
                except SystemExit as end:
                    # Ctrl-C reaches both processes.
                    if end.code == 130:
                        raise KeyboardInterrupt from None
                    print(end.code, file=sys.stderr)
                    return 1
                finally:
                    self.patch.setattr(sys, "argv", argv)
                return 0

            if not in_earnest:
                self.patch.setattr(table, "launch", launch)
                self.patch.setattr(table, "end_with_parent", lambda: None)  # there is no other process
                self.patch.setattr(table, "train", self.pretend)
            result = self.in_process(lambda: table.main(modules.script.SWEEP), *argv)
        result.trained = self.trained
        return result


@pytest.fixture
def call_table(modules_of, in_process, monkeypatch):
    """Makes the table of a script in this process, with runs that train nothing; see `TableCall`."""
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "false")  # the script sets these
    handler = signal.getsignal(signal.SIGINT)  # an interrupted script changes it
    yield TableCall(modules_of, in_process, monkeypatch)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="session")
def table_of():
    """A function that reads the rows of the table in a folder."""

    def read(folder):
        with open(folder / "table.csv") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def explained(call):
    """The description in `--help`, and a dictionary: name of a flag -> its help text."""
    result = call("--help")
    assert (result.code, result.err) == (0, "")
    described, options = result.out.split("\noptions:")
    texts = re.split(r"\n  --", options)[1:]
    return " ".join(described.split()), {text.split(maxsplit=1)[0]: " ".join(text.split()) for text in texts}


@pytest.fixture(scope="session")
def contents():
    """A function that reads all files of a folder: path -> content; the content of a folder is None."""

    def read(folder):
        return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}

    return read


@pytest.fixture(scope="session")
def one_sentence():
    """A function that asserts that a script printed one error message and nothing else."""

    def check(result, match):
        assert result.code == 1
        assert re.match(r"\w+\.py: error: ", result.err)
        assert result.err.count("\n") == 1
        assert re.search(match, result.err), result.err
        assert result.out == ""

    return check


@pytest.fixture
def refused(call, contents, one_sentence, tmp_path):
    """Asserts that a mistake of the user gives one sentence, and that no file is written, changed or lost."""

    def run(*args, match, folder=tmp_path):
        before = contents(folder)
        result = call(*args, folder=folder, train=lambda run: pytest.fail("it began to train"))
        one_sentence(result, match)
        assert contents(folder) == before
        return result.err

    return run
