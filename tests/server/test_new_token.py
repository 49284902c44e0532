import stat

import pytest

from onnxpipe.cli import main
from onnxpipe_server.auth import read_keyring


def test_a_token_is_shown_once_and_its_hash_is_put_into_the_file(tmp_path, capsys):
    file = tmp_path / "tokens"

    assert main(["token", str(file), "ci"]) == 0
    assert main(["token", str(file), "root", "--scope", "infer", "--scope", "admin", "--tokens-per-minute", "50"]) == 0

    first, second = capsys.readouterr().out.split()
    keyring = read_keyring(file, {})
    assert keyring.find(f"Bearer {first}").scopes == {"infer"}
    assert keyring.find(f"Bearer {second}").tokens_per_minute == 50
    assert first not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_without_a_last_line_end_is_not_broken(tmp_path, capsys):
    file = tmp_path / "tokens"
    main(["token", str(file), "ci"])
    file.write_text(file.read_text().rstrip("\n"))

    assert main(["token", str(file), "other"]) == 0
    assert len(file.read_text().splitlines()) == 2


def test_a_name_that_is_taken_changes_nothing(tmp_path, capsys):
    file = tmp_path / "tokens"
    main(["token", str(file), "ci"])
    before = file.read_text()

    assert main(["token", str(file), "ci"]) == 1
    assert "two tokens have the same name: ci" in capsys.readouterr().err
    assert file.read_text() == before


@pytest.mark.parametrize("arguments", [["a b"], ["ci", "--tokens-per-minute", "0"]])
def test_what_no_line_can_say_is_refused_before_the_file_is_made(tmp_path, capsys, arguments):
    file = tmp_path / "tokens"

    assert main(["token", str(file), *arguments]) == 1
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_told_of(tmp_path, capsys):
    assert main(["token", str(tmp_path / "no" / "tokens"), "ci"]) == 1
    assert "cannot be written" in capsys.readouterr().err
