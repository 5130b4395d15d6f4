"""Emotions of recordings by an exported recogniser, without affetto and without torch.

    affetto export onnx small -o exported
    python examples/onnx_predict.py exported/model.onnx a.wav b.wav

Recordings must be at 16 kHz; it needs numpy, soundfile and onnxruntime.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # it would warn of the input that need not be given
session = onnxruntime.InferenceSession(sys.argv[1], options)
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
sounds = [soundfile.read(file, dtype="float32", always_2d=True) for file in sys.argv[2:]]
assert all(rate == 16_000 for _, rate in sounds), "bring recordings to 16 kHz first"
lengths = np.array([len(samples) for samples, _ in sounds])
waveforms = np.zeros((len(sounds), lengths.max()), np.float32)
for row, (samples, _) in zip(waveforms, sounds, strict=True):
    row[: len(samples)] = samples.mean(axis=1)
probabilities = session.run(["probabilities"], {"waveforms": waveforms, "lengths": lengths})[0]
for file, row in zip(sys.argv[2:], probabilities, strict=True):
    print(file, labels[row.argmax()], f"{row.max():.3f}")
