"""Saves small trained models for the tests of later releases: `python tests/saved/write.py 0.1`.

Files are written on TensorFlow. On JAX, started after that as `KERAS_BACKEND=jax`, only what the models of these files
give there is written: of one seed the backends draw different numbers. Files of a release are never written again.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

sys.path.insert(0, str(Path(__file__).parents[1]))

from contract import small

from keras_ssvae.models import EXoN, PartedVAE
from keras_ssvae.optimizers import Adam, GroupedOptimizer, PlateauAdam
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.schedules import LateExponentialDecay, RampUp

STEPS = 3
SHAPE = {"image_shape": (4, 4, 1)}  # the files stay small
PRIOR = GaussianMixture([[-3.0, 0.0], [2.0, 1.0], [0.5, 4.0]], [[1.0, 2.0], [0.5, 1.5], [3.0, 0.7]])


def exon_number():
    networks = {
        "encoder": small.encoder(**SHAPE),
        "decoder": small.decoder(**SHAPE),
        "classifier": small.classifier(dropout=0.5, **SHAPE),
    }
    model = EXoN(**networks, prior=PRIOR, beta=0.3, lambda1=5.0, lambda2=7.0, seed=3)
    model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(1e-2, weight_decay=1e-2)}))
    return model, (small.K,)


def exon_schedule():
    lambda2 = RampUp(7.0, ramp_epochs=2, steps_per_epoch=1)
    weights = {"beta": 0.3, "lambda1": 5.0, "lambda2": lambda2, "pseudo_label_dropout": False}
    model = EXoN(**small.convolutional(rate=0.5, **SHAPE), prior=PRIOR, **weights, name="with_a_schedule")
    rate = LateExponentialDecay(1e-2, start=1, epochs=5, steps_per_epoch=1)
    model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(rate, weight_decay=1e-2)}))
    return model, (small.K,)


def parted(sizes, latent_dim, **arguments):
    weights = {"gamma_z": 2.0, "gamma_u": 3.0, "gamma_c": 5.0, "gamma_h": 0.7, "gamma_bc": 1.1, "tolerance": 0.3}
    weights |= {"capacity_z": 4.0, "capacity_u": 6.0, "capacity_steps": 5, "slope_steps": 4}
    networks = small.features(dropout=0.2, **SHAPE), small.decoder(latent_dim, **SHAPE)
    model = PartedVAE(*networks, z_dim=2, **arguments, **weights)
    plateau = {"steps_per_epoch": 2, "patience": 0, "threshold": 0.9, "cooldown": 1}  # the rates fall in the next step
    model.compile(GroupedOptimizer({name: PlateauAdam(1e-2, **plateau) for name in ("supervised", "main")}))
    return model, sizes


def parted_one():
    return parted((small.K,), 4, num_classes=small.K, u_dims=2, class_priors=[(0.5, 0.3, 0.2)])


def parted_several():
    sizes, priors = (small.K, 2), [(0.5, 0.3, 0.2), (0.6, 0.4)]
    arguments = {"u_dims": (2, 1), "class_priors": priors, "pixel_loss": "absolute_error", "seed": 4}
    return parted(sizes, 5, num_classes=sizes, **arguments)


MODELS = {build.__name__: build for build in (exon_number, exon_schedule, parted_one, parted_several)}


def fit(model, batch, steps):
    images = {name: part for name, part in batch.items() if name != "labels"}
    batches = ((images, batch["labels"]) for _ in range(steps))
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)


def expected(model, batch):
    """What a model of a file gives, and its weights after one more step on the batch."""
    images = batch["unlabeled"]
    z = np.linspace(-1, 1, 2 * model.latent_dim, dtype="float32").reshape(2, -1)
    labels = [0, 2] if isinstance(model.num_classes, int) else [[0, 1], [2, 0]]
    results = {
        "z": z,
        "labels": np.array(labels),
        "classify": model.classify(images),
        "encode": model.encode(images),
        "decode": model.decode(z),
        "reconstruct": model.reconstruct(images),
        "interpolate": model.interpolate(images[:2], images[2:4], 3),
        "generate": model.generate(labels, seed=4),
    }
    results |= {f"optimizer/{i}": ops.convert_to_numpy(v) for i, v in enumerate(model.optimizer.variables)}
    results |= {f"batch/{name}": part for name, part in batch.items()}
    fit(model, batch, 1)
    results |= {f"after/{i}": w for i, w in enumerate(model.trainable_weights)}
    return {name: ops.convert_to_numpy(value) for name, value in results.items()}


if __name__ == "__main__":
    folder = Path(__file__).parent / sys.argv[1]
    backend = keras.backend.backend()
    folder.mkdir(exist_ok=True)
    for name, build in MODELS.items():
        model, sizes = build()
        batch = small.batch(sizes, **SHAPE)
        if backend == "tensorflow":
            fit(small.with_weights(model, 7), batch, STEPS)
            model.save(folder / f"{name}.keras")
        model = keras.saving.load_model(folder / f"{name}.keras")
        np.savez_compressed(folder / f"{name}.{backend}.npz", **expected(model, batch))
