from onnxpipe_export.progress import Progress


def test_without_a_terminal_each_stage_is_one_numbered_line(capsys):
    progress = Progress(2, show=True)
    with progress.stage("load"):
        pass
    with progress.stage("verify", 3) as advance:
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] load")
    assert lines[1].startswith("[2/2] verify")
    assert all(line.endswith(" s") for line in lines)


def test_silent_progress_writes_nothing(capsys):
    with Progress(1, show=False).stage("load"):
        pass
    assert capsys.readouterr() == ("", "")
