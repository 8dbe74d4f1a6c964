import pytest

from impure.purifier.evaluation.select import Group, group_bar


def test_the_bar_ends_its_line_before_an_error_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    group = Group("toy", "pgd", [])
    with pytest.raises(OSError), group_bar([group], progress=True) as begin:
        begin(group)(0)
        raise OSError("full")
    shown = capsys.readouterr().err
    assert "toy pgd" in shown and shown.endswith("\n")
