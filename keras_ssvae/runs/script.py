"""The main function of a script: it turns errors of the user into one sentence."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import callbacks, data
from keras_ssvae.runs.errors import UserError


def script(work: Callable[[], Any], go_on: str | None = None) -> None:
    """Runs a script. A mistake of the user, a full disk or Ctrl-C gives one sentence, without a traceback.

    Args:
        work: The work of the script.
        go_on: Flag that resumes an interrupted run. "" if the same command resumes it, None if it cannot be resumed.
    """
    try:
        work()
    except (UserError, data.DataUnavailableError, callbacks.CheckpointError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only print a traceback
        if go_on is None:
            sys.exit(130)
        resume = " ".join(["python", *map(shlex.quote, sys.argv)])
        if go_on not in ("", *sys.argv):
            resume = f"{resume} {go_on}"
        if keras.backend.backend() != "tensorflow":
            resume = f"KERAS_BACKEND={keras.backend.backend()} {resume}"
        print(f"\nInterrupted. To go on after the last complete epoch: {resume}", file=sys.stderr)
        sys.exit(130)
