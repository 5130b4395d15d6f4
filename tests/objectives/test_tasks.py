"""The table of tasks: what each is built from, what it asks of a batch, and that it is read without torch."""

import subprocess
import sys

import pytest
import torch

import affetto.objectives
from affetto.masking import MaskSettings
from affetto.models.masked_encoders import Mockingjay, Npc
from affetto.objectives.masked import MockingjayObjectiveSettings, NpcObjectiveSettings
from affetto.objectives.objective import Objective, Task
from affetto.objectives.tasks import TASKS, task_class, task_settings
from affetto.objectives.views import ContrastiveSettings

GUIDED = MaskSettings(guidance="emotional")
SPEAKER, CURVES = {"speaker": "scan"}, {"guide": "annotate intensity", "intensity": "annotate intensity"}


def test_tasks_are_listed_without_torch() -> None:
    line = "import sys; from affetto.objectives import TASKS; print(len(TASKS), 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True)
    assert found.stdout.split() == [str(len(TASKS)), "False"]


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_is_built_from_its_defaults(name: str) -> None:
    encoder = Npc() if name == "npc" else Mockingjay()
    sizes = {"speaker": 3, "vector": 4, "pooled": encoder.dim}
    task = TASKS[name].build(task_class(name), task_settings(name), encoder, MaskSettings(), sizes)
    assert isinstance(task, Objective if TASKS[name].masked else Task)
    assert TASKS[name].needs(task_settings(name), MaskSettings()).keys() <= {"speaker", "group", "vector"}


@pytest.mark.parametrize(
    ("name", "settings", "masking", "needs"),
    [
        ("contrastive", ContrastiveSettings(), MaskSettings(), {**SPEAKER, "group": "annotate clusters"}),
        ("contrastive", ContrastiveSettings(positives="view"), MaskSettings(), SPEAKER),
        (
            "contrastive",
            ContrastiveSettings(positives="similar"),
            MaskSettings(),
            {**SPEAKER, "vector": "annotate speakers"},
        ),
        ("mockingjay", MockingjayObjectiveSettings(), MaskSettings(), {}),
        ("mockingjay", MockingjayObjectiveSettings(intensity_loss=True), GUIDED, CURVES),
        ("npc", NpcObjectiveSettings(), GUIDED, {}),
        ("npc", NpcObjectiveSettings(frames="chosen", intensity_input=True), GUIDED, CURVES),
    ],
)
def test_what_a_task_needs_depends_on_its_settings(
    name: str, settings: object, masking: MaskSettings, needs: dict[str, str]
) -> None:
    assert TASKS[name].needs(settings, masking) == needs


@pytest.mark.parametrize("name", ["contrastive_losses", "margin_losses", "concordance", "reverse_gradient"])
def test_losses_can_be_taken_alone(name: str) -> None:
    found = getattr(affetto.objectives, name)
    assert found.__doc__
    assert name in affetto.objectives.__all__


def test_contrastive_losses_of_the_docstring_by_hand() -> None:
    similarities = torch.tensor([[0.0, 1.0, 2.0]])
    candidates = torch.tensor([[False, True, True]])
    loss = affetto.objectives.contrastive_losses(similarities, torch.tensor([[0.0, 1.0, 0.0]]), candidates)
    assert float(loss) == pytest.approx(float(torch.tensor([1.0, 2.0]).logsumexp(0)) - 1)
