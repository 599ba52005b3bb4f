"""Records from the Hugging Face hub, or from a folder of data files, through `datasets`.

No code of a data set is ever run. Knows nothing of what columns mean.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer.pipeline.source import DataError, Record, Source

BATCH_ROWS = 1000
HUB_ID = re.compile(r"(?P<prefix>hub:)?(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?")
REVISION = re.compile(r"/([0-9a-f]{40})/")
MAX_CHARS = 300
# What `datasets` 5.2 says of an empty Parquet, CSV or JSON Lines file.
OF_NO_ROWS = ("BatchSize must be greater than 0", "the first 0 values", "StopIteration")
DOWNLOAD = "or download one of its files and give its path"


@dataclass(frozen=True)
class HubId:
    """`hub:ORG/NAME:CONFIG`; the prefix and the configuration may be left out."""

    path: str
    config: str = ""
    has_prefix: bool = False

    def __str__(self) -> str:
        return f"{self.path}:{self.config}" if self.config else self.path


def parse_hub_id(source: str) -> HubId | None:
    """`source` as a hub id, None where it can't be one."""
    if not (match := HUB_ID.fullmatch(source)):
        return None
    return HubId(match["path"], match["config"] or "", bool(match["prefix"]))


def open_hub(source: HubId, split: str) -> Source:
    """The records of one split of a data set of the hub, from the cache where it is there.

    Raises:
        DataError: it can't be had, or the split is empty; says what to do.
    """
    where = str(source) if source.has_prefix else f"{source} (no such file, so a hub id)"
    found = _load(source.path, source.config, split, where)
    facts = {"config": found.config_name, "split": split, "revision": _revision(found)}
    return Source(
        source.path,
        tuple(found.column_names),
        partial(_read, found, str(source)),
        hub_id=source.path,
        facts=facts,
    )


def open_folder(folder: Path, split: str) -> Source:
    """The records of one split of a folder of data files, as a download of a hub repository is.

    Raises:
        DataError: there are none.
    """
    found = _load(str(folder), "", split, str(folder))
    read = partial(_read, found, str(folder))
    facts = {"split": split}
    return Source(folder.name, tuple(found.column_names), read, folder, facts=facts)


def _load(path: str, config: str, split: str, where: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(path, config or None, split=split)
    except Exception as error:  # of many libraries: HTTP, files, Arrow, the hub
        if "corresponds to no data" in str(error):
            splits = ", ".join(datasets.get_dataset_split_names(path, config or None))
            told = f"split {split!r} holds no rows; its splits: {splits}"
        else:
            told = _told(error, path)
        raise DataError(f"{where}: {told}") from error


def _read(found: Any, where: str, columns: Sequence[str]) -> Iterator[Record]:
    number = 0
    for batch in found.select_columns(list(columns)).iter(batch_size=BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"{where}: row {number}", dict(zip(batch, values, strict=True))


def _revision(found: Any) -> str:
    """The commit that the data come from, which names the folder that caches them; "" if none."""
    match = REVISION.search(" ".join(file["filename"] for file in found.cache_files))
    return match[1] if match else ""


def _told(error: Exception, path: str) -> str:
    """One line that says what went wrong and what helps."""
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled

    causes = list(_causes(error))
    # This class itself only says that something went wrong, its subclasses say what.
    telling = causes[-1] if type(error) is DatasetGenerationError else error
    said = " ".join(f"{type(telling).__name__} {telling}".split())[:MAX_CHARS]
    if "is a gated dataset" in str(error) or any(isinstance(e, GatedRepoError) for e in causes):
        page = f"https://huggingface.co/datasets/{path}"
        return f"a gated set: ask for access at {page} and set HF_TOKEN, {DOWNLOAD}"
    if isinstance(error, DatasetNotFoundError):
        return f"no such set on the hub, or a private one: check the id, set HF_TOKEN, {DOWNLOAD}"
    if any(isinstance(e, OfflineModeIsEnabled) for e in causes) or "Offline" in str(error):
        return f"HF_HUB_OFFLINE is set, and the set is not in the cache: unset it, {DOWNLOAD}"
    if isinstance(error, ConnectionError):
        return f"the hub can't be reached: set HF_ENDPOINT to a mirror, {DOWNLOAD}"
    if any(mark in said for mark in OF_NO_ROWS):
        return f"one of its data files holds no rows ({said})"
    return f"can't be loaded: {said}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
