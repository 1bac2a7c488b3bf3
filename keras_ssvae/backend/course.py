"""The step at which the next iteration over the batches of `data.semi_supervised` begins."""


class Course:
    """The position in an endless sequence of batches that are a function of the step.

    Such batches have it as their attribute `course`.

    Args:
        steps_per_epoch: Batches in an epoch.
        start_step: The step of the first batch.

    Attributes:
        begin: The step of the first batch of the next iteration. `fit` of this library's models sets it, so that a
            second `fit` continues in the data.
    """

    def __init__(self, steps_per_epoch: int, start_step: int):
        self.steps_per_epoch, self.start_step = steps_per_epoch, start_step
        self.begin = start_step
