"""Every error on purpose has one parent, and one helper words what is not known."""

import inspect

import pytest

from affetto import __main__, errors


def test_every_error_is_an_affetto_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) == 9
    assert all(issubclass(kind, errors.AffettoError) for kind in kinds)


def test_an_unknown_name_is_answered_with_what_exists_and_the_nearest() -> None:
    message = errors.unknown("encoder", "ge2", ["cnn", "ge2e"])
    assert message == "unknown encoder 'ge2'; allowed: cnn, ge2e; did you mean 'ge2e'?"
    assert errors.unknown("encoder", "whisper", ["cnn"]) == "unknown encoder 'whisper'; allowed: cnn"
    assert errors.unknown("class", 3, []) == "unknown class '3'; allowed: (none)"


def test_an_error_ends_as_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["affetto", "protocols", "--no-such-option"])
    with pytest.raises(SystemExit):
        __main__.main()
    capsys.readouterr()

    def fail(**options: object) -> None:
        raise errors.RunError("nothing to score")

    monkeypatch.setattr("affetto.cli.app", fail)
    with pytest.raises(SystemExit) as stop:
        __main__.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: nothing to score\n"
