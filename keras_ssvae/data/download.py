"""Downloads with tensorflow_datasets that end when the network is closed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# A download stops after this time without a new byte, so that a closed network is reported within 20 seconds.
_PATIENCE_SECONDS = 18.0
# Once data have come, tensorflow_datasets sorts them in memory for some time before it writes them.
_BYTES_OF_DATA, _PATIENCE_WITH_DATA_SECONDS = 2**20, 900.0


def download(builder: str, work: Path) -> str | None:
    """Downloads and prepares a set in a process of its own, which may be ended at any moment.

    Args:
        builder: Name and version of the set, such as `mnist:3.0.1`.
        work: The directory for it.

    Returns:
        None, or the reason why it failed.
    """
    code = (
        "import sys, tensorflow_datasets as tfds; tfds.disable_progress_bar(); "
        "tfds.builder(sys.argv[1], data_dir=sys.argv[2]).download_and_prepare()"
    )
    # Without these TensorFlow looks for Google's metadata server, which hangs in a closed network.
    environment = {**os.environ, "NO_GCE_CHECK": "true", "GCE_METADATA_IP": "127.0.0.1:1", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code, builder, str(work)]
    nowhere = subprocess.DEVNULL
    child = subprocess.Popen(
        command, env=environment, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere
    )
    try:
        size, since = _bytes_under(work), time.monotonic()
        while child.poll() is None:
            time.sleep(0.2)
            if _bytes_under(work) != size:
                size, since = _bytes_under(work), time.monotonic()
                continue
            patience = _PATIENCE_SECONDS if size < _BYTES_OF_DATA else _PATIENCE_WITH_DATA_SECONDS
            if time.monotonic() - since > patience:
                return f"no progress for {patience:.0f} seconds"
        return None if child.returncode == 0 else "the download failed"
    finally:
        _end_tree(child)


def _end_tree(child):
    """Ends the leader of a session with all its child processes: tensorflow_datasets starts processes of its own."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    elif child.poll() is None:  # Windows has neither process groups nor this signal
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], check=False, capture_output=True)
    child.wait()


def _bytes_under(folder):
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # temporary files may disappear
            total += path.stat().st_size
    return total
