"""Answers requests with TensorFlow alone: `with_tensorflow_alone.py FOLDER ...`.

Each folder has a SavedModel `served/1` and `requests.npz`, and receives `answers.npz`.

`import tensorflow` imports Keras wherever it is installed. None in `sys.modules` hides a package from it and from
everything after it, as on a machine that does not have it.
"""

import sys

PACKAGES = ("keras", "tf_keras", "keras_ssvae")
sys.modules.update(dict.fromkeys(PACKAGES))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

for folder in sys.argv[1:]:
    served, answers = tf.saved_model.load(f"{folder}/served/1"), {}
    requests = {}
    for key, value in np.load(f"{folder}/requests.npz").items():
        signature, name = key.split("/")
        requests.setdefault(signature, {})[name] = tf.constant(value)
    for signature, inputs in requests.items():
        outputs = served.signatures[signature](**inputs)
        for name, value in outputs.items():
            is_text = value.dtype == tf.string
            answers[f"{signature}/{name}"] = value.numpy().astype("S") if is_text else value
    np.savez(f"{folder}/answers.npz", signatures=sorted(served.signatures), **answers)

assert not [name for name, module in sys.modules.items() if module and name.split(".")[0] in PACKAGES]
