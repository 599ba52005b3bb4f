"""Why an adapter is not served: a closed set of codes, said in the log and counted by metrics."""

from typing import Final

from eval.task.bundle import BundleError

MAX_TEXT = 400

CODES: Final = (
    "illegal_name",
    "missing",  # no folder, or a file of the bundle is not there
    "not_a_folder",
    "not_regular",  # a link, pipe, device or folder where a file must be
    "linked",  # a file that has other names, so that it can be changed from elsewhere
    "unreadable",
    "too_large",
    "unsafe_format",  # pickles and code
    "unexpected_file",
    "incomplete",
    "tampered",  # differs from the manifest's hashes, or from the version's name
    "bad_manifest",
    "bad_config",  # adapter_config.json is no JSON object, or nests deeply
    "bad_field",  # a field of it is of a wrong type, or out of range
    "unsupported_field",  # a field of it asks for what the engine does not do
    "disagrees",  # manifest and config say different things
    "wrong_base",
    "unsupported_modules",
    "rank_too_high",
    "bad_header",  # of the safetensors file
    "bad_layout",  # its tensors overlap, leave gaps or go beyond its end
    "bad_dtype",
    "missing_tensor",
    "unexpected_tensor",
    "wrong_shape",
    "not_finite",
    "out_of_range",
    "no_effect",
    "bad_fingerprint",
    "drift",  # the engine makes something else of it than its trainer did
    "no_space",
    "timeout",  # its disk did not answer in time
    "engine",  # the engine did not load it
    "other",
)


class Refusal(BundleError):
    """An adapter that must not be served; `code` is one of `CODES`, `param` what is at fault: a
    file, a field or a tensor. The message is code, fault and remedy."""

    def __init__(self, code: str, message: str, param: str = "") -> None:
        self.code = code
        self.param = _printable(param[:200])
        where = f"{self.param}: " if param else ""
        super().__init__(f"{code}: {where}{_printable(message[:MAX_TEXT])}")


def _printable(text: str) -> str:
    """`text` with escapes for what moves a terminal's cursor or can't be encoded: names of files
    and tensors are the adapter's own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def code_of(error: Exception) -> str:
    """The code of what kept a version from being served. A BundleError begins with its own."""
    if isinstance(error, Refusal):
        return error.code
    if not isinstance(error, BundleError):
        return "other"
    word = str(error).split(":")[0]
    return word if word in CODES else "bad_manifest"
