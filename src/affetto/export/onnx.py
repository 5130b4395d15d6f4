"""``export onnx``: a recogniser as one ONNX file that takes waveforms, and one more that enrols speakers."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.audio import SAMPLE_RATE
from affetto.errors import CheckpointError
from affetto.export.hub import export_card, model_facts
from affetto.export.traced import traceable
from affetto.inference.recogniser import Recogniser
from affetto.models.checkpoint import find_recogniser
from affetto.models.classifier import EmotionClassifier
from affetto.models.hub import optional
from affetto.progress import progress
from affetto.runs import atomic_write, write_json, write_text

MODEL, ENROL, FACTS, CARD = "model.onnx", "enrol.onnx", "model.json", "README.md"
_OPSET = 18
_LEAST_WEIGHTS = 10_000  # of an array that is kept in 8 bits
_FULL = ("bands.", "embed_positions")  # names of arrays that are not
TOLERANCE = 1e-4
_FREE = torch.export.Dim.DYNAMIC


class Exported(NamedTuple):
    """What was written, and the largest difference of its answers from torch's on sounds made up for it."""

    folder: Path
    megabytes: float
    difference: float


class _Answers(nn.Module):
    """Waveforms and lengths to answers ``(B, K)`` and vectors ``(B, D)``."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, waveforms: Tensor, lengths: Tensor, enrolment: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        network = self.classifier
        vectors = network.embed(*network.front_end(waveforms, lengths))
        answers = network.answers(vectors)
        if enrolment is not None:  # all zeros stand for a speaker who is not enrolled
            known = (enrolment != 0).any(1, keepdim=True)
            answers = torch.where(known, network.answers(vectors, enrolment), answers)
        return answers, vectors


class _Offset(nn.Module):
    """Vectors of one speaker's utterances, ``(N, D)``, to the offset, ``(1, D + 1)``."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, vectors: Tensor) -> Tensor:
        return self.classifier.offset(vectors)[None]


def export_onnx(
    name: str | Path, out: str | Path, *, encoder: str | Path | None = None, int8: bool = False
) -> Exported:
    """Writes a recogniser as ``model.onnx``, with ``README.md``, and where it enrols ``enrol.onnx``.

    The answers are then compared with those of torch.

    Args:
        name: ``"small"``, a folder, or a hub id, as for :meth:`Recogniser.from_pretrained`.
        out: the folder.
        encoder: the folder of the model that ``"base"`` needs.
        int8: whether weights are stored in 8 bits.

    Raises:
        ConfigError: for a recogniser whose network ONNX cannot have.
        MissingPackageError: without onnx, onnxscript and onnxruntime.
    """
    needed = ("onnx", "onnxscript", "onnxruntime")
    onnx, *_ = (optional(each, "export to ONNX", "'affetto[onnx]'") for each in needed)
    folder, source = Path(out), find_recogniser(name)
    recogniser = Recogniser.from_pretrained(name, encoder=encoder, device="cpu", any_sound=True)
    network = traceable(recogniser.classifier)
    model, enrol = _graphs(onnx, network, "values" if recogniser.format.values else "probabilities")
    if int8:
        store_in_8_bits(onnx, model)
    card = source / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    facts = model_facts(recogniser, text, int8)
    for file, graph in ((MODEL, model), (ENROL, enrol)):
        if graph is not None:
            own = {key: each if isinstance(each, str) else json.dumps(each) for key, each in facts.items()}
            onnx.helper.set_model_props(graph, own)
            with atomic_write(folder / file) as temporary:
                temporary.write_bytes(graph.SerializeToString())
    if enrol is None:
        (folder / ENROL).unlink(missing_ok=True)
    difference = _difference(folder / MODEL, recogniser.classifier)
    if not int8 and difference > TOLERANCE:
        raise CheckpointError(
            f"{folder / MODEL} answers {difference:.1g} apart from torch, which is more than {TOLERANCE:g}; "
            "install newer versions of onnx, onnxscript and onnxruntime, and export again"
        )
    write_json(folder / FACTS, facts)
    write_text(folder / CARD, export_card(facts, enrol is not None, difference, text))
    return Exported(folder, (folder / MODEL).stat().st_size / 1e6, difference)


def _graphs(onnx: Any, network: EmotionClassifier, output: str) -> tuple[Any, Any]:
    """Returns the graph of a network, and the one that enrols, or None."""
    sounds, free = _sounds(2), {"waveforms": {0: _FREE, 1: _FREE}, "lengths": {0: _FREE}}
    jobs: list[tuple[Any, ...]] = []
    if network.enrolment is None:
        jobs.append((_Answers(network), sounds, free, output, "vectors"))
    else:
        vectors = torch.zeros(2, network.dim)
        zeros = network.offset(vectors[:0])[None]
        jobs.append((_Offset(network), (vectors,), {"vectors": {0: _FREE}}, "enrolment"))
        jobs.append((_Answers(network), (*sounds, zeros), {**free, "enrolment": None}, output, "vectors"))
    *enrol, model = [_followed(*job) for job in progress(jobs, "export")]
    if enrol:
        _make_optional(onnx, model, "enrolment", zeros.numpy())
    return model, enrol[0] if enrol else None


def _sounds(count: int) -> tuple[Tensor, Tensor]:
    """Returns noise of several lengths, ``(B, S)`` and ``(B,)``."""
    lengths = torch.tensor([2 * SAMPLE_RATE + 1, SAMPLE_RATE // 3, SAMPLE_RATE][:count])
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(count, int(lengths.max()), generator=generator)
    return waveforms * (torch.arange(waveforms.shape[1]) < lengths[:, None]), lengths


def _followed(network: nn.Module, inputs: tuple[Tensor, ...], free: dict[str, Any], *outputs: str) -> Any:
    """Returns the ONNX graph of a network whose sizes ``free`` may be any."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=free,
            input_names=list(free),
            output_names=list(outputs),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.graph.value_info[:]  # sizes that a runtime finds itself, and finds right for any input
    for node in model.graph.node:
        del node.metadata_props[:]
    names = {0: "batch", 1: "samples"}
    for value in [*model.graph.input, *model.graph.output]:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = names[axis]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what the exporter says of its steps and of packages that it could use."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _make_optional(onnx: Any, model: Any, name: str, default: NDArray[np.float32]) -> None:
    """Gives an input a value for where nothing is passed, and lets it have a row for each waveform."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(default, name))
    value = next(each for each in model.graph.input if each.name == name)
    value.type.tensor_type.shape.dim[0].dim_param = "speakers"


def store_in_8_bits(onnx: Any, model: Any) -> None:
    """Stores large matrices and filters as 8-bit numbers, each row or column with a scale."""
    graph, first = model.graph, []
    for tensor in list(graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.size < _LEAST_WEIGHTS or any(word in tensor.name for word in _FULL):
            continue
        # Rows, or the columns of a matrix that is stored transposed: the one that loses less.
        rounded = [_rounded(values, axis) for axis in range(min(values.ndim, 2))]
        numbers, scales = min(rounded, key=lambda pair: float(np.abs(pair[0] * pair[1] - values).max()))
        graph.initializer.remove(tensor)
        whole, scale, wide = (f"{tensor.name}.{part}" for part in ("int8", "scale", "wide"))
        graph.initializer.append(onnx.numpy_helper.from_array(numbers, whole))
        graph.initializer.append(onnx.numpy_helper.from_array(scales, scale))
        # Not DequantizeLinear, which onnxruntime would compute again with every call.
        first.append(onnx.helper.make_node("Cast", [whole], [wide], to=onnx.TensorProto.FLOAT))
        first.append(onnx.helper.make_node("Mul", [wide, scale], [tensor.name]))
    for place, node in enumerate(first):
        graph.node.insert(place, node)


def _rounded(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    others = tuple(each for each in range(values.ndim) if each != axis)
    scales = np.maximum(np.abs(values).max(others, keepdims=True), 1e-12) / np.float32(127)
    return np.round(values / scales).astype(np.int8), scales.astype(np.float32)


def _difference(file: Path, classifier: EmotionClassifier) -> float:
    """Returns the largest difference of answers on sounds of several lengths."""
    import onnxruntime

    waveforms, lengths = _sounds(3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of an input that has a default
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    [found, _] = session.run(None, {"waveforms": waveforms.numpy(), "lengths": lengths.numpy()})
    with torch.inference_mode():
        wanted = classifier.answers(classifier.embed(*classifier.front_end(waveforms.clone(), lengths)))
    return float(np.abs(found - wanted.numpy()).max())
