"""Where in the steps of `data.semi_supervised` the next iteration of its batches begins."""


class Course:
    """Of batches that are a function of the step and have no end; they have it as their attribute `course`.

    Args:
        steps_per_epoch: Batches in an epoch.
        start_step: The step of the first batch.

    Attributes:
        begin: The step of the first batch of the next iteration. `fit` of a model sets it, so that a second one goes
            on in the data.
    """

    def __init__(self, steps_per_epoch: int, start_step: int):
        self.steps_per_epoch, self.start_step = steps_per_epoch, start_step
        self.begin = start_step
