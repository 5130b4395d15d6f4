"""A pretraining task of your own: its settings, its class, and one row of the table of tasks.

    python examples/own_task.py pretrain --objective age --manifest MANIFEST.csv -o runs/age

is the affetto command with one more task, which predicts the column ``age`` of a manifest. In the package the
file would be in ``affetto/objectives/``, the row in ``affetto/objectives/tasks.py``.
"""

from torch import Tensor, nn

from affetto.__main__ import main
from affetto.config import Settings
from affetto.objectives.objective import Task, Views, mean_loss
from affetto.objectives.tasks import TASKS, TaskSpec

TASKS["age"] = TaskSpec(
    "predicting age",
    "own_task:Age",
    lambda task, settings, encoder, masking, sizes: task(settings, sizes["pooled"]),
    needs=lambda settings, masking: {"age": "scan"},
)


class AgeSettings(Settings):
    """In years, what counts as an error of 1."""

    unit: float = 10.0


class Age(Task):
    """Squared error of the age that a linear layer predicts."""

    def __init__(self, settings: AgeSettings, dim: int) -> None:
        super().__init__()
        self.settings, self.head = settings, nn.Linear(dim, 1)

    def forward(self, views: Views) -> Tensor:
        """Returns the loss over the items of all processes."""
        errors = self.head(views.vectors).float()[:, 0] - views.columns["age"] / self.settings.unit
        return mean_loss(errors.square())


if __name__ == "__main__":
    main()
