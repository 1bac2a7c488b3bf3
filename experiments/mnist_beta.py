"""EXoN on MNIST for several betas: Table 3 and Figure 2 of the paper.

Each beta and seed is a run of mnist_exon.py, and this script has the flags of that one too. Finished runs are kept; the
same command makes or resumes the others. The paper has one run of 100 epochs for each of eight betas. On 2 CPU cores a
run of 100 epochs takes about an hour and a half, one of `--epochs 20` about twenty minutes, one of `--dataset digits`
two minutes.
"""

from pathlib import Path

import quiet  # noqa: F401

# isort: split
import mnist_exon

from keras_ssvae import plots
from keras_ssvae.runs import sweep

# Table 3: beta -> negative SSIM, KL-divergence, error in percent; one run of 100 epochs each.
PUBLISHED = {
    0.1: (0.430, 19.654, 3.29),
    0.25: (0.438, 9.654, 3.23),
    0.5: (0.440, 8.481, 3.25),
    0.75: (0.445, 7.684, 3.33),
    1.0: (0.435, 6.750, 3.46),
    5.0: (0.439, 4.064, 3.74),
    10.0: (0.418, 2.729, 4.07),
    50.0: (0.316, 1.855, 3.38),
}
# Name in metrics.json -> heading, decimal places, and index in PUBLISHED or None if the paper has no such number.
COLUMNS = {
    "negative_ssim": ("negative SSIM", 3, 0),
    "kl_divergence": ("KL-divergence", 3, 1),
    "test_error_percent": ("error %", 2, 2),
    "information_xz": ("I(x, z given y)", 3, None),
    "kl_z": ("KL(q(z given y), p(z given y))", 3, None),
}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Table 3 with the information of (11) beside it and, of a latent plane, Figure 2 for the first seed."""
    settings, images = results[0].plan.settings, results[0].plan.images
    of_paper = (settings["dataset"], settings["labels"], settings["layout"]) == ("mnist", 100, None)
    header, rows = ["beta", "runs"], []
    for heading, _, place in COLUMNS.values():
        header += [heading] if place is None else [heading, f"{heading}, published (100 epochs)"]
    for beta, runs in sweep.by(results, "beta").items():
        row = [f"{beta:g}", str(len(runs))]
        for name, (_, digits, place) in COLUMNS.items():
            row.append(sweep.Cell([run.metrics[name] for run in runs], digits))
            if place is not None:
                row.append(f"{PUBLISHED[beta][place]:.{digits}f}" if of_paper and beta in PUBLISHED else "")
        rows.append(row)
    table = sweep.write_tables(output_dir, results, header, rows)
    if results[0].plan.prior.latent_dim == 2:
        models = {f"beta {beta:g}": runs[0].model() for beta, runs in sweep.by(results, "beta").items()}
        figure = plots.latent_spaces(models, images.test_images, images.test_labels, class_names=images.class_names)
        figure.savefig(output_dir / "figure_2.png", dpi=110)
    return table


BETAS = sweep.Axis("beta", float, list(PUBLISHED), "variances of the decoder")
SWEEP = sweep.Sweep(mnist_exon.EXPERIMENT, __doc__, [BETAS, sweep.SEEDS], list(COLUMNS), finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
