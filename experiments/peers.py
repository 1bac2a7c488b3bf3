"""The VAE and VampPrior of other libraries, with layers as wide as ours, for benchmark_step.py."""

import itertools
import tempfile
from collections.abc import Callable

import numpy as np

from keras_ssvae.models import VAE
from keras_ssvae.priors import StandardNormal, VampPrior
from keras_ssvae.runs.errors import UserError

LEARNING_RATE = 5e-4


def pythae(model: VAE, images: np.ndarray, batch_size: int) -> dict[str, Callable[[], None]]:
    """The training step of pythae's model, as in its `BaseTrainer`.

    Args:
        model: Our model, with its default networks.
        images: uint8 of shape `(N, H, W, C)`.
        batch_size: Number of images in a batch.

    Returns:
        `peer_step_ms`, a step on a batch in memory, and `peer_step_with_pipeline_ms`, a step with the next batch of
        pythae's data loader.

    Raises:
        ImportError: When pythae is not installed.
        UserError: When pythae does not have the prior of the model.
    """
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAMP, VAEConfig, VAMPConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    hidden, latent_dim = model.encoder.get_layer("gated_0").units, model.latent_dim
    shape = (images.shape[-1], *images.shape[1:-1])
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
    if isinstance(model.prior, VampPrior):
        config |= {"number_components": model.prior.num_components, "linear_scheduling_steps": 100}
        peer = VAMP(VAMPConfig(**config), Encoder(), Decoder())
    elif isinstance(model.prior, StandardNormal):
        peer = PythaeVAE(VAEConfig(**config), Encoder(), Decoder())
    else:
        raise UserError("--peer pythae has no mixture of Gaussians as prior. Use --prior normal or vampprior.")
    dataset = BaseDataset(torch.tensor(np.moveaxis(images, -1, 1) / 255, dtype=torch.float32), torch.zeros(len(images)))
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
