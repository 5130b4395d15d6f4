"""No step of training waits for the device: nothing is read back, and no shape depends on what is computed.

On the CPU every call that would read a result is refused; with a GPU, torch itself says what waits.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from affetto.augment import AugmentConfig
from affetto.data import Batch
from affetto.finetuning.settings import finetune_settings
from affetto.masking import MaskSettings
from affetto.models import CnnSettings
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings, build_encoder
from affetto.models.ge2e import Ge2eSettings
from affetto.models.hub_encoders import WhisperSettings
from affetto.models.logmel import FilterbankSettings, TdnnSettings
from affetto.models.masked_encoders import MockingjaySettings, NpcSettings
from affetto.objectives.masked import (
    MockingjayObjective,
    MockingjayObjectiveSettings,
    NpcObjective,
    NpcObjectiveSettings,
)
from affetto.objectives.supervised import Classify, ClassifySettings, Regress
from affetto.objectives.views import (
    Contrastive,
    ContrastiveSettings,
    Multitask,
    ReconstructionTask,
    SpeakerTask,
    SpeakerTaskSettings,
    VectorTask,
    ViewSettings,
)
from affetto.optimising import TrainSettings, make_accelerator
from affetto.runs import RunFolder
from affetto.training import _Loop
from speech_models import save_tiny_whisper

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__"}
READS |= {"equal", "allclose", "nonzero", "masked_select", "argwhere", "unique", "bincount", "is_nonzero"}
COPIES = {"tensor", "from_numpy", "new_tensor"}  # of what is on the host: on a GPU, copies that wait
OPERATIONS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "equal",
    "_unique2",
    "bincount",
}


class Waited(Exception):
    """A call would wait for the device."""


class Calls(TorchFunctionMode):
    """Refuses calls in Python: ``tolist`` and ``numpy`` read memory without any operation of torch."""

    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        fresh = name == "as_tensor" and not isinstance(given[0], Tensor)
        if name in READS | COPIES or fresh:
            raise Waited(name)
        return function(*given, **(named or {}))


class Operations(TorchDispatchMode):
    """Refuses operations of torch, also those inside others and in the backward pass."""

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = function.__name__.partition(".")[0]
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in given[1]
        )
        if masks and name != "index":  # where a single number is put, torch fills instead
            masks = given[2].numel() > 1
        if name in OPERATIONS or masks:
            raise Waited(name)
        return function(*given, **(named or {}))


@contextmanager
def refused() -> Iterator[None]:
    """Where there is a GPU, torch refuses what waits; else the two modes above."""
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with Calls(), Operations():
            yield


AUGMENT = AugmentConfig(
    gain_db=6,
    equalise_db=6,
    noise_probability=0.5,
    speed=(0.9, 1.1),
    time_masks=2,
    frequency_masks=2,
    mixup=0.3,
)
SOUND = AUGMENT.model_copy(update={"room": 0.5, "telephone": 0.5, "clip": 0.5})  # of waveforms alone
SIZE, LABELS = 6, ("anger", "fear", "sadness")
FRAMES, SAMPLES = 90, 14_400
SMALL = {
    "cnn": CnnSettings(width=8, blocks=1, bins=16),
    "tdnn": TdnnSettings(width=8, blocks=1, bins=16),
    "mockingjay": MockingjaySettings(width=8, blocks=1, heads=2, feed_forward=16, bins=16),
    "npc": NpcSettings(width=8, blocks=1, bins=16),
    "filterbank": FilterbankSettings(bins=16),
    "ge2e": Ge2eSettings(hidden=8),
    "whisper": WhisperSettings(
        shape={"model_type": "whisper", "d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2,
               "encoder_ffn_dim": 16, "num_mel_bins": 16, "decoder_layers": 1, "decoder_attention_heads": 2},
        inputs={"sampling_rate": 16_000, "chunk_length": 30, "hop_length": 160, "n_fft": 400,
                "feature_size": 16},
    ),
}  # fmt: skip
PITCHED = MockingjaySettings(
    width=8, blocks=1, heads=2, feed_forward=16, bins=16, deltas=1, front_end="fbank"
)


def batch(values: Tensor, lengths: Tensor) -> Batch:
    index = torch.arange(SIZE)
    columns = {
        "target": torch.eye(len(LABELS))[index % len(LABELS)],
        "speaker": index // 3,
        "group": index % 2,
        "vector": torch.randn(SIZE, 4),
        "guide": torch.rand(SIZE, FRAMES + 2),
        "intensity": torch.rand(SIZE, FRAMES + 2),
    }
    return Batch(values, lengths, index, columns)


def waveforms() -> Batch:
    return batch(0.1 * torch.randn(SIZE, SAMPLES), torch.full((SIZE,), SAMPLES) - 100 * torch.arange(SIZE))


def features(bins: int = 16) -> Batch:
    lengths = torch.full((SIZE,), FRAMES) - torch.arange(SIZE)
    return batch(torch.randn(SIZE, FRAMES, bins) - 7, lengths)


def classifier(name: str = "cnn", **more: Any) -> EmotionClassifier:
    embedder = NetworkSettings(encoder=SMALL[name], width=8, **more)
    return EmotionClassifier(ClassifierSettings(labels=LABELS, embedder=embedder))


def classify(reads: str, name: str = "cnn", **more: Any) -> Classify:
    speakers = SpeakerTask(SpeakerTaskSettings(), classifier(name, **more).embedder.dim, 2, reverses=True)
    made = classifier(name, **more)
    augment = SOUND if reads == "waveforms" else AUGMENT
    return Classify(made, ClassifySettings(), augment, torch.ones(3), reads, speakers)  # type: ignore[arg-type]


def regress() -> Regress:
    settings = ClassifierSettings(
        labels=LABELS, output="values", embedder=NetworkSettings(encoder=SMALL["cnn"], pooling="statistics")
    )
    return Regress(EmotionClassifier(settings), SOUND, "waveforms")


def multitask(positives: str = "group") -> Multitask:
    encoder = build_encoder(SMALL["cnn"])
    contrast = ContrastiveSettings(positives=positives, hidden=8, projection=4)  # type: ignore[arg-type]
    pooled = 2 * encoder.dim
    tasks = {
        "contrastive": Contrastive(contrast, pooled),
        "vector": VectorTask(pooled, 4),
        "speaker": SpeakerTask(SpeakerTaskSettings(margin=0.2), pooled, 2),
        "reconstruction": ReconstructionTask(encoder),
    }
    return Multitask(encoder, tasks, {}, ViewSettings(crop_seconds=0.5, pooling="statistics"))


def mockingjay(guidance: str, encoder: Any = SMALL["mockingjay"]) -> MockingjayObjective:
    chosen = MockingjayObjectiveSettings(intensity_input=True, intensity_loss=True)
    return MockingjayObjective(build_encoder(encoder), chosen, MaskSettings(guidance=guidance))


def npc() -> NpcObjective:
    chosen = NpcObjectiveSettings(frames="chosen", quantise=True, intensity_input=True, intensity_loss=True)
    encoder = build_encoder(SMALL["npc"])
    return NpcObjective(encoder, chosen, MaskSettings(guidance="emotional"))  # type: ignore[arg-type]


def frames_of(name: str, **more: Any) -> tuple[Callable[[], nn.Module], Callable[[], Batch]]:
    columns = sum(build_encoder(SMALL[name]).layer_dims)
    return lambda: classify("frames", name, **more), lambda: features(columns)


STEPS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    **{f"classify {name}": (lambda name=name: classify("waveforms", name), waveforms) for name in SMALL},
    "classify features": (lambda: classify("features"), features),
    "classify frames": frames_of("ge2e", layers="all", context=1),
    "probe": frames_of("cnn", layers="weighted", projector=4, pooling="mean"),
    "regress": (regress, waveforms),
    "multitask on waveforms": (multitask, waveforms),
    "multitask on features": (lambda: multitask("similar"), features),
    "mockingjay": (lambda: mockingjay("random"), waveforms),
    "mockingjay, Kaldi's filterbank": (lambda: mockingjay("energy", PITCHED), waveforms),
    "mockingjay, guided": (lambda: mockingjay("emotional"), features),
    "npc": (npc, features),
}


def test_a_step_of_whisper_waits_for_nothing(tmp_path: Path) -> None:
    words = (f"encoder.model={save_tiny_whisper(tmp_path / 'model', 100)}",)
    chosen = finetune_settings(protocol="speaker-kfold", encoder="whisper", overrides=words).embedder
    network = EmotionClassifier(ClassifierSettings(labels=LABELS, embedder=chosen))
    step(Classify(network, ClassifySettings(), SOUND), waveforms(), refused(), tmp_path)
    words += ("encoder.trained_blocks=1", "train_encoder=true")
    chosen = finetune_settings(protocol="speaker-kfold", encoder="whisper", overrides=words).embedder
    network = EmotionClassifier(ClassifierSettings(labels=LABELS, embedder=chosen))
    lower = features(2 * 16)  # two layers that are fixed; the third is computed in the step
    step(Classify(network, ClassifySettings(), AUGMENT, reads="frames"), lower, refused(), tmp_path)


def step(objective: nn.Module, given: Batch, guard: AbstractContextManager[None], folder: Path) -> _Loop:
    """Takes two steps of the training loop, the second under the guard: the first may fill tables."""
    settings = TrainSettings(epochs=1, precision="full")
    accelerator = make_accelerator(settings)
    batches: Any = range(4)  # of which only the number is asked for
    loop = _Loop(objective.train(), batches, accelerator, RunFolder(folder), settings)
    given = given.to(accelerator.device)
    loop.train_on(given)
    with guard:
        loop.train_on(given)
    return loop


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_for_nothing(name: str, tmp_path: Path) -> None:
    make, given = STEPS[name]
    torch.manual_seed(0)
    loop = step(make(), given(), refused(), tmp_path)
    loop.read_losses()
    assert loop.step == 2


def waiting(read: Callable[[Tensor], object]) -> Classify:
    objective = classify("features")
    encoder = objective.classifier.embedder.encoder

    def after(module: nn.Module, given: Any, frames: Any) -> None:
        read(frames.values.detach())

    encoder.register_forward_hook(after)
    return objective


@pytest.mark.parametrize(
    "read",
    [
        lambda values: values.sum().item(),
        lambda values: float(values.sum()),
        lambda values: bool((values > 0).any()),
        lambda values: values[0, 0].tolist(),
        lambda values: values[values > 0],
        lambda values: values.cpu(),
        lambda values: (values > 0).nonzero(),
        lambda values: range(values.argmax()),
        lambda values: torch.tensor([1.0], device=values.device),
        lambda values: values.masked_fill_(values > 0, 1.0).unique(),
    ],
)
def test_a_step_that_waits_is_found(read: Callable[[Tensor], object], tmp_path: Path) -> None:
    with pytest.raises((Waited, RuntimeError)):
        step(waiting(read), features(), refused(), tmp_path)
    step(waiting(read), features(), nullcontext(), tmp_path)  # which is no fault of the step itself
