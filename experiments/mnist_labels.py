"""EXoN on MNIST for several numbers of labels, and beside it its classifier trained on the same labels alone.

Each number and seed is a run of mnist_exon.py, whose flags are these too, and one of the classifier: same network,
labelled images, augmentation, optimizer and number of steps, but cross entropy only, and no unlabelled image. Finished
runs are kept, and the same command goes on with what is left. On 2 CPU cores a pair of runs of 100 epochs takes nearly
two hours, one of `--epochs 20` about 25 minutes, one of `--dataset digits` two and a half.
"""

from pathlib import Path

import quiet  # noqa: F401

# isort: split
import flags
import keras
import mnist_exon
import sweep
from run_directory import finished, write_json
from runner import Plan

from keras_ssvae import data, evaluation, plots
from keras_ssvae.networks import mnist


class ClassifierAlone(keras.Model):
    """Sees of a semi-supervised batch the augmented labelled images only."""

    def __init__(self, classifier: keras.Model):
        super().__init__()
        self.classifier = classifier

    def call(self, images, training=False):
        return self.classifier(images["labeled_augmented"], training=training)


def train_alone(plan: Plan) -> keras.Model:
    """The classifier after as many steps on the labelled images as a run of the plan takes."""
    settings, images, labeled = plan.settings, plan.images, plan.split.labeled
    labeled_images = images.train_images[labeled]
    batches = data.semi_supervised(
        (labeled_images, images.train_labels[labeled]),
        labeled_images,  # nothing looks at them
        num_classes=images.num_classes,
        labeled_batch_size=settings["labeled_batch_size"],
        unlabeled_batch_size=1,
        steps_per_epoch=settings["steps_per_epoch"],
        seed=settings["seed"],
        augment=plan.experiment.augment,
        augment_on=settings["augment_on"],
    )
    keras.utils.set_random_seed(settings["seed"])
    classifier = mnist.classifier(images.num_classes, dropout=settings["dropout"])
    model = ClassifierAlone(classifier)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(mnist_exon.classifier_optimizer(settings), loss, **flags.compile_options(settings))
    model.fit(batches, epochs=settings["epochs"], steps_per_epoch=settings["steps_per_epoch"], shuffle=False, verbose=0)
    return classifier


def error_alone(plan: Plan) -> float:
    """Test error in percent of the classifier alone; a finished run is kept."""
    settings = {name: value for name, value in plan.settings.items() if name != "beta"}
    output_dir = plan.output_dir.with_name(
        f"classifier_{settings['dataset']}_{settings['labels']}_seed{settings['seed']}"
    )
    metrics = finished(output_dir, settings)
    if metrics is None:
        print(f"\nThe classifier alone, {settings['labels']} labels, seed {settings['seed']}", flush=True)
        flags.apply_precision(settings)
        logits = train_alone(plan).predict(data.scale(plan.images.test_images), batch_size=500, verbose=0)
        error = evaluation.classification_error(logits, plan.images.test_labels)
        metrics = {"test_error_percent": error, "settings": settings}
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / "metrics.json", metrics)
        keras.backend.clear_session()
    return metrics["test_error_percent"]


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The error against the number of labels, as a table and a figure."""
    rows, errors = [], {"EXoN": {}, "classifier alone": {}}
    for labels, runs in sweep.by(results, "labels").items():
        errors["EXoN"][labels] = [run.metrics["test_error_percent"] for run in runs]
        errors["classifier alone"][labels] = [error_alone(run.plan) for run in runs]
        of_labels = (sweep.mean_and_deviation(each[labels], 2) for each in errors.values())
        rows.append([str(labels), str(len(runs)), *of_labels])
    plots.errors(errors, title=f"Test error on {results[0].plan.images.name}").savefig(
        output_dir / "errors.png", dpi=150
    )
    return sweep.write_tables(output_dir, ["labels", "runs", *(f"{name}, error %" for name in errors)], rows)


LABELS = sweep.Axis("labels", int, [20, 50, 100, 600, 1000, 3000], "numbers of labelled images")

SWEEP = sweep.Sweep(mnist_exon.EXPERIMENT, __doc__, [LABELS, sweep.SEEDS], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
