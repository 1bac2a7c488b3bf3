import re
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from keras_ssvae.evaluation import beta_vae_score, dci, disentanglement, factor_score, factor_vae_score, mig, sap

approx = pytest.approx
SCORES = {
    "factor": partial(factor_score, group_size=10),
    "factor_vae": partial(factor_vae_score, train_votes=300, eval_votes=300),
    "beta_vae": partial(beta_vae_score, pairs=32, train_points=300, eval_points=300),
    "mig": mig,
    "sap": sap,
}


def scores(latents, factors):
    """All eight."""
    return {name: score(latents, factors) for name, score in SCORES.items()} | dci(latents, factors)._asdict()


def grid(*sizes, repeats=1):
    """Factors with these numbers of values: each combination `repeats` times."""
    return np.indices(sizes).reshape(len(sizes), -1).T.repeat(repeats, axis=0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


GRID = grid(4, 5, 6, 5)  # 600 images, of which no two have the same factors
CHANCE = np.mean([1 / 4, 1 / 5, 1 / 6, 1 / 5])  # the accuracy of guessing the values of its factors
# Four images, one for each pair of values; z_0 is mostly the first factor, A.
TINY = grid(2, 2)
TINY_LATENTS = np.array([[0.0, 0.0], [1.0, 30.0], [4.0, 10.0], [5.0, 10.0]])


def mixed(seed):
    """Latents of `GRID`, most of which depend on two factors, with noise."""
    standardized = (GRID - GRID.mean(axis=0)) / GRID.std(axis=0)
    return standardized @ (np.eye(4) + 0.5 * np.eye(4, k=1)) + 0.3 * noise(600, 4, seed=seed)


def test_the_factors_themselves_are_perfect():
    expected = dict.fromkeys([*SCORES, "disentanglement", "completeness", "informativeness"], 1.0)
    assert scores(GRID, GRID) == approx(expected)
    with_a_constant = np.pad(GRID.astype("float32"), ((0, 0), (1, 0)), constant_values=0.1)
    assert scores(with_a_constant, GRID) == approx(expected)


def test_constant_latents_have_no_score_or_that_of_guessing():
    assert scores(np.full((600, 3), 0.1), GRID) == {
        "factor": 0.0,
        "factor_vae": 0.0,
        "beta_vae": 1 / 4,  # all points are the same, and each factor has as many
        "mig": 0.0,
        "sap": 0.0,
        "disentanglement": 0.0,
        "completeness": 0.0,
        "informativeness": approx(CHANCE, abs=0.04),
    }


def test_noise_has_the_scores_of_guessing():
    assert scores(noise(600, 3), GRID) == {
        "factor": approx(0.35, abs=0.1),  # the best of 4 factors on 80 votes for a coordinate: above 1/4
        "factor_vae": approx(1 / 4, abs=0.075),  # three standard deviations of 300 votes
        "beta_vae": approx(1 / 4, abs=0.075),
        "mig": approx(0.0, abs=0.03),
        "sap": approx(0.0, abs=0.02),
        "disentanglement": approx(0.0, abs=0.1),
        "completeness": approx(0.0, abs=0.1),
        "informativeness": approx(CHANCE, abs=0.06),
    }


def test_with_more_votes_the_factor_score_of_noise_nears_one_in_the_number_of_factors():
    latents, factors = noise(48_000, 2), grid(2, 3, 4, repeats=2000)
    assert 1 / 3 <= factor_score(latents, factors, group_size=4) < 1 / 3 + 0.01


def test_duplicated_coordinates_close_the_gaps_and_halve_no_other_score():
    assert scores(np.hstack([GRID, -3 * GRID]), GRID) == {
        "factor": 1.0,
        "factor_vae": 1.0,
        "beta_vae": 1.0,
        "mig": approx(0.0, abs=1e-9),
        "sap": approx(0.0, abs=1e-9),
        "disentanglement": approx(1.0),
        "completeness": approx(1 - np.log(2) / np.log(8), abs=0.05),  # half of the trees' splits each
        "informativeness": 1.0,
    }


def test_a_rotation_by_45_degrees_spoils_all_but_the_informativeness():
    factors = grid(4, 4, repeats=100)
    latents = factors @ np.array([[1, 1], [1, -1]]) + 0.01 * noise(1600, 2)
    assert scores(latents, factors) == {
        "factor": approx(1 / 2, abs=0.05),
        "factor_vae": approx(1 / 2, abs=0.15),  # three standard deviations, and the noise of the images with a value
        "beta_vae": approx(1 / 2, abs=0.15),
        "mig": approx(0.0, abs=0.02),
        "sap": approx(0.0, abs=0.02),
        "disentanglement": approx(0.0, abs=0.02),
        "completeness": approx(0.0, abs=0.02),
        "informativeness": approx(1.0, abs=0.01),
    }


def test_a_missing_factor_costs_its_share():
    assert scores(GRID[:, :3], GRID) == {
        "factor": 3 / 4,  # its votes go to coordinates of other factors
        "factor_vae": 3 / 4,
        "beta_vae": approx(1.0, abs=0.02),  # where no coordinate is the same it must be the missing one
        "mig": approx(3 / 4),
        "sap": approx(3 / 4),
        # Each coordinate matters for its factor, and a third as much for the missing one, of which the trees fit noise.
        "disentanglement": approx(1 - (3 / 4 * np.log(4 / 3) + 1 / 4 * np.log(4)) / np.log(4), abs=0.05),
        "completeness": approx(3 / 4, abs=0.05),
        # The missing one is not even guessed: an image's neighbours that are learned from have its other values.
        "informativeness": approx((3 + 1 / 10) / 4, abs=0.03),
    }


def test_two_factors_in_one_coordinate_are_complete_but_not_disentangled():
    factors = grid(3, 3, 4, repeats=30)
    latents = np.stack([3 * factors[:, 0] + factors[:, 1], factors[:, 2]], axis=1)
    # Two thirds of the importance are the first coordinate's, for two of three factors.
    expected = approx((2 / 3 * (1 - np.log(2) / np.log(3)) + 1 / 3, 1.0, 1.0))
    assert dci(latents, factors) == expected
    assert dci(1e-9 * latents, factors) == expected  # the trees by themselves would take them for constant


@settings(max_examples=3)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_images_changes_nothing(seed):
    # With latents and factors that are the same for some images.
    rng = np.random.default_rng(seed)
    factors = grid(3, 4, repeats=20)
    latents = np.hstack([factors + rng.normal(size=(240, 2)), rng.integers(2, size=(240, 1))])
    order = rng.permutation(240)
    assert scores(latents[order], factors[order]) == scores(latents, factors)


@settings(max_examples=3)
@given(seed=st.integers(0, 10_000), signs=st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4))
def test_the_order_and_the_units_of_the_coordinates_change_nothing(seed, signs):
    rng = np.random.default_rng(seed)
    latents = mixed(seed)
    other = (latents * signs * rng.uniform(0.5, 50.0, size=4) + rng.normal(size=4))[:, rng.permutation(4)]
    tolerances = dict.fromkeys(SCORES, 1e-9) | {"beta_vae": 0.01}  # of the regression's optimiser
    tolerances |= {"disentanglement": 0.02, "completeness": 0.02, "informativeness": 0.01}  # of single precision
    expected = {name: approx(score, abs=tolerances[name]) for name, score in scores(latents, GRID).items()}
    assert scores(other, GRID) == expected
    assert sap(other, GRID, categorical=range(4)) == approx(sap(latents, GRID, categorical=range(4)), abs=1e-6)


def test_the_names_of_the_values_change_nothing_but_correlations():
    latents = GRID[:, :3] + 0.1 * noise(600, 3)
    names = np.random.default_rng(1).permutation(20)[:, None] - 9
    renamed = np.take_along_axis(names, GRID, axis=0)
    before, after = scores(latents, GRID), scores(latents, renamed)
    assert after["sap"] < before["sap"] - 0.1
    assert sap(latents, renamed, categorical=range(4)) == approx(sap(latents, GRID, categorical=range(4)), abs=1e-9)
    # Other images are drawn, and the trees' values are in another order.
    assert after == {name: approx(score, abs=0.03) for name, score in before.items()} | {"sap": after["sap"]}
    assert after["mig"] == approx(before["mig"], abs=1e-9)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), coordinates=st.integers(1, 4))
def test_scores_are_between_0_and_1_whatever_the_latents(seed, coordinates):
    rng = np.random.default_rng(seed)
    factors = grid(2, 3, repeats=10)
    latents = rng.integers(3, size=(60, coordinates)) * rng.integers(2, size=coordinates)
    values = [*scores(latents, factors).values(), sap(latents, factors, categorical=[1])]
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)


def test_factor_score_by_hand():
    # In units of the variances 4.25 and 118.75, z_0 and z_1 have within A = 0 the variances 0.25 and 225: a vote for
    # z_0; within A = 1 0.25 and 0: for z_1; within B = 0 4 and 25: for z_1; within B = 1 4 and 100: for z_1.
    assert factor_score(TINY_LATENTS, TINY, group_size=2) == (1 + 2) / 4


def test_factor_score_drops_coordinates_that_hardly_vary():
    small = TINY_LATENTS * [0.09 / np.sqrt(4.25), 1.0]
    assert factor_score(small, TINY, group_size=2) == 1 / 2  # all votes are for z_1
    assert factor_score(small, TINY, group_size=2, min_std=0.08) == 3 / 4
    assert factor_score(small[:, :1], TINY, group_size=2) == 0.0
    with_a_constant = np.pad(small, ((0, 0), (1, 0)), constant_values=0.1)
    assert factor_score(with_a_constant, TINY, group_size=2, min_std=0.0) == 3 / 4
    assert factor_vae_score(small[:, :1], TINY) == approx(1 / 2, abs=0.03)  # its bound is 0.05
    assert factor_vae_score(small[:, :1] / 2, TINY) == 0.0


def test_factor_score_uses_the_whole_groups_of_each_value():
    # Of the 5 and 3 images with the values of A, and the 4 and 4 with those of B. One coordinate gets all votes.
    factors = np.array([[0, 0], [0, 0], [0, 0], [0, 0], [0, 1], [1, 1], [1, 1], [1, 1]])
    score = partial(factor_score, np.arange(8.0)[:, None], factors)
    assert score(group_size=2) == (2 + 2) / ((2 + 1) + (2 + 2))
    assert score(group_size=4) == (1 + 1) / ((1 + 0) + (1 + 1))


def test_factor_vae_score_by_hand():
    # The votes are those of the Factor score's example, as two images differ by the same in each group: half of A's
    # votes are for z_0, which is A's, and all others for z_1, which is B's.
    score = factor_vae_score(TINY_LATENTS, TINY, train_votes=100, eval_votes=1000)
    assert score == approx((1 / 2 * 1 + 1) / 2, abs=3 * np.sqrt(0.25 / 500) / 2)
    # With three times the images of A = 0 no vote changes, but three quarters of A's are for z_0.
    repeats = [3, 3, 1, 1]
    latents, factors = TINY_LATENTS.repeat(repeats, axis=0), TINY.repeat(repeats, axis=0)
    score = factor_vae_score(latents, factors, train_votes=100, eval_votes=1000)
    assert score == approx((3 / 4 * 1 + 1) / 2, abs=3 * np.sqrt(3 / 16 / 500) / 2)


def test_the_value_of_a_single_image_does_not_vote():
    factors = np.vstack([TINY, TINY, [[2, 2]]])
    assert factor_vae_score(factors, factors, train_votes=100, eval_votes=300) == 1.0


def test_beta_vae_score_by_hand():
    score = partial(beta_vae_score, train_points=100, eval_points=100)
    assert score(TINY @ [[1, 1], [1, -1]], TINY) == 1 / 2  # all points are (1, 1)
    assert score(TINY @ [[2], [1]], TINY) == 1.0  # with the first factor alike they are 1, with the second 2
    # The regression's penalty would be for coordinates in small units.
    assert score(GRID * [1.0, 1e-4, 1e-5, 1e-5], GRID) == 1.0


def test_an_image_is_not_paired_with_itself():
    # Half the pairs of a factor of whose values there are but two images would differ by 0, which tells it from noise.
    factors = np.stack([np.arange(4000) % 2, np.arange(4000) // 2], axis=1)
    score = beta_vae_score(noise(4000, 2), factors, pairs=16, train_points=300, eval_points=1000)
    assert score == approx(1 / 2, abs=0.08)


def test_large_arrays_are_taken_in_blocks(monkeypatch):
    whole = {name: SCORES[name](mixed(0), GRID) for name in ("factor", "factor_vae", "beta_vae")}
    monkeypatch.setattr(disentanglement.votes, "_BLOCK", 1000)
    assert {name: SCORES[name](mixed(0), GRID) for name in whole} == whole


def test_mig_by_hand():
    factor = np.array([[0], [0], [1], [1]])
    # I = 1/2 log(4/3) + 1/4 log(2/3) + 1/4 log 2 for the second coordinate; the first tells all.
    second = (np.log(4 / 3) / 2 + np.log(2 / 3) / 4 + np.log(2) / 4) / np.log(2)
    assert mig([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 7.0]], factor) == approx(1 - second)
    assert mig([[0.0], [0.0], [0.0], [7.0]], factor) == approx(second)  # of a single coordinate all counts
    # In two bins 0, 1 | 2, 3 and 0, 1, 2 | 7.
    assert mig([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 7.0]], factor, bins=2) == approx(1 - second)


def test_an_outlier_moves_mig_of_equal_bins_which_warns_and_not_of_quantiles():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 5, (2000, 2))
    latents = factors + 0.01 * rng.standard_normal((2000, 2))
    spoilt = np.concatenate([latents, [[1e4, -1e4]]]), np.concatenate([factors, [[0, 0]]])
    assert mig(latents, factors) > 0.95
    with pytest.warns(UserWarning, match=r'0, 1\. Outliers stretch the bins.*`binning="quantile"`'):
        assert mig(*spoilt) < 0.05
    assert mig(*spoilt, binning="quantile") == approx(mig(latents, factors, binning="quantile"), abs=0.01)
    assert mig(*spoilt, binning="quantile") > 0.9


def test_quantiles_keep_equal_values_together():
    assert mig(GRID, GRID, binning="quantile") == approx(1.0)
    assert mig(np.ones((len(GRID), 2)), GRID, binning="quantile") == 0.0


def test_mig_is_that_of_histograms_and_scikit_learn():
    latents, factors = mixed(0), GRID // 2  # some of whose values are more frequent
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in latents.T]
    expected = []
    for factor in factors.T:
        *_, second, best = sorted(mutual_info_score(factor, z) for z in binned)
        expected.append((best - second) / mutual_info_score(factor, factor))
    assert mig(latents, factors) == approx(np.mean(expected))


def test_sap_by_hand():
    factor = np.array([[0], [0], [1], [1]])
    # The covariances are 1/2 and 1/4, the variances 1/4 of the factor and 5/4 of both coordinates.
    latents = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])
    assert sap(latents, factor) == approx((1 / 4 - 1 / 16) / (1 / 4 * 5 / 4))
    assert sap(latents[:, :1], factor) == approx(1 / 4 / (1 / 4 * 5 / 4))


def test_sap_of_names_by_hand():
    shape = np.array([[0], [0], [0], [1], [1], [2]])
    # Two thresholds tell the three shapes by the first coordinate; by the second it would take three, and with two an
    # image of the first shape is lost. A single coordinate has a constant one beside it, with the accuracy 1/3.
    latents = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 3.0], [7.0, 2.0], [8.0, 2.0], [5.0, 4.0]])
    assert sap(latents, shape, categorical=[0]) == approx(1 - (2 / 3 + 1 + 1) / 3)
    assert sap(latents[:, :1], shape, categorical=[0]) == approx(1 - 1 / 3)


@pytest.mark.parametrize("score", [*SCORES.values(), dci], ids=[*SCORES, "dci"])
@pytest.mark.parametrize(
    ("latents", "factors", "message"),
    [
        (np.zeros(600), GRID, "`latents` has shape (600,); it must be (images, coordinates)"),
        (np.zeros((0, 3)), GRID[:0], "`latents` has shape (0, 3)"),
        (np.array([[np.nan, np.inf]] * 600), GRID, "`latents` holds 1200 numbers that are NaN or infinite"),
        (np.zeros((599, 3)), GRID, "`factors` has shape (600, 4) and dtype int64; it must be integers of shape (599,"),
        (np.zeros((600, 3)), GRID[:, 0], "`factors` has shape (600,)"),
        (np.zeros((600, 3)), GRID / 2, "dtype float64; it must be integers"),
        (np.zeros((600, 3)), GRID * [1, 0, 1, 0], "one value only in each of its columns [1, 3]"),
        (np.zeros((600, 3)), GRID[:, :0], "`factors` has 0 columns"),
    ],
)
def test_arrays_that_do_not_fit_are_named(score, latents, factors, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        score(latents, factors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factor_score(GRID, GRID[:, :1]), "`factors` has 1 columns; this score needs at least 2"),
        (
            lambda: factor_score(GRID, GRID, group_size=101),
            "in column 2 of `factors` has 101 images, the size",
        ),
        (lambda: factor_score(GRID, GRID, group_size=1), "`group_size` is 1; it must be an integer of at least 2, for"),
        (lambda: factor_vae_score(GRID, GRID, group_size=1), "`group_size` is 1; it must be an integer of at least 2"),
        (
            lambda: factor_vae_score(GRID, GRID, eval_votes=3),
            "`eval_votes` is 3; it must be an integer of at least 4",
        ),
        (lambda: factor_vae_score(GRID, np.c_[GRID, :600]), "a different value in column 4 of `factors`"),
        (lambda: beta_vae_score(GRID, np.c_[GRID, :600]), "a different value in column 4 of `factors`"),
        (lambda: beta_vae_score(GRID, GRID, pairs=0), "`pairs` is 0; it must be an integer of at least 1"),
        (lambda: beta_vae_score(GRID, GRID, train_points=3), "`train_points` is 3; it must be an integer"),
        (lambda: mig(GRID, GRID, bins=20.0), "`bins` is 20.0; it must be an integer"),
        (lambda: mig(GRID, GRID, bins=1), "`bins` is 1; it must be an integer of at least 2"),
        (lambda: mig(GRID, GRID, binning="robust"), '`binning` is \'robust\'; it must be "equal" or "quantile".'),
        (lambda: sap(GRID, GRID, categorical=[1, 4, -1]), "`categorical` holds [-1, 4]; `factors` has the columns 0"),
        (lambda: dci(GRID[:59], GRID[:59, 1:]), "`len(latents)` is 59; it must be an integer of at least 60"),
    ],
)
def test_numbers_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_an_outlier_moves_sap_which_warns():
    rng = np.random.default_rng(1)
    factors = rng.integers(0, 5, (500, 2))
    latents = factors + rng.normal(0, 0.05, (500, 2))
    with warnings.catch_warnings(action="error"):
        assert sap(latents, factors) > 0.9
        latents[0] = 1e6
        sap(latents, factors, categorical=[0, 1])  # thresholds are not moved
    with pytest.warns(UserWarning, match=r"more than half of the variance: 0, 1\. .* leave such images out"):
        assert sap(latents, factors) < 0.1
