"""The VAE and VampPrior of other libraries, with layers as wide as ours, for benchmark_step.py.

They run in a process of their own. PyTorch's compiler can crash a process in which TensorFlow runs, and its threads
would change our times. The process is this file. The first line that it reads is its settings, as JSON; each further
line is the name of a step and how often to take it. It answers each line with one line of JSON.
"""

import itertools
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LEARNING_RATE = 5e-4


class Peer:
    """Another library in a process of its own.

    Args:
        name: Name of a function of this file that makes the steps.
        **settings: The arguments of that function.

    Raises:
        ImportError: When the library is not installed.
        RuntimeError: When the process ends.
    """

    def __init__(self, name: str, **settings: Any):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.steps = self._ask(json.dumps({"name": name, **settings}))
        if isinstance(self.steps, str):
            self.close()
            raise ImportError(self.steps)

    def timed(self, step: str, repeats: int) -> float:
        """The mean time of a step in milliseconds."""
        return self._ask(f"{step} {repeats}")

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, line):
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            print(line, file=stdin, flush=True)
            return json.loads(stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise RuntimeError(f"The process of the peer has ended with status {self._process.wait()}.") from error


def pythae(
    image_shape: list[int], num_images: int, batch_size: int, hidden: int, latent_dim: int, components: int | None
) -> dict[str, Callable[[], None]]:
    """The training step of pythae's model, as in its `BaseTrainer`.

    Args:
        image_shape: `(H, W, C)`.
        num_images: Number of random images to train on.
        batch_size: Number of images in a batch.
        hidden: Outputs of each gated layer.
        latent_dim: Number of latent dimensions.
        components: Number of components of VampPrior; None for the standard normal prior.

    Returns:
        `peer_step_ms`, a step on a batch in memory, and `peer_step_with_pipeline_ms`, a step with the next batch of
        pythae's data loader.

    Raises:
        ImportError: When pythae is not installed.
    """
    import pythae  # noqa: F401 (first, for the error where it is not installed)
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAMP, VAEConfig, VAMPConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    height, width, colours = image_shape
    shape = colours, height, width
    pixels = int(np.prod(shape))

    class Gated(torch.nn.Module):
        def __init__(self, inputs, units):
            super().__init__()
            self.linear, self.gate = torch.nn.Linear(inputs, units), torch.nn.Linear(inputs, units)

        def forward(self, x):
            return self.linear(x) * torch.sigmoid(self.gate(x))

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.hidden = torch.nn.Sequential(Gated(pixels, hidden), Gated(hidden, hidden))
            self.mean, self.logvar = torch.nn.Linear(hidden, latent_dim), torch.nn.Linear(hidden, latent_dim)

        def forward(self, x):
            h = self.hidden(x.reshape(-1, pixels))
            return ModelOutput(embedding=self.mean(h), log_covariance=torch.clamp(self.logvar(h), -6.0, 2.0))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            layers = Gated(latent_dim, hidden), Gated(hidden, hidden), torch.nn.Linear(hidden, pixels)
            self.layers = torch.nn.Sequential(*layers, torch.nn.Sigmoid())

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z).reshape(-1, *shape))

    config = {"input_dim": shape, "latent_dim": latent_dim, "reconstruction_loss": "bce"}
    if components is None:
        peer = PythaeVAE(VAEConfig(**config), Encoder(), Decoder())
    else:
        config |= {"number_components": components, "linear_scheduling_steps": 100}
        peer = VAMP(VAMPConfig(**config), Encoder(), Decoder())
    dataset = BaseDataset(torch.rand((num_images, *shape)), torch.zeros(num_images))
    training = {"optimizer_cls": "Adam", "learning_rate": LEARNING_RATE, "no_cuda": True}
    with tempfile.TemporaryDirectory() as folder:  # else pythae makes one where it is started
        config = BaseTrainerConfig(output_dir=folder, per_device_train_batch_size=batch_size, **training)
        trainer = BaseTrainer(peer, dataset, training_config=config)
        trainer.prepare_training()
    peer.train()
    batches = itertools.chain.from_iterable(itertools.repeat(trainer.train_loader))
    at_hand = next(batches)

    def step(batch):
        output = peer(batch, epoch=1, dataset_size=len(dataset), uses_ddp=False)
        trainer._optimizers_step(output)
        output.loss.item()  # as the trainer does at each step

    return {
        "peer_step_ms": lambda: step(at_hand),
        "peer_step_with_pipeline_ms": lambda: step(next(batches)),
    }


def answer() -> None:
    """Makes the steps that the first line of the input asks for, and times those that the next lines name."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    logging.disable(logging.INFO)
    settings = json.loads(input())
    try:
        steps = globals()[settings.pop("name")](**settings)
    except ImportError as error:
        print(json.dumps(str(error)), file=answers, flush=True)
        return
    print(json.dumps(list(steps)), file=answers, flush=True)
    for line in sys.stdin:
        name, repeats = line.split()
        began = time.perf_counter()
        for _ in range(int(repeats)):
            steps[name]()
        print(1e3 * (time.perf_counter() - began) / int(repeats), file=answers, flush=True)


if __name__ == "__main__":
    answer()
