import shutil

import keras
import numpy as np
import pytest

from keras_ssvae import data
from keras_ssvae.data import celeba as module

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tensorflow_datasets belongs to the TensorFlow backend"
)
NAMES = {name for values in data.CELEBA_LABELS.values() for name in values.values() if name is not None}


def labels(*present):
    """Of one image with these attributes."""
    return module.labels_of_attributes({name: np.array([name in present]) for name in NAMES})[0].tolist()


@pytest.fixture(scope="module")
def celeba(celeba_directory):
    return data.load_celeba(celeba_directory)


@pytest.fixture(scope="module")
def expected():
    """The labels of the generated images by their number, worked out by hand; -1 for no value."""
    hat, neither, bangs, receding = [6, 13, 20, 27], 0, 1, 2
    table = [
        [
            [0, 1, 2, 3, -1][k % 5],
            k % 2,
            -1 if k == 7 else [neither, bangs, receding][k % 3],
            int(k % 4 == 3),
            int(k % 4 in (1, 2)),
            int(k in hat),
            k % 2,
        ]
        for k in range(30)
    ]
    return np.array(table)


def numbers(images):
    """Which of the generated images these are: the background says so."""
    return np.rint(images[:, 5:20, 5:20].mean(axis=(1, 2, 3)) / 8).astype(int)


def test_attributes_become_labels():
    assert labels("Black_Hair", "No_Beard") == [0, 0, 0, 0, 0, 0, 0]
    assert labels("Gray_Hair", "Bangs", "Eyeglasses", "Smiling", "Wearing_Hat", "Male") == [3, 1, 1, 1, 1, 1, 1]
    assert labels("Brown_Hair", "No_Beard", "Receding_Hairline") == [1, 0, 2, 0, 0, 0, 0]
    assert labels("Blond_Hair", "Eyeglasses")[0] == 2


def test_attributes_that_fit_no_value_leave_a_label_out():
    assert labels("No_Beard") == [-1, 0, 0, 0, 0, 0, 0]
    assert labels("Black_Hair", "Brown_Hair")[0] == -1
    assert labels("Black_Hair", "Bangs", "Receding_Hairline")[2] == -1


def test_the_labels_are_the_originals_without_skin_tone():
    assert [len(values) for values in data.CELEBA_LABELS.values()] == [4, 2, 3, 2, 2, 2, 2]
    assert [len(prior) for prior in data.CELEBA_PRIORS] == [4, 2, 3, 2, 2, 2, 2]
    np.testing.assert_allclose([sum(prior) for prior in data.CELEBA_PRIORS], [0.99, 1, 1, 1, 1, 1, 1])


def test_each_image_comes_with_its_own_labels(celeba, expected):
    part = celeba.train
    assert (part.labels.shape, part.labels.dtype) == ((30, 7), np.int64)
    images = np.stack(list(part.images().as_numpy_iterator()))
    assert (images.shape, images.dtype) == ((30, 218, 178, 3), np.uint8)
    np.testing.assert_array_equal(np.sort(numbers(images)), np.arange(30))
    np.testing.assert_array_equal(part.labels, expected[numbers(images)])


def test_the_three_parts_are_its_own(celeba):
    assert [len(part.labels) for part in (celeba.train, celeba.validation, celeba.test)] == [30, 6, 12]


def test_images_without_a_value_are_unlabelled_ones(celeba, expected):
    part = celeba.train
    assert len(part.complete) == 23  # of 30, six without a hair colour and one without a hairline
    assert (part.labels[part.complete] >= 0).all()
    pairs = part.labeled()
    assert len(pairs) == 23
    images, rows = (np.stack(each) for each in zip(*pairs.as_numpy_iterator(), strict=True))
    np.testing.assert_array_equal(rows, expected[numbers(images)])


def test_chosen_images_are_read_with_their_labels(celeba, expected):
    images, rows = celeba.train.read(celeba.train.complete[[5, 2, 9]])
    assert (images.shape, images.dtype) == ((3, 218, 178, 3), np.uint8)
    np.testing.assert_array_equal(rows, expected[numbers(images)])
    np.testing.assert_array_equal(rows, celeba.train.labels[celeba.train.complete[[2, 5, 9]]])


def test_a_draw_depends_on_its_seed_alone(celeba):
    part = celeba.train
    drawn = part.draw(20, seed=1)
    assert set(drawn) <= set(part.complete)
    assert len(set(drawn)) == 20
    np.testing.assert_array_equal(drawn, part.draw(20, seed=1))
    assert set(drawn) != set(part.draw(20, seed=2))


@pytest.mark.parametrize(
    ("number", "seed", "sentence"),
    [
        (0, 1, "`num_labeled` is 0. It must be an integer of at least 1"),
        (20, -1, "`seed` is -1. It must be an integer of at least 0"),
        (24, 1, "`num_labeled` is 24, but only 23 images have a value of each label. Ask for fewer"),
        (2, 1, '`num_labeled` is 2, and with `seed` = 1 none of these images has the .* "'),
    ],
)
def test_a_draw_that_cannot_be_is_a_sentence(celeba, number, seed, sentence):
    with pytest.raises(ValueError, match=sentence):
        celeba.train.draw(number, seed)


def test_the_parts_are_sources_of_batches(celeba, expected):
    part = celeba.train
    settings = {"num_classes": celeba.num_classes, "labeled_batch_size": 4, "unlabeled_batch_size": 3}
    settings |= {"steps_per_epoch": 2, "seed": 1, "shuffle_buffer": 8}
    labeled = part.read(part.draw(20, seed=1))
    whole = list(data.semi_supervised(labeled, part.images(), **settings).take(4).as_numpy_iterator())
    for x, y in whole:
        assert {name: each.shape[0] for name, each in x.items()} == {
            **dict.fromkeys(("labeled", "labeled_augmented"), 4),
            **dict.fromkeys(("unlabeled", "unlabeled_augmented"), 3),
        }
        chosen = expected[numbers(127.5 * (x["labeled"] + 1))]
        one_hot = [np.eye(k)[column] for k, column in zip(celeba.num_classes, chosen.T, strict=True)]
        np.testing.assert_array_equal(y, np.concatenate(one_hot, axis=1))
    rest = data.semi_supervised(labeled, part.images(), start_step=3, **settings).take(1).as_numpy_iterator()
    np.testing.assert_array_equal(next(rest)[0]["unlabeled"], whole[3][0]["unlabeled"])


@pytest.fixture(scope="module")
def of_revae(celeba_directory):
    return data.load_celeba(celeba_directory, data.CELEBA_ATTRIBUTES, image_size=(64, 48))


def test_the_labels_of_revae_are_eighteen_attributes_that_each_image_has_or_not(of_revae, celeba):
    names = list(data.CELEBA_ATTRIBUTES)
    assert len(names) == 18
    assert names == sorted(names)
    assert of_revae.num_classes == (2,) * 18
    part = of_revae.train
    np.testing.assert_array_equal(part.complete, np.arange(30))
    k = numbers(np.stack(list(celeba.train.images().as_numpy_iterator())))
    expected = {"arched eyebrows": k % 3 == 0, "bangs": k % 3 == 1, "black hair": k % 5 == 0, "eyeglasses": k % 4 == 3}
    expected |= {"male": k % 2 == 1, "no beard": k % 2 == 0, "smiling": (k % 4 > 0) & (k % 4 < 3), "young": k % 5 < 3}
    for name, column in expected.items():
        np.testing.assert_array_equal(part.labels[:, names.index(name)], column, err_msg=name)


def test_images_are_squeezed_whole(of_revae, celeba):
    squeezed = np.stack(list(of_revae.test.images().as_numpy_iterator())).astype("float64")
    whole = np.stack(list(celeba.test.images().as_numpy_iterator())).astype("float64")
    assert squeezed.shape == (12, 64, 48, 3)
    # The means of four quarters: nothing is cut off.
    for rows, columns in ((slice(0, 32), slice(0, 24)), (slice(32, 64), slice(24, 48))):
        of_whole = [slice(s.start * n // m, s.stop * n // m) for s, n, m in ((rows, 218, 64), (columns, 178, 48))]
        means = [a[:, r, c].mean(axis=(1, 2)) for a, r, c in ((squeezed, rows, columns), (whole, *of_whole))]
        np.testing.assert_allclose(*means, atol=1.5)


def test_a_part_of_a_part_has_its_images_and_labels(celeba, expected):
    odd = celeba.train.only(np.arange(1, 30, 2))
    few = odd.only([7, 2])
    whole = numbers(np.stack(list(celeba.train.images().as_numpy_iterator())))
    for part, places in ((odd, np.arange(1, 30, 2)), (few, [5, 15])):
        images = part.images()
        assert len(images) == len(part.labels) == len(places)
        found = numbers(np.stack(list(images.as_numpy_iterator())))
        np.testing.assert_array_equal(found, whole[places])
        np.testing.assert_array_equal(part.labels, expected[found])
    read, rows = odd.read([3])
    np.testing.assert_array_equal(rows, expected[numbers(read)])
    assert numbers(read) == whole[7]
    with pytest.raises(ValueError, match=r"`indices` holds 15\. There are 15 images"):
        odd.only([15])


@on_tensorflow
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"labels": {"ears": {"no": None, "yes": "Pointed_Ears"}}}, "`labels` names the attribute 'Pointed_Ears'"),
        ({"image_size": 64}, r"`image_size` is 64; it must be \(height, width\)"),
        ({"image_size": (64, 0)}, "`image_size` is 0. It must be an integer of at least 1"),
    ],
)
def test_labels_and_sizes_that_cannot_be_are_a_sentence(celeba_directory, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.load_celeba(celeba_directory, **given)


def test_on_jax_it_says_that_it_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(data.DataUnavailableError, match=r"on the TensorFlow backend .* is jax\. Set KERAS_BACKEND"):
        data.load_celeba()


@on_tensorflow
def test_where_it_is_not_prepared_a_sentence_says_how_to_get_it(tmp_path):
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load_celeba(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"celeb_a is not prepared in {tmp_path}/celeb_a/2.1.0: run `python -c")
    assert "tfds.builder('celeb_a').download_and_prepare()" in message
    assert message.endswith("here, or point `data_dir` (--data-dir) at a directory that holds it.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("truncated record", "cannot be read"),
        ("missing record", "expected to contain 30 elements but contained only 29"),
    ],
)
def test_damaged_files_are_named_in_a_sentence(celeba_directory, tmp_path, damage, reason):
    folder = shutil.copytree(celeba_directory / "celeb_a/2.1.0", tmp_path / "celeb_a/2.1.0")
    (records,) = folder.glob("*train*.tfrecord*")
    content = records.read_bytes()
    if damage == "truncated record":
        records.write_bytes(content[:-100])
    else:
        records.write_bytes(content[int.from_bytes(content[:8], "little") + 16 :])
    with pytest.raises(data.DataDamagedError) as caught:
        data.load_celeba(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"The data of celeb_a in {folder} cannot be read")
    assert reason in message
    assert "Delete that directory and prepare it again" in message


@on_tensorflow
@pytest.mark.parametrize(
    ("indices", "sentence"),
    [
        ([], r"`indices` has shape \(0,\)"),
        ([30], "`indices` holds 30. There are 30 images, so indices go from 0 to 29"),
        ([-1], "`indices` holds -1"),
        ([3, 3], "`indices` holds 3 2 times"),
        ([0.5], "`indices` has shape .* and dtype float64"),
        ([[1, 2]], r"`indices` has shape \(1, 2\)"),
    ],
)
def test_images_that_are_not_there_are_a_sentence(celeba, indices, sentence):
    with pytest.raises(ValueError, match=sentence):
        celeba.train.read(indices)
