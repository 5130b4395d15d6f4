import pytest
import typer
from typer.testing import CliRunner

from affetto.cli.manifest import protocols
from affetto.errors import ProtocolError
from affetto.protocols import list_protocols

app = typer.Typer()
app.command()(protocols)


def test_all_are_listed_with_a_line_each() -> None:
    lines = CliRunner().invoke(app, []).output.strip().splitlines()
    assert [line.split()[0] for line in lines] == [*list_protocols(), "TRAIN-to-TEST"]
    assert all(len(line.split()) > 3 for line in lines)


def test_one_is_shown_with_its_figures_and_caveats() -> None:
    shown = CliRunner().invoke(app, ["crema-d-6-evar"]).output
    assert "65.5 % war  wav2vec 2.0 (context) (nttcslab/eval-audio-repr, README; ±1.7 points)" in shown
    assert "left out: 1076_MTI_SAD_XX" in shown
    assert "published:" in shown


def test_figures_of_something_else_stand_apart() -> None:
    shown = CliRunner().invoke(app, ["emodb-7-loso10"]).output
    comparable, apart = shown.split("published, of something else (do not compare):")
    assert "ComParE 2016 + SVM" in comparable
    assert "LIGHT-SERNET" in apart
    assert "LIGHT-SERNET" not in comparable


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ProtocolError, match="did you mean 'speaker-kfold'"):
        CliRunner().invoke(app, ["speaker-kfolds"], catch_exceptions=False)
