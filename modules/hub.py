"""Released folders on the Hugging Face Hub: fetched and pushed where that is asked for, by ``huggingface_hub`` (extra ``[hub]``).

A token is the library's business (``hf auth login``, HF_TOKEN); none is asked for here, and none is shown.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from modules.released import CONFIG, WEIGHTS
from utils.errors import UserError, reason

PREFIX = "hub:"
# OWNER/NAME, and perhaps @REVISION.
_NAME = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,100}))?", re.ASCII)
# What a released folder may hold; nothing else of it is pushed.
PUSHED = (CONFIG, WEIGHTS, "README.md", "ATTRIBUTION.csv", "model.onnx", "model.pt2")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError("names of the hub need huggingface_hub: pip install -e .[hub]") from error
    return huggingface_hub


def parsed(name: str, option: str = "") -> tuple[str, str | None]:
    """``OWNER/NAME`` and the revision of a name of the hub; UserError where it is none."""
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise UserError(
            f"{option or PREFIX}{name.removeprefix(PREFIX)}: is no name of the hub, OWNER/NAME or OWNER/NAME@REVISION"
        )
    return match[1], match[2]


def fetched(name: str, *others: str) -> Path:
    """The released folder ``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION``, in the hub's own cache; fetched where it is not there yet.

    Nothing but its configuration and its weights is fetched, and no code runs.

    Args:
        name: of the hub.
        others: names of further files, of those in ``PUSHED``, which are fetched where the folder has them.

    Raises:
        UserError: no such name, no way to the hub, or no right to read it.
    """
    repository, revision = parsed(name)
    library = _library()
    try:
        config = Path(library.hf_hub_download(repository, CONFIG, revision=revision))
        # All of one revision, whatever is pushed meanwhile; the cache names its folder so.
        library.hf_hub_download(repository, WEIGHTS, revision=config.parent.name)
        for other in others:
            with suppress(library.errors.RemoteEntryNotFoundError):
                library.hf_hub_download(repository, other, revision=config.parent.name)
    except Exception as error:  # Of the library, of what it speaks HTTP with, of the disk.
        raise UserError(f"{PREFIX}{repository}: cannot be fetched ({_why(error)})") from None
    return config.parent


def check_push(name: str) -> str:
    """``OWNER/NAME`` to push to; UserError where it is none, or the hub's library is missing."""
    repository, revision = parsed(name, "--push ")
    if revision is not None:
        raise UserError(f"--push {name}: is pushed to the main branch; leave @{revision} out")
    _library()
    return repository


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a released folder as one commit, to a repository that is made where it is missing.

    Files of another name than ``PUSHED`` stay here; one of these names that the folder no longer has is removed there.

    Returns:
        the repository's address.

    Raises:
        UserError: no such name, no way to the hub, no right to write, or a file that is a link.
    """
    repository, library = check_push(name), _library()
    links = [file for file in PUSHED if (folder / file).is_symlink()]
    if links:
        raise UserError(f"{folder / links[0]}: is a link, and might lead out of the folder; it is not pushed")
    there = [file for file in PUSHED if (folder / file).is_file()]
    api = library.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=there,
            delete_patterns=[file for file in PUSHED if file not in there],
            commit_message="Released by export.py",
        )
    except Exception as error:  # As above.
        raise UserError(f"--push {repository}: cannot be pushed ({_why(error)}); {folder} is whole") from None
    return str(address)


def _why(error: Exception) -> str:
    """Why the hub did not do it, in words that hold no token."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    cause: Any = error
    while status is None and cause.__cause__ is not None:
        cause = cause.__cause__
        status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub answers {status}: {LOGIN}"
    if status == 404:
        return f"the hub answers 404: it has no such repository or file, or you may not see it; {LOGIN}"
    if status is not None:
        return f"the hub answers {status}"
    text = re.sub(r"hf_\w+", "hf_***", reason(error))
    token = os.environ.get("HF_TOKEN")
    return text.replace(token, "***") if token else text
