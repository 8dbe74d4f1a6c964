import json

import pytest

from impure.purifier.commands.evaluate.tables.defence_list import print_defences
from impure.purifier.defences.defence_registry import DEFENCES


def test_every_defence_is_listed_with_what_has_to_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    print_defences(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == DEFENCES.keys() and all(facts["source"] for facts in listed.values())
    assert listed["pixel-deflection-impure"]["parameters"]["deflections"] == 12_000
    assert listed["pixel-deflection"]["extra"] == "defences" and not listed["random"]["keeps_size"]
    print_defences(as_json=False)
    words = " ".join(capsys.readouterr().out.split())
    assert all(name in words for name in DEFENCES)
    for said in (
        "pip install 'impure[defences]'",
        "Changes the size",
        "riae:weights=RUN",
        "quality=75",
        "estimate_sigma=true",
    ):
        assert said in words
