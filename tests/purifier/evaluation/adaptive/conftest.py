"""Collections for adaptive evaluations."""

import pytest

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.evaluation.adaptive import cells
from tests.purifier.conftest import write_collection


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[CommittedShard]:
    return write_collection(tmp_path_factory.mktemp("many"), attacks=("fgsm",), count=24)


@pytest.fixture(autouse=True)
def few_draws_and_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "EOT_LEVELS", (1, 3))
    monkeypatch.setattr(cells, "PROBE_QUERIES", 50)
