"""One row of the registry is all that an encoder takes: settings, commands, help, docs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affetto.config import build
from affetto.errors import ConfigError
from affetto.models import registry
from affetto.models.embedders import NetworkSettings, build_encoder
from affetto.models.encoder import PublishedEncoder
from affetto.models.registry import EMBEDDERS, ENCODERS, encoder_classes

ROOT = Path(__file__).resolve().parents[2]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"

COMMANDS = """
import sys

import own_encoder
from typer.testing import CliRunner

from affetto.cli import app

listed, protocol, out = sys.argv[1:]
small = ["train.epochs=1", "encoder.width=12"]
weights = ["objective=multitask", "weights.speaker=1"]
commands = [
    ["pretrain", "--manifest", listed, "--encoder", "linear", "-o", f"{out}/pretrained", *weights, *small],
    ["finetune", "--manifest", listed, "--encoder", "linear", "--frozen", "--protocol", protocol,
     "--no-enrolment", "-o", f"{out}/probe", *small],
    ["embed", listed, "-e", "linear", "encoder.width=12", "-o", f"{out}/named.npy"],
    ["embed", listed, "-e", f"{out}/pretrained", "--frames", "-o", f"{out}/pretrained.npy"],
    ["embed", listed, "-e", f"{out}/probe/recogniser", "-o", f"{out}/probe.npy"],
    ["finetune", "--help"],
]
for command in commands:
    result = CliRunner().invoke(app, command)
    print(command[:2], result.output)
    if result.exit_code:
        raise SystemExit(f"{command}: {result.output} {result.exception!r}")
"""


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_is_what_the_network_is(name: str) -> None:
    settings, network = encoder_classes(name)
    assert settings.model_fields["name"].default == name
    if ENCODERS[name].package != "transformers":  # whose settings are looked up
        encoder = build_encoder(build(NetworkSettings, {"encoder": {"name": name}}).encoder)
        assert type(encoder) is network
        published = [module for module in encoder.modules() if isinstance(module, PublishedEncoder)]
        assert bool(published) == bool(ENCODERS[name].weights)
        assert (name in registry.probed()) == (len(set(encoder.layer_dims)) == 1)


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'cnm'.*'cnn', 'tdnn', 'mockingjay'"):
        build(NetworkSettings, {"encoder": {"name": "cnm"}})


def encoder_table() -> str:
    rows = ["| `--encoder` | what | needs | weights from elsewhere |", "|---|---|---|---|"]
    for name, each in (ENCODERS | EMBEDDERS).items():
        default = " (default)" if name == "cnn" else ""
        rows.append(f"| `{name}`{default} | {each.about} | {each.package} | {each.weights or 'none'} |")
    return "\n".join(rows)


def embed_table() -> str:
    groups: dict[str, list[str]] = {}
    for name, each in ENCODERS.items():
        random = "**untrained**, and reported as such" if each.pretrained else "nothing to train"
        groups.setdefault("with published weights" if each.weights else random, []).append(f"`{name}`")
    mean = "the mean of the last layer over time | yes"
    return "\n".join(f"| {', '.join(names)}, {what} | {mean} |" for what, names in groups.items())


def test_the_tables_of_the_docs_are_those_of_the_registry() -> None:
    assert f"\n{encoder_table()}\n" in (DOCS / "training.md").read_text(encoding="utf-8")
    assert f"\n{embed_table()}\n" in (DOCS / "embed.md").read_text(encoding="utf-8")


def test_names_are_listed_by_what_they_need() -> None:
    assert (
        registry.listed(["whisper", "cnn", "ge2e", "tdnn"])
        == "cnn, tdnn; with transformers whisper; with Resemblyzer ge2e"
    )
    assert "filterbank" not in registry.pretrained()
    assert not ENCODERS.keys() & EMBEDDERS.keys()


def test_names_cost_no_torch() -> None:
    script = "import sys; import affetto.models.registry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_encoder_is_one_file_and_one_row(listed: Path, protocol: Path, tmp_path: Path) -> None:
    """The example registers an encoder; every command then takes it by its name and from its folders."""
    (tmp_path / "commands.py").write_text(COMMANDS, encoding="utf-8")
    script = [sys.executable, str(tmp_path / "commands.py"), str(listed), str(protocol), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *sys.path])}
    done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "linear" in done.stdout.split("['finetune', '--help']")[1]
    widths = [np.load(tmp_path / f"{name}.npy").shape[1] for name in ("named", "pretrained", "probe")]
    assert widths == [12, 12, 12]
