"""Checkpoints on the Hugging Face Hub: three files, there and back."""

import re
from pathlib import Path

import huggingface_hub

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.collection.layout import README
from impure.purifier.checkpoints.checkpoint import CONFIG, WEIGHTS, load_riae

FILES = (CONFIG, WEIGHTS, README)

_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


def is_hub_name(where: str) -> bool:
    """Whether this could be `owner/name` or `owner/name@revision`."""
    return _NAME.fullmatch(where) is not None


def fetch(name: str) -> Path:
    """Bring a checkpoint from the Hub, or from its cache on this machine.

    Args:
        name: `owner/name` or `owner/name@revision` (a branch, a tag or a commit).

    Returns:
        The folder that holds the files.

    Raises:
        InputError: The name is none, the Hub cannot be reached or does not give the model, or there is no
            checkpoint in it.
    """
    if not (found := _NAME.fullmatch(name)):
        raise InputError(f"{name}: not a name on the Hugging Face Hub; they look like owner/name@revision")
    try:
        folder = huggingface_hub.snapshot_download(
            found["repo"], revision=found["revision"], allow_patterns=list(FILES)
        )
    except Exception as error:  # noqa: BLE001 - each version of the client raises other errors
        raise InputError(
            f"{name}: no such path here, and the Hugging Face Hub did not give it ({_said(error)}). Check "
            "the path or the name, the network, and for a private model your token (`hf auth login`)"
        ) from error
    if missing := [file for file in (CONFIG, WEIGHTS) if not (Path(folder) / file).is_file()]:
        raise InputError(f"{name}: no RIAE; that model on the Hugging Face Hub has no {missing[0]}")
    return Path(folder)


def push_to_hub(run: Path, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload a checkpoint: config, weights and card, and nothing else of the run.

    Args:
        run: A folder that `load_riae` takes and `card.write_card` has written a card into.
        repo_id: `owner/name`; made if it is not there.
        private: Whether a new repository is for its owner only.
        revision: A branch, made if it is not there; default: the main one.

    Returns:
        The model's address.

    Raises:
        InputError: The run is incomplete or damaged, or the Hub refuses: no token, no network, no right.
    """
    load_riae(run)
    if not (run / README).is_file():
        raise InputError(f"{run}: has no {README}; write its model card first")
    try:
        api = huggingface_hub.HfApi()
        # None: an organisation may have made private its default.
        url = str(api.create_repo(repo_id, private=private or None, exist_ok=True))
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=run,
            allow_patterns=list(FILES),
            revision=revision,
            commit_message="Upload RIAE",
        )
    except Exception as error:  # noqa: BLE001 - each version of the client raises other errors
        raise InputError(
            f"{repo_id}: the Hugging Face Hub did not take {run} ({_said(error)}). Check the name, the "
            "network, and that your token may write there (`hf auth login`)"
        ) from error
    return url


def _said(error: Exception) -> str:
    """The kind of an error, which is often all it tells, and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"
