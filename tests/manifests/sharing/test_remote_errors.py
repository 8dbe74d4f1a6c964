import pytest

from impure.manifests.sharing import remote_errors
from impure.manifests.sharing.remote_errors import RemoteError, remote_error, with_retries


@pytest.fixture(autouse=True)
def two_retries_at_once(monkeypatch):
    monkeypatch.setattr(remote_errors, "RETRY_DELAYS", (0.0, 0.0))


def failing(error, successes_after):
    """An action that fails some times; and the list of its calls."""
    calls = []

    def action():
        calls.append(None)
        if len(calls) <= successes_after:
            raise error
        return "done"

    return action, calls


def test_what_passes_is_tried_again():
    action, calls = failing(RemoteError("busy", transient=True), 2)
    assert with_retries(action) == "done"
    assert len(calls) == 3


def test_what_still_fails_is_given_up():
    action, calls = failing(RemoteError("busy", transient=True), 3)
    with pytest.raises(RemoteError, match="busy"):
        with_retries(action)
    assert len(calls) == 3


def test_what_does_not_pass_is_not_tried_again():
    action, calls = failing(RemoteError("not found"), 3)
    with pytest.raises(RemoteError, match="not found"):
        with_retries(action)
    assert len(calls) == 1


class HttpError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


class NoCredentialsError(Exception):
    """As botocore calls it."""


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (HttpError(403), "refused with HTTP status 403 (status 403)", False),
        (HttpError(429), "refused with HTTP status 429 (status 429)", True),
        (HttpError(500), "refused with HTTP status 500 (status 500)", True),
        (FileNotFoundError("x"), "not found", False),
        (PermissionError("no\nentry"), "access denied (no)", False),
        (TimeoutError(), "no answer in time", True),
        (NoCredentialsError("log in"), "NoCredentialsError: log in", False),
        (OSError("reset"), "OSError: reset", True),
    ],
)
def test_reasons_are_one_line_with_the_address(error, reason, transient):
    told = remote_error("s3://lab/x", error)
    assert (str(told), told.transient) == (f"s3://lab/x: {reason}", transient)
