"""Uses models in a process that has only their files: `in_a_fresh_process.py FOLDER ...`.

Each folder has the model, `given.npz` with the arguments of the verbs, images and the batch of a step, and receives
`result.npz` and, on TensorFlow, an exported SavedModel.
"""

import sys

import keras
import numpy as np
from contract.programs import program_of

import keras_ssvae.models  # noqa: F401 (all that a file needs)
from keras_ssvae.export import export_saved_model

for folder in sys.argv[1:]:
    model = keras.saving.load_model(f"{folder}/model.keras")
    calls, batch = {}, {}
    for key, value in np.load(f"{folder}/given.npz").items():
        kind, name, *index = key.split("/")
        if kind == "verb":
            calls.setdefault(name, []).append(value if value.ndim else int(value))
        else:
            batch[name] = value
    names = list(calls)

    def answers(model=model, calls=calls, names=names):
        return [getattr(model, name)(*calls[name]) for name in names]

    results = {f"verb/{name}": value for name, value in zip(names, program_of(model, answers)(), strict=True)}
    results |= {f"predict/{k}": v for k, v in model.predict(calls["encode"][0], verbose=0).items()}
    together = (*model.weights, *model.optimizer.variables)
    state = [variable for variable in together if not variable.path.endswith("seed_generator_state")]
    results |= {f"before/{i}": keras.ops.convert_to_numpy(variable) for i, variable in enumerate(state)}
    if keras.backend.backend() == "tensorflow":
        export_saved_model(model, f"{folder}/served")
    labels = (batch.pop("labels"),) if "labels" in batch else ()
    batches = ((batch, *labels) for _ in range(2))
    model.fit(batches, steps_per_epoch=2, initial_epoch=1, epochs=2, shuffle=False, verbose=0)
    results |= {f"after/{i}": keras.ops.convert_to_numpy(variable) for i, variable in enumerate(state)}
    np.savez(f"{folder}/result.npz", **{name: keras.ops.convert_to_numpy(value) for name, value in results.items()})
