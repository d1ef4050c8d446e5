"""A checkpoint by its name on the Hugging Face hub: its size is told, then it is fetched, once, and verified.

What huggingface_hub has in its cache already is used as it lies there. A download that is interrupted, even
by a kill, goes on where it was. Only settings, tokenizer and safetensors are fetched: no pickles, no code.
"""

import fnmatch
import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from course import steps
from course.weights.files import CONFIG, INDEX, WHOLE, WeightsError

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
SMALL = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "preprocessor_config.json",
)
DONE = ".whole"  # beside files that are all there
ROBOT = "SFconvertbot"
CACHE = steps.ROOT / ".course" / "hub"


def locate(name_or_folder: str, cache: Path = CACHE) -> Path:
    """The folder of a checkpoint: one on this machine, or OWNER/NAME on the hub, fetched if it is not there."""
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if folder.exists():
        raise WeightsError(f"{folder} is a file; name the folder that it lies in, with its {CONFIG}.")
    if not NAME.fullmatch(name_or_folder):
        raise WeightsError(
            f"There is no folder {folder}. Name a checkpoint's folder, or OWNER/NAME as on the Hugging Face hub."
        )
    return fetch(name_or_folder, cache)


def fetch(name: str, cache: Path = CACHE) -> Path:
    """Download the newest version of OWNER/NAME that the hub has and return its folder.

    Without a network, a version that was fetched earlier serves. Raises WeightsError: no such name, access
    not granted, no network, no safetensors, no space, or a file that arrived with other bytes than the hub
    has.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    known = Path(cache) / name.replace("/", "--")
    try:
        info = HfApi().model_info(name, files_metadata=True)
        if not any(one.rfilename.endswith(".safetensors") for one in info.siblings):
            info = converted(HfApi(), name) or info
    except GatedRepoError as error:
        raise WeightsError(
            f"{name} is given only to those who ask: do so on its page, then log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(f"The hub has no {name} (or keeps it private). See the spelling on its page.") from error
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        if whole := sorted(known.glob(f"*/{DONE}"), key=lambda path: path.stat().st_mtime):
            newest = whole[-1].parent
            print(f"{name}: the hub cannot be reached; using {newest}", file=sys.stderr)
            return newest
        raise WeightsError(
            f"{name} is not on this machine, and the hub cannot be reached ({error}). Fetch it where there is a "
            f"network (hf download {name} --local-dir FOLDER), and name that folder."
        ) from error
    folder = known / info.sha
    files = wanted({one.rfilename: one for one in info.siblings}, name)
    missing = {
        file: one
        for file, one in files.items()
        if not (folder / file).exists() and not _cached(name, file, info.sha, folder)
    }
    if missing:
        _download(name, info.sha, missing, folder)
    (folder / DONE).touch()
    return folder


def converted(api: Any, name: str) -> Any:
    """What the hub's own robot offers for an old repository of pickles: the same with safetensors, not
    merged; or None.
    """
    for offer in api.get_repo_discussions(name, author=ROBOT, discussion_type="pull_request", discussion_status="open"):
        if offer.author == ROBOT and offer.title == "Adding `safetensors` variant of this model":
            print(
                f"{name} has pickles only; using the safetensors that the hub's {ROBOT} has made of them",
                file=sys.stderr,
            )
            return api.model_info(name, revision=offer.git_reference, files_metadata=True)
    return None


def wanted(files: dict, name: str) -> dict:
    """Of a repository's files those that a checkpoint is made of."""
    weights = [WHOLE] if WHOLE in files else [INDEX, *fnmatch.filter(files, "model-*-of-*.safetensors")]
    if CONFIG not in files or not files.keys() >= set(weights):
        pickle = [file for file in files if file.endswith(".bin")]
        raise WeightsError(
            f"{name} has no {CONFIG if CONFIG not in files else WHOLE}"
            + (
                f", only {', '.join(pickle)}: a pickle, which can run any code, and is not read here."
                if pickle
                else "."
            )
            + " Choose another, or save it anew with transformers and name that folder."
        )
    return {file: files[file] for file in (*SMALL, *weights) if file in files}


def _cached(name: str, file: str, commit: str, folder: Path) -> bool:
    """Link a file that huggingface_hub has fetched for somebody else; False if it has not."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=commit)
    if not isinstance(path, str):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / file).symlink_to(Path(path).resolve())
    except OSError:  # Windows without the right to link
        shutil.copy(path, folder / file)
    return True


def _download(name: str, commit: str, files: dict, folder: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    folder.mkdir(parents=True, exist_ok=True)
    have = {file: (part(folder, file).stat().st_size if part(folder, file).exists() else 0) for file in files}
    total, rest = (sum(one.size for one in files.values()), sum(one.size - have[file] for file, one in files.items()))
    print(
        f"{name}: {total / 1e6:,.1f} MB to fetch into {folder}"
        + (f", {rest / 1e6:,.1f} MB are still missing" if rest < total else ""),
        file=sys.stderr,
        flush=True,
    )
    if rest > (free := shutil.disk_usage(folder).free):
        raise WeightsError(
            f"{folder} has only {free / 1e6:,.0f} MB of space left. Free some, and run the same command again."
        )
    for file, one in files.items():
        path = part(folder, file)
        if have[file] > one.size:
            path.unlink()
            have[file] = 0
        try:
            with open(path, "ab") as out:
                http_get(
                    hf_hub_url(name, file, revision=commit),
                    out,
                    resume_size=have[file],
                    headers=build_hf_headers(),
                    expected_size=one.size,
                    displayed_filename=file,
                )
        except (HTTPError, OSError) as error:
            raise WeightsError(
                f"{name}: {file} did not arrive whole ({error}). The same command goes on where it was."
            ) from error
        if not _intact(path, one):
            path.unlink()
            raise WeightsError(
                f"{name}: {file} arrived with other bytes than the hub has. It is removed; run the same command again."
            )
        path.replace(folder / file)


def part(folder: Path, file: str) -> Path:
    """Where a file grows until it is whole."""
    return folder / f"{file}.part"


def _intact(path: Path, one) -> bool:
    """Does a file have the hub's checksum: sha256 of a large one, git's own of a small one?"""
    digest = hashlib.sha256() if one.lfs else hashlib.sha1(b"blob %d\0" % one.size)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == (one.lfs.sha256 if one.lfs else one.blob_id)
