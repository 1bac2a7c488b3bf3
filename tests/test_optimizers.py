import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.backend import private
from keras_ssvae.optimizers import Adam, GroupedOptimizer, NormalizedAdam, PlateauAdam
from keras_ssvae.schedules import RampUp


def reference_adam(gradients, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """The updates of Keras' form of Adam (epsilon beside the uncorrected root), in float64."""
    m = v = 0.0
    for t, gradient in enumerate(np.asarray(gradients, "float64"), start=1):
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        yield -learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)


def run(optimizer, weights, gradients):
    """The weights after each step, from one list of gradients per step."""
    history = []
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in step], weights)
        history.append([weight.numpy() for weight in weights])
    return history


def random_gradients(steps, shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(steps)]


# Adam


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_adam_takes_the_steps_of_a_float64_reference(scale):
    # Of one sign, so that no momentum cancels; from 0, so that float32 keeps the update to its last digit.
    gradients = scale * np.random.default_rng(0).uniform(0.5, 2.0, (5, 20)).astype("float32")
    weights = keras.Variable(np.zeros(20, "float32"))
    positions = [position for (position,) in run(Adam(1e-3), [weights], gradients[:, None])]
    updates = np.diff(positions, axis=0, prepend=np.zeros((1, 20)))
    # The fused kernel rounds `beta_2^t` to float32, which costs a few units of 1e-6 in the first steps.
    np.testing.assert_allclose(updates, list(reference_adam(gradients, 1e-3)), rtol=1e-5)


def test_the_first_step_of_adam_has_its_full_length():
    gradients = np.float32([[0.5, 1.0, -2.0]])
    weights = keras.Variable(np.zeros(3, "float32"))
    ((update,),) = run(Adam(1e-3), [weights], [gradients])
    # That of `keras.optimizers.Adam` is 6e-6 too short.
    np.testing.assert_allclose(update, next(reference_adam(gradients, 1e-3)), rtol=1e-6)


def test_without_bias_correction_the_first_steps_are_longer():
    weights, step = keras.Variable(np.zeros(1, "float32")), {}
    optimizer, before = Adam(1e-3, epsilon=1e-16, bias_correction=False), 0.0
    for t in range(1, 1001):
        optimizer.apply([ops.convert_to_tensor(np.float32([-2.0]))], [weights])
        now = float(ops.convert_to_numpy(weights)[0])
        before, step[t] = now, (now - before) / 1e-3
    for t, length in ((1, 3.16), (12, 6.57), (100, 3.24), (1000, 1.26)):
        assert step[t] == pytest.approx(length, abs=0.006)
        assert step[t] == pytest.approx((1 - 0.9**t) / (1 - 0.999**t) ** 0.5, rel=1e-3)
    assert max(step, key=step.get) == 12
    restored = Adam.from_config(optimizer.get_config())
    assert not restored.bias_correction
    assert Adam.from_config(Adam().get_config()).bias_correction


def test_a_corrected_epsilon_needs_a_correction():
    with pytest.raises(ValueError, match="`corrected_epsilon` is True and `bias_correction` is False"):
        Adam(1e-3, corrected_epsilon=True, bias_correction=False)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the original's kernel is TensorFlow's")
def test_adam_equals_the_optimizer_of_the_original_codes_to_the_last_digit():
    tf, tf_keras = pytest.importorskip("tensorflow"), pytest.importorskip("tf_keras")
    start, gradients = np.random.default_rng(0).normal(size=(2, 5, 20)).astype("float32")
    weights, original = keras.Variable(start[0]), tf.Variable(start[0])
    optimizer = tf_keras.optimizers.legacy.Adam(3e-3)
    for (position,), gradient in zip(run(Adam(3e-3), [weights], gradients[:, None]), gradients, strict=True):
        optimizer.apply_gradients([(tf.constant(gradient), original)])
        np.testing.assert_array_equal(position, original.numpy())


def test_adam_uses_its_betas_and_epsilon():
    gradients = np.random.default_rng(0).uniform(0.5, 2.0, (4, 6)).astype("float32")
    weights = keras.Variable(np.zeros(6, "float32"))
    optimizer = Adam(1e-2, beta_1=0.5, beta_2=0.9, epsilon=0.1)
    history = run(optimizer, [weights], gradients[:, None])
    expected = sum(reference_adam(gradients, 1e-2, beta_1=0.5, beta_2=0.9, epsilon=0.1))
    np.testing.assert_allclose(history[-1][0], expected, rtol=1e-6)


def test_adam_follows_a_schedule():
    gradients = np.ones((4, 1, 3), "float32")
    weights = keras.Variable(np.zeros(3, "float32"))
    history = run(Adam(RampUp(1e-2, ramp_epochs=1, steps_per_epoch=2)), [weights], gradients)
    updates = np.diff([w[0][0] for w in history], prepend=0.0)
    # A constant gradient makes every step as long as the rate.
    np.testing.assert_allclose(updates, [-1e-2 * np.exp(-5)] * 2 + [-1e-2] * 2, rtol=1e-5)


def test_weight_decay_is_decoupled_and_acts_on_the_weights_of_the_start_of_the_step():
    rate, decay, start = 0.1, 0.5, np.float32([1.0, -2.0, 4.0])
    gradients = np.float32([[1.0, 3.0, -0.5]])
    weights = keras.Variable(start)
    ((after,),) = run(Adam(rate, weight_decay=decay), [weights], [gradients])
    (update,) = reference_adam(gradients, rate)
    np.testing.assert_allclose(after, start - rate * decay * start + update, rtol=1e-6)
    # Decay after the update would be 0.005 away, decay through the gradient would not show in a first step at all.
    assert np.abs(after - (start + update) * (1 - rate * decay)).min() > 1e-3


def test_weight_decay_follows_the_rate_of_the_step():
    rate = RampUp(0.1, ramp_epochs=1, steps_per_epoch=1)
    weights = keras.Variable([1.0])
    history = run(Adam(rate, weight_decay=0.5), [weights], np.zeros((2, 1, 1), "float32"))
    first = 1 - 0.05 * np.exp(-5)
    np.testing.assert_allclose(np.ravel(history), [first, first * 0.95], rtol=1e-6)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad"):
        Adam(amsgrad=True)


# GroupedOptimizer


def two_groups():
    """Two optimizers, and the variables of both, which take turns in the model's order."""
    rng = np.random.default_rng(1)
    variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in [(2, 3), (4,), (3,), (2, 2)]]
    groups = {"first": variables[0::2], "second": variables[1::2]}
    optimizer = GroupedOptimizer({"first": Adam(1e-2), "second": Adam(1e-3, weight_decay=0.1)})
    return optimizer, groups, variables


def test_each_group_moves_as_its_own_optimizer_alone_would():
    optimizer, groups, variables = two_groups()
    alone = {name: [keras.Variable(v.numpy()) for v in group] for name, group in groups.items()}
    gradients = random_gradients(3, [v.shape for v in variables])
    optimizer.bind(groups)
    run(optimizer, variables, gradients)
    run(Adam(1e-2), alone["first"], [step[0::2] for step in gradients])
    run(Adam(1e-3, weight_decay=0.1), alone["second"], [step[1::2] for step in gradients])
    for name, group in groups.items():
        for variable, expected in zip(group, alone[name], strict=True):
            np.testing.assert_array_equal(variable.numpy(), expected.numpy())
    assert int(optimizer.iterations) == 3


def test_weight_decay_stays_in_its_group():
    optimizer, groups, variables = two_groups()
    before = [v.numpy() for v in variables]
    optimizer.bind(groups)
    run(optimizer, variables, [[np.zeros(v.shape, "float32") for v in variables]])
    for i, (variable, start) in enumerate(zip(variables, before, strict=True)):
        np.testing.assert_allclose(variable.numpy(), start * (1 - 1e-4 if i % 2 else 1), rtol=2e-7)
        assert np.array_equal(variable.numpy(), start) == (i % 2 == 0)


def test_a_gradient_may_be_missing():
    optimizer, groups, variables = two_groups()
    before = [v.numpy() for v in variables]
    optimizer.bind(groups)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, *(ops.ones(v.shape) for v in variables[1:])], variables)
    np.testing.assert_array_equal(variables[0].numpy(), before[0])
    assert not np.array_equal(variables[2].numpy(), before[2])


def test_the_learning_rate_is_that_of_the_first_group():
    optimizer, *_ = two_groups()
    assert float(optimizer.learning_rate) == pytest.approx(1e-2)


def rates(optimizer):
    return [float(member.learning_rate) for member in optimizer.members.values()]


def test_a_learning_rate_that_is_set_moves_those_of_all_groups_in_proportion():
    optimizer, *_ = two_groups()
    for rate in (0.5, 0.0, 0.25):  # a warm-up begins with 0
        optimizer.learning_rate = rate
        assert rates(optimizer) == pytest.approx([rate, rate / 10])
    optimizer.members["second"].learning_rate = 0.25  # the new proportion is 1
    optimizer.learning_rate = 1.0
    assert rates(optimizer) == pytest.approx([1.0, 1.0])


def test_a_learning_rate_that_cannot_be_set_is_a_sentence():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = GroupedOptimizer({"first": Adam(schedule), "second": Adam(1e-3)})
    with pytest.raises(ValueError, match=r"the groups \['first'\] have schedules"):
        optimizer.learning_rate = 0.1
    optimizer, *_ = two_groups()
    with pytest.raises(ValueError, match="it is set to <"):
        optimizer.learning_rate = schedule
    assert rates(optimizer) == pytest.approx([1e-2, 1e-3])
    with pytest.raises(ValueError, match="The learning rate of the first group is 0"):
        GroupedOptimizer({"first": Adam(0.0), "second": Adam(1e-3)}).learning_rate = 0.1


def test_a_moving_average_is_that_of_its_group():
    optimizer, groups, variables = two_groups()
    optimizer.members["second"].use_ema = True
    optimizer.bind(groups)
    run(optimizer, variables, random_gradients(3, [v.shape for v in variables]))
    last = [ops.convert_to_numpy(variable).copy() for variable in variables]
    averages = [ops.convert_to_numpy(each).copy() for _, each in private.moving_averages(optimizer.members["second"])]
    optimizer.finalize_variable_values(variables[:2])  # the others are frozen
    expected = [last[0], averages[0], last[2], last[3]]
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not np.array_equal(averages[0], last[1])


def test_a_group_takes_over_its_moving_average_as_often_as_it_says():
    optimizer, groups, variables = two_groups()
    optimizer.members["second"] = Adam(1e-3, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    optimizer.bind(groups)
    for step, gradients in enumerate(random_gradients(4, [v.shape for v in variables])):
        run(optimizer, variables, [gradients])
        for variable, average in private.moving_averages(optimizer.members["second"]):
            taken_over = np.array_equal(ops.convert_to_numpy(variable), ops.convert_to_numpy(average))
            assert taken_over == (step % 2 == 1 or step == 0)  # the first average is the variable itself


def test_two_moving_averages_of_a_variable_are_refused():
    optimizer = GroupedOptimizer({name: Adam(1e-3, use_ema=True) for name in ("first", "second")})
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    with pytest.raises(ValueError, match=r"`use_ema` is True in the groups \['first', 'second'\], which share"):
        optimizer.bind({"first": variables, "second": variables[:1]})
    optimizer.bind({"first": variables[1:], "second": variables[:1]})


def test_the_groups_scale_one_loss():
    optimizer = GroupedOptimizer({name: Adam(1e-3, loss_scale_factor=8.0) for name in ("first", "second")})
    assert float(optimizer.scale_loss(ops.convert_to_tensor(2.0))) == 16.0
    with pytest.raises(ValueError, match=r"`loss_scale_factor` is .*; all groups share one loss"):
        GroupedOptimizer({"first": Adam(1e-3, loss_scale_factor=8.0), "second": Adam(1e-3)})
    with pytest.raises(ValueError, match="the group 'first' is a `LossScaleOptimizer`"):
        GroupedOptimizer({"first": keras.optimizers.LossScaleOptimizer(Adam(1e-3))})


def test_gradients_accumulate_in_the_group_that_does_so():
    optimizer, groups, variables = two_groups()
    optimizer.members["first"] = Adam(1e-2, gradient_accumulation_steps=2)
    optimizer.bind(groups)
    before = [ops.convert_to_numpy(variable).copy() for variable in variables]
    (gradients,) = random_gradients(1, [v.shape for v in variables])
    run(optimizer, variables, [gradients])
    moved = [not np.array_equal(old, new) for old, new in zip(before, variables, strict=True)]
    assert moved == [False, True, False, True]
    run(optimizer, variables, [gradients])
    alone = [keras.Variable(value) for value in before[0::2]]
    run(Adam(1e-2), alone, [gradients[0::2]])
    for variable, expected in zip(groups["first"], alone, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-6)
    assert int(optimizer.iterations) == 2


def test_an_unbound_optimizer_says_what_to_call():
    optimizer, _, variables = two_groups()
    with pytest.raises(ValueError, match="call `bind` before `build`"):
        optimizer.build(variables)


@pytest.mark.parametrize("names", [["first"], ["first", "third"], ["first", "second", "third"]])
def test_groups_without_an_optimizer_of_that_name_are_refused_by_name(names):
    optimizer, *_ = two_groups()
    with pytest.raises(ValueError, match=r"the groups \['first', 'second'\].*variables are in the groups") as error:
        optimizer.bind({name: [] for name in names})
    assert str(sorted(names)) in str(error.value)


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: [*v, keras.Variable(0.0)]])
def test_variables_missing_from_the_groups_or_from_the_model_are_refused(change):
    optimizer, groups, variables = two_groups()
    optimizer.bind(groups)
    with pytest.raises(ValueError, match="must be in a group"):
        optimizer.build(change(variables))


def test_one_gradient_for_a_variable_in_two_groups_is_refused():
    optimizer, _, variables = two_groups()
    optimizer.bind({"first": variables, "second": variables[1::2]})
    with pytest.raises(ValueError, match="exactly one group"):
        optimizer.apply([ops.ones(variable.shape) for variable in variables], variables)


def test_members_may_share_variables_and_keep_their_own_moments():
    optimizer, _, variables = two_groups()
    optimizer.bind({"first": variables, "second": variables[1::2]})
    optimizer.build(variables)
    before = [ops.convert_to_numpy(variable).copy() for variable in variables]
    optimizer.members["second"].apply([ops.ones(variable.shape) for variable in variables[1::2]], variables[1::2])
    changed = [not np.array_equal(old, ops.convert_to_numpy(new)) for old, new in zip(before, variables, strict=True)]
    assert changed == [i % 2 == 1 for i in range(len(variables))]
    assert int(optimizer.members["first"].iterations) == 0


def plateau_rates(losses, **kwargs):
    """The rate after each epoch of one step with the given mean loss."""
    variable = keras.Variable([1.0])
    optimizer = PlateauAdam(1.0, steps_per_epoch=1, factor=0.5, **kwargs)
    optimizer.build([variable])
    rates = []
    for loss in losses:
        optimizer.apply([ops.ones((1,))], [variable])
        optimizer.observe(ops.convert_to_tensor(loss))
        rates.append(float(optimizer.learning_rate))
    return rates


def test_the_rate_falls_after_more_than_patience_epochs_without_progress():
    assert plateau_rates([1.0, 1.0, 1.0, 1.0, 1.0], patience=2, threshold=0.1) == [1, 1, 1, 0.5, 0.5]


def test_progress_below_the_relative_threshold_does_not_count():
    assert plateau_rates([1.0, 0.95, 0.91, 0.905], patience=2, threshold=0.1) == [1, 1, 1, 0.5]
    assert plateau_rates([1.0, 0.95, 0.89, 0.88], patience=2, threshold=0.1) == [1, 1, 1, 1]


def test_epochs_of_cooldown_do_not_count():
    # Stalled at epochs 2 and 3, falls at 3; 4, 5 and 6 cool down; 7 and 8 stall, and it falls again.
    rates = plateau_rates([1.0] * 8, patience=1, threshold=0.1, cooldown=3)
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_it_is_the_mean_loss_of_an_epoch_that_counts():
    variable = keras.Variable([1.0])
    optimizer = PlateauAdam(1.0, steps_per_epoch=2, patience=0, threshold=0.0)
    optimizer.build([variable])
    rates = []
    for loss in (4.0, 0.0, 1.0, 1.0, 3.0, 1.0):  # means 2, 1, 2
        optimizer.apply([ops.ones((1,))], [variable])
        optimizer.observe(ops.convert_to_tensor(loss))
        rates.append(float(optimizer.learning_rate))
    assert rates == [1, 1, 1, 1, 1, 0.5]


def test_a_group_tells_the_loss_to_those_that_want_it():
    variables = [keras.Variable([1.0]), keras.Variable([1.0])]
    plateau = PlateauAdam(1.0, steps_per_epoch=1, patience=0, threshold=0.0)
    optimizer = GroupedOptimizer({"plateau": plateau, "plain": Adam(1.0)})
    optimizer.bind({"plateau": variables[:1], "plain": variables[1:]})
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply([ops.ones((1,)), ops.ones((1,))], variables)
        optimizer.observe(ops.convert_to_tensor(3.0))
    assert [float(member.learning_rate) for member in optimizer.members.values()] == [0.5, 1.0]


def test_epochs_of_accumulated_gradients_are_as_long_as_others():
    variable = keras.Variable([1.0])
    optimizer = PlateauAdam(1.0, steps_per_epoch=2, patience=0, threshold=0.0, gradient_accumulation_steps=2)
    optimizer.build([variable])
    seen = []
    for loss in (1.0, 1.0, 2.0, 2.0):
        optimizer.apply([ops.ones((1,))], [variable])
        optimizer.observe(ops.convert_to_tensor(loss))
        seen.append(float(optimizer.learning_rate))
    assert seen == [1, 1, 1, 0.5]


def test_a_plateau_survives_its_config_and_refuses_a_schedule():
    optimizer = PlateauAdam(1e-3, steps_per_epoch=7, patience=2, threshold=0.1, cooldown=3, corrected_epsilon=True)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert restored.get_config() == optimizer.get_config()
    assert restored.corrected_epsilon
    with pytest.raises(ValueError, match="`learning_rate` is a schedule"):
        PlateauAdam(keras.optimizers.schedules.CosineDecay(1.0, 5), steps_per_epoch=1)
    with pytest.raises(ValueError, match="`steps_per_epoch` is 0"):
        PlateauAdam(steps_per_epoch=0)


def test_a_corrected_epsilon_is_added_to_the_root_of_the_corrected_moment():
    variable = keras.Variable([1.0])
    optimizer = Adam(1.0, epsilon=0.5, corrected_epsilon=True)
    optimizer.build([variable])
    optimizer.apply([ops.convert_to_tensor([2.0])], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), [1.0 - 2.0 / (2.0 + 0.5)], rtol=1e-6)


# NormalizedAdam


def test_each_variables_gradient_is_divided_by_its_own_norm():
    gradients = random_gradients(4, [(3, 5), (7,)])
    gradients[2][1] *= 1e-6
    normalized = [[g / (np.linalg.norm(g) + 1e-7) for g in step] for step in gradients]
    ours, plain = ([keras.Variable(np.zeros(shape, "float32")) for shape in ((3, 5), (7,))] for _ in range(2))
    expected = run(Adam(5e-4, epsilon=1e-8), plain, normalized)
    for step, of_step in zip(run(NormalizedAdam(5e-4, epsilon=1e-8), ours, gradients), expected, strict=True):
        for weights, others in zip(step, of_step, strict=True):
            np.testing.assert_allclose(weights, others, rtol=1e-5)


def test_a_gradient_of_zero_leaves_the_variable_where_it_is():
    weights = keras.Variable(np.ones(3, "float32"))
    ((after,),) = run(NormalizedAdam(0.1), [weights], [[np.zeros(3, "float32")]])
    np.testing.assert_array_equal(after, np.ones(3))


def test_the_length_of_the_gradients_does_not_count():
    (gradients,) = np.float32(random_gradients(1, [(4, 6)]))
    positions = []
    for scale in (1.0, 1e3):
        weights = keras.Variable(np.zeros(6, "float32"))
        positions.append(run(NormalizedAdam(0.1), [weights], scale * gradients[0][:, None])[-1][0])
    np.testing.assert_allclose(*positions, rtol=1e-4)


def test_config_round_trip_keeps_groups_rates_and_decay():
    optimizer, *_ = two_groups()
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert list(restored.members) == ["first", "second"]
    assert all(type(member) is Adam for member in restored.members.values())
    assert restored.members["second"].weight_decay == 0.1
    assert restored.get_config() == optimizer.get_config()


@keras.saving.register_keras_serializable("test_optimizers")
class TwoLayers(keras.Model):
    """A small model with two groups, which binds them as the models of this library do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.head = keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((None, 4))

    def call(self, x):
        return self.head(self.hidden(x))

    def compile(self, optimizer, **kwargs):
        optimizer.bind({"first": self.hidden.trainable_variables, "second": self.head.trainable_variables})
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def test_a_saved_model_keeps_iterations_and_slots_and_trains_on_as_if_never_saved(tmp_path):
    keras.utils.set_random_seed(0)
    model = TwoLayers()
    model.build((None, 3))
    model.compile(two_groups()[0], loss="mse")
    x, y = np.random.default_rng(0).normal(size=(2, 12, 3)).astype("float32")

    def train(model):
        model.fit(x, y[:, :1], batch_size=4, epochs=1, shuffle=False, verbose=0)

    train(model)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")

    assert int(restored.optimizer.iterations) == 3
    assert [int(member.iterations) for member in restored.optimizer.members.values()] == [3, 3]
    slots = [v for v in restored.optimizer.variables if v.path.endswith(("momentum", "velocity"))]
    assert len(slots) == 8
    assert all(np.any(v.numpy()) for v in slots)
    for value, expected in zip(restored.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value.numpy(), expected.numpy())
    train(model)
    train(restored)
    for value, expected in zip(restored.weights, model.weights, strict=True):
        np.testing.assert_array_equal(value.numpy(), expected.numpy())
