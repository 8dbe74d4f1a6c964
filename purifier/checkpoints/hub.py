"""Uploads a checkpoint to the Hugging Face Hub; `riae.pretrained` brings it back."""

from pathlib import Path

import huggingface_hub

from impure.manifests.base.errors import InputError
from impure.manifests.collection.layout import README
from impure.purifier.defences.open_checkpoint import open_checkpoint
from impure.purifier.riae.pretrained import HUB_FILES, hub_reason


def push_to_hub(run: Path, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload a checkpoint: config, weights and card, and nothing else of the run.

    Args:
        run: A folder that `open_checkpoint` takes and `model_card.write_card` has written a card into.
        repo_id: `owner/name`; made if it is not there.
        private: Whether a new repository is for its owner only.
        revision: A branch, made if it is not there; default: the main one.

    Returns:
        The model's address.

    Raises:
        InputError: The run is incomplete or damaged, or the Hub refuses: no token, no network, no right.
    """
    name = open_checkpoint(run).name
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
            allow_patterns=list(HUB_FILES),
            revision=revision,
            commit_message=f"Upload {name}",
        )
    except Exception as error:  # noqa: BLE001 - each version of the client raises other errors
        raise InputError(
            f"{repo_id}: the Hugging Face Hub did not take {run} ({hub_reason(error)}). Check the name, the "
            "network, and that your token may write there (`hf auth login`)"
        ) from error
    return url
