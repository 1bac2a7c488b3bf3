"""A user's mistakes: one sentence that names the flag, before anything is written."""

import keras
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--labels", "9"], "--labels is 9. It must be an integer of at least 10"),
        (["--labels", "100000"], "--labels = 100000.*only 1[0-9]{2} images of class"),
        (["--labels", "0"], "--labels is 0; EXoN needs labelled images of every class"),
        (["--labels", "-10"], "--labels is -10"),
        (["--beta", "0"], r"--beta is 0\.0.*above 0"),
        (["--beta", "-1"], r"--beta is -1\.0.*above 0"),
        (["--beta", "nan"], "--beta is nan.*above 0"),
        (["--beta", "inf"], "--beta is inf.*above 0"),
        (["--settling-epochs", "-1"], "--settling-epochs is -1.*at least 0"),
        (["--consistency", "nan"], "--consistency is nan.*finite and at least 0"),
        (["--epochs", "0"], "--epochs is 0.*at least 1"),
        (["--steps-per-epoch", "0"], "--steps-per-epoch is 0.*at least 1"),
        (["--batch-size", "-3"], "--batch-size is -3.*at least 1"),
        (["--labeled-batch-size", "0"], "--labeled-batch-size is 0.*at least 1"),
        (["--batch-size", "16", "--labeled-batch-size", "16"], "--labeled-batch-size is 16.*smaller than --batch-size"),
        (["--batch-size", "8"], "--labeled-batch-size is 16.*smaller than --batch-size, 8"),
        (["--validation", "-10"], "--validation is -10.*at least 0"),
        (["--validation", "15"], "--validation is 15.*multiple of the number of classes, 10"),
        (["--steps-per-execution", "2"], "--steps-per-execution is 2.*divide --steps-per-epoch, 75"),
        (["--steps-per-execution", "0"], "--steps-per-execution is 0.*at least 1"),
        (["--seed", "-1"], "--seed is -1.*at least 0"),
        (["--seed", str(2**32)], "[Ss]eed"),
    ],
)
def test_a_wrong_number_is_a_sentence_that_names_the_flag(refused, args, match):
    refused("--dataset", "digits", *args, match=match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "No such file"),
        (b"", "--labeled-indices has shape"),
        (b"1\ntwo\n3\n", "one index a line.*'two'"),
        (b"1\n2.5\n", "one index a line"),
        (b"1 2\n3 4\n", "one index a line"),
        (b"\x93NUMPY\x00\xff\n", "one index a line"),
        (b"99999999999999999999\n", "one index a line"),
        (b"0\n1437\n", "--labeled-indices holds 1437.*from 0 to 1436"),
        (b"-1\n", "--labeled-indices holds -1"),
        (b"5\n6\n5\n", "--labeled-indices holds 5 2 times"),
        (b"5\n6\n7\n", "--labeled-indices names no image of class"),
    ],
)
def test_a_wrong_file_of_indices_is_a_sentence(refused, tmp_path, content, match):
    if content is not None:
        (tmp_path / "indices.txt").write_bytes(content)
    refused("--dataset", "digits", "--labeled-indices", tmp_path / "indices.txt", match=match)


def test_a_folder_of_indices_and_a_number_that_differs_are_sentences(refused, tmp_path):
    refused("--dataset", "digits", "--labeled-indices", tmp_path, match="Is a directory")
    np.savetxt(tmp_path / "indices.txt", np.arange(50), fmt="%d")
    args = ("--dataset", "digits", "--labeled-indices", tmp_path / "indices.txt", "--labels", "100")
    refused(*args, match="--labels is 100, but --labeled-indices holds 50")


def test_directories_that_cannot_be_written_are_sentences(small, refused, tmp_path):
    flags = ["--output-dir"]
    if keras.backend.backend() == "tensorflow":  # other backends export nothing
        flags.append("--export-dir")
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below", file / "far/below"):
        for flag in flags:
            refused(*small.args, flag, path, match=f"{flag} {path} cannot be written")


def test_files_that_are_no_run_are_left_alone(small, refused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(*small.args, "--output-dir", tmp_path, match="is not empty and holds no run")
    refused(*small.args, "--output-dir", tmp_path, "--resume", match="is not empty and holds no run")


def test_a_full_disk_is_a_sentence(small, call):
    def full(run):
        raise OSError(28, "No space left on device", "checkpoint.npz.tmp")

    result = call(*small.args, train=full)
    assert (result.code, len(result.calls)) == (1, 1)
    assert result.err == "mnist_exon.py: error: [Errno 28] No space left on device: 'checkpoint.npz.tmp'\n"


def test_an_error_of_ours_keeps_its_traceback(small, call):
    def wrong(run):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(*small.args, train=wrong)


def test_unknown_flags_and_words_for_numbers_show_the_usage(call, tmp_path, contents):
    for args in (
        ["--labels", "many"],
        ["--dataset", "cifar10"],
        ["--bta", "1"],
        ["--augment-on", "moon"],
        ["--mixed-precision", "int8"],
    ):
        result = call(*args)
        assert result.code == 2
        assert "mnist_exon.py: error: " in result.err.splitlines()[-1]
        assert "Traceback" not in result.err
    assert contents(tmp_path) == {}
