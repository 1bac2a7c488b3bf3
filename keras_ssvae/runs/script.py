"""How a script ends: in success, or in a sentence."""

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
    """Runs a script; a user's mistake, a full disk or Ctrl-C ends in one sentence, without a traceback.

    Args:
        work: What it does.
        go_on: The flag that goes on with what was interrupted; "" where the same command does, None where nothing can.
    """
    try:
        work()
    except (UserError, data.DataUnavailableError, callbacks.CheckpointError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only add a traceback to what is over
        if go_on is None:
            sys.exit(130)
        resume = " ".join(["python", *map(shlex.quote, sys.argv)])
        if go_on not in ("", *sys.argv):
            resume = f"{resume} {go_on}"
        if keras.backend.backend() != "tensorflow":
            resume = f"KERAS_BACKEND={keras.backend.backend()} {resume}"
        print(f"\nInterrupted. To go on after the last complete epoch: {resume}", file=sys.stderr)
        sys.exit(130)
