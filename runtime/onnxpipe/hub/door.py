"""Models from the Hugging Face hub. The only network user, and the only door to huggingface_hub."""

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxpipe.errors import UnsupportedModel

_TRUE = {"1", "ON", "YES", "TRUE"}
_REACH_SECONDS = 3.0


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> tuple[Path, str]:
    """The local folder of a hub model's files that match `patterns`, and the commit it is at.

    Files that an earlier download has finished are not asked for again; without the network, what the hub's cache has.
    Raises UnsupportedModel when the model does not exist, is private, or the hub cannot be reached.
    """
    # here, not above: serving never needs the hub, so it must not pay for importing it
    from huggingface_hub import snapshot_download

    with _told(repo, revision):
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    return folder, folder.name  # the hub cache names a snapshot's folder by its commit


def list_repo(repo: str, revision: str | None) -> dict[str, int]:
    """The sizes of a hub model's files by path. Raises UnsupportedModel as `download` does."""
    from huggingface_hub import HfApi

    with _told(repo, revision):
        siblings = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings or []
    return {file.rfilename: file.size or 0 for file in siblings}


def is_offline() -> bool:
    """Whether huggingface_hub has been told not to use the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def endpoint() -> str:
    """The hub's address, or that of the mirror that takes its place."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def reach() -> str | None:
    """Why the hub cannot be reached; None when it answers, whatever it says."""
    address = endpoint()
    if not address.startswith(("https://", "http://")):
        return "its address does not begin with https://"
    request = urllib.request.Request(address, method="HEAD", headers={"user-agent": "onnxpipe"})  # noqa: S310 - above
    try:
        with urllib.request.urlopen(request, timeout=_REACH_SECONDS):  # noqa: S310 - as above
            return None
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        reason = getattr(error, "reason", error)
        return str(reason) or type(error).__name__


@contextlib.contextmanager
def _told(repo: str, revision: str | None) -> Iterator[None]:
    """Errors of huggingface_hub, and of the client below it, as one line that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    access = "set HF_TOKEN to a token that may read it, or `hf auth login`"
    try:
        yield
    except HFValidationError:
        raise UnsupportedModel(f"{repo!r} is neither a folder nor a hub id (ORG/NAME)") from None
    except LocalEntryNotFoundError:
        if is_offline():
            raise UnsupportedModel(
                f"{repo}: no such folder, and the hub's cache does not have it; HF_HUB_OFFLINE is set, so nothing is "
                "downloaded: unset it"
            ) from None
        raise UnsupportedModel(
            f"{repo}: no such folder, and the hub cannot be reached to download a model of that id"
        ) from None
    except GatedRepoError:
        raise UnsupportedModel(
            f"{repo}: the hub gives it only to accounts with access; ask on the model's page, then {access}"
        ) from None
    except RepositoryNotFoundError:
        raise UnsupportedModel(
            f"{repo}: no such folder, and the hub has no such model, or a private one; check the id, or {access}"
        ) from None
    except RevisionNotFoundError:
        raise UnsupportedModel(f"{repo}: the hub has no revision {revision!r} of it") from None
    except Exception as error:  # noqa: BLE001 - the client below huggingface_hub has had three sets of errors so far
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        status = getattr(getattr(error, "response", None), "status_code", None)
        more = f"; {access}" if status in (401, 403) else ""
        raise UnsupportedModel(f"{repo}: the hub did not give it ({reason}){more}") from None
