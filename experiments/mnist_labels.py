"""EXoN on MNIST for several numbers of labels, beside its classifier trained alone on the same labels.

Each number of labels and seed is a run of mnist_exon.py, and this script has the flags of that one too. With each run
goes a run of the classifier alone. It has the same network, labelled images, augmentation, optimizer and number of
steps, but its loss is only the cross entropy of the augmented labelled images, without unlabelled or mixed images.
Finished runs are kept; the same command makes or resumes the others. On 2 CPU cores such a pair of runs takes nearly
two hours for 100 epochs, about 25 minutes for `--epochs 20`, and two and a half minutes for `--dataset digits`, which
has enough labelled images for the first five numbers only.
"""

from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import mnist_exon

from keras_ssvae import data, evaluation, plots
from keras_ssvae.networks.exon import mnist_classifier
from keras_ssvae.runs import flags, sweep
from keras_ssvae.runs.directory import finished, write_json
from keras_ssvae.runs.plan import Plan


class ClassifierAlone(keras.Model):
    """A classifier that uses only the augmented labelled images of a semi-supervised batch."""

    def __init__(self, classifier: keras.Model):
        super().__init__()
        self.classifier = classifier

    def call(self, images, training=False):
        return self.classifier(images["labeled_augmented"], training=training)


def train_alone(plan: Plan) -> keras.Model:
    """Trains the classifier on the labelled images, for as many steps as the run of the plan."""
    settings, images, labeled = plan.settings, plan.images, plan.sets.split.labeled
    labeled_images = images.train_images[labeled]
    batches = data.semi_supervised(
        (labeled_images, images.train_labels[labeled]),
        labeled_images,  # not used
        num_classes=images.num_classes,
        labeled_batch_size=settings["labeled_batch_size"],
        unlabeled_batch_size=1,
        steps_per_epoch=settings["steps_per_epoch"],
        seed=settings["seed"],
        augment=plan.experiment.augment,
        augment_on=settings["augment_on"],
    )
    keras.utils.set_random_seed(settings["seed"])
    classifier = mnist_classifier(images.num_classes, dropout=settings["dropout"])
    model = ClassifierAlone(classifier)
    # A sum over the batch, as in EXoN, so that the images of the short last batch do not weigh more than others.
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    model.compile(mnist_exon.classifier_optimizer(settings), loss, **flags.compile_options(settings))
    model.fit(batches, epochs=settings["epochs"], steps_per_epoch=settings["steps_per_epoch"], shuffle=False, verbose=0)
    return classifier


# The settings of a run that the classifier alone depends on. It is trained on one device.
SETTINGS = ("dataset", "labels", "labeled_indices", "validation", "seed", "epochs", "steps_per_epoch", "dropout")
SETTINGS += ("labeled_batch_size", "schedule_epochs", "decay_start", "backend", "augment_on", "jit_compile")
SETTINGS += ("mixed_precision",)


def alone(plan: Plan) -> tuple[Path, dict[str, Any]]:
    """The directory of the classifier alone, and its settings."""
    settings = {name: plan.settings[name] for name in SETTINGS}
    name = "classifier_{dataset}_{labels}_seed{seed}".format(**settings)
    return plan.output_dir.with_name(name), settings


def metrics(plan: Plan) -> dict[str, Any] | None:
    """The metrics of EXoN's run with the error of the classifier alone; None unless both are finished."""
    of_both = [sweep.metrics_of(plan), finished(*alone(plan), plan.scheduled)]
    return None if None in of_both else of_both[0] | {"alone": of_both[1]["test_error_percent"]}


def train(plan: Plan) -> None:
    """Trains EXoN and the classifier alone, each only if it is not finished."""
    if sweep.metrics_of(plan) is None:
        sweep.train_run(plan)
    output_dir, settings = alone(plan)
    if finished(output_dir, settings, plan.scheduled) is None:
        print(f"\nThe classifier alone: {output_dir}", flush=True)
        flags.apply_precision(settings)
        logits = train_alone(plan).predict(data.scale(plan.images.test_images), batch_size=500, verbose=0)
        error = evaluation.classification_error(logits, plan.images.test_labels)
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / "metrics.json", {"test_error_percent": error, "settings": settings})


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The error against the number of labels, as a table and a figure."""
    rows, errors = [], {"EXoN": {}, "classifier alone": {}}
    for labels, runs in sweep.by(results, "labels").items():
        errors["EXoN"][labels] = [run.metrics["test_error_percent"] for run in runs]
        errors["classifier alone"][labels] = [run.metrics["alone"] for run in runs]
        rows.append([str(labels), str(len(runs)), *(sweep.Cell(each[labels], 2) for each in errors.values())])
    table = sweep.write_tables(output_dir, results, ["labels", "runs", *(f"{name}, error %" for name in errors)], rows)
    figure = plots.errors(errors, title=f"Test error on {results[0].plan.data_title}")
    figure.savefig(output_dir / "errors.png", dpi=150)
    return table


LABELS = sweep.Axis("labels", int, [20, 50, 100, 600, 1000, 3000], "numbers of labelled images")
COLUMNS = ["test_error_percent", "alone"]
SWEEP = sweep.Sweep(
    mnist_exon.EXPERIMENT, __doc__, [LABELS, sweep.SEEDS], COLUMNS, finish, train=train, metrics=metrics
)

if __name__ == "__main__":
    sweep.main(SWEEP)
