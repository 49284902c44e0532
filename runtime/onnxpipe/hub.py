"""Models from the Hugging Face hub. The only network user, and the only door to huggingface_hub."""

from collections.abc import Sequence
from pathlib import Path

from onnxpipe.errors import UnsupportedModel


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, str]:
    """The local folder of a hub model's files that match `patterns`, and the commit it is at.

    Raises UnsupportedModel when the model does not exist, is private, or the hub cannot be reached.
    """
    # here, not above: serving never needs the hub, so it must not pay for importing it
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except HFValidationError:
        raise UnsupportedModel(f"{repo!r} is neither a folder nor a hub id (ORG/NAME)") from None
    except LocalEntryNotFoundError:
        raise UnsupportedModel(
            f"{repo}: no such folder, and the hub cannot be reached to download a model of that id"
        ) from None
    except GatedRepoError:
        raise UnsupportedModel(
            f"{repo}: the hub gives it only to accounts with access; ask on the model's page, then `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UnsupportedModel(
            f"{repo}: no such folder, and the hub has no such model, or a private one; check the id or `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise UnsupportedModel(f"{repo}: the hub has no revision {revision!r} of it") from None
    except Exception as error:  # noqa: BLE001 - the client below huggingface_hub has had three sets of errors so far
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModel(f"{repo}: the hub did not give it ({reason})") from None
    return folder, folder.name  # the hub cache names a snapshot's folder by its commit
