"""For the curious: what the hub gives, and what to say when it does not."""

from typing import Any

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects

from ..i18n import N_, _, shown

#: What loading from the hub can raise: also its HTTP library's errors, and those of its storage client (RuntimeError).
HUB_ERRORS: tuple[Any, ...] = (OSError, ValueError, RuntimeError, DatasetsError, *HfHubHTTPError.__bases__[:1])
#: Weights as safetensors and what goes with them; never pickles, never code.
FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]
#: What to say of an HTTP status, or of an error's class.
ADVICE: dict[tuple | range, str] = {
    (401, 403): N_("authentication is required, or there is no such name ({status}); check the spelling, or accept the "
                   "conditions on its page and log in (hf auth login, or the secret HF_TOKEN)"),
    (404,): N_("the hub has nothing of this name (404); check the spelling"),
    (429,): N_("the hub has had too many requests from here (429); wait a few minutes, then run the cell again"),
    range(500, 600): N_("the hub has a fault of its own ({status}); try again later"),
    ("TimeoutException", "TimeoutError"): N_("the hub did not answer in time; check the connection, or try again "
                                             "later"),
    ("RemoteProtocolError", "ReadError"): N_("the connection broke off in the middle of a file; run the cell again, it "
                                             "goes on where it stopped"),
    ("TransportError", "ConnectionError"): N_("there is no connection to the hub; check the network"),
}  # fmt: skip


def explain_hub_error(error: BaseException) -> str:
    """What went wrong with the hub and what to do, in the learner's language."""
    errors = [error]
    while cause := errors[-1].__cause__ or errors[-1].__context__:
        errors.append(cause)
    kinds = {kind.__name__ for one in errors for kind in type(one).__mro__}
    status = next((one.response.status_code for one in errors if isinstance(one, HfHubHTTPError)), None)
    if "DatasetNotFoundError" in kinds:
        status = status or 401  # datasets does not tell a name that is not there from one that is not for everybody
    words = next((words for causes, words in ADVICE.items() if {status, *kinds} & {*causes}), None)
    return _(words).format(status=status) if words else shown(str(error).partition("\n")[0]) or type(error).__name__


def hub_name(name: str) -> tuple[str, str | None]:
    """A dataset's id, and the folder in it that may stand behind: "Anthropic/hh-rlhf/helpful-base"."""
    parts = name.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:]) or None


def with_test(data: Any, rows: int) -> DatasetDict:
    """A dataset with a split “test”: `test_prefs` if that is its name, else so many rows of train, which is said."""
    data = DatasetDict({name.removesuffix("_prefs"): split for name, split in data.items()} | data)
    if "test" in data or "train" not in data:
        return data
    rows = min(rows, max(1, len(data["train"]) // 10))
    print(_("There is no split “test”: {rows} rows of “train” are held out to test with.").format(rows=rows))
    return data["train"].train_test_split(test_size=rows, seed=0)


def download(name: str, kind: str, held_out: int) -> Any:
    """A "model" into the hub's cache, or a "dataset" with its test rows; one of `HUB_ERRORS` if it does not come."""
    repo, folder = hub_name(name)
    # `timeout`, because without an answer what follows would wait for ever
    info: Any = HfApi().repo_info(repo, repo_type=kind, timeout=5, files_metadata=True)
    wanted = FILES if kind == "model" else [f"{folder or ''}*"]
    files = filter_repo_objects(info.siblings or [], allow_patterns=wanted, key=lambda file: file.rfilename)
    words = _("{name}: {size:.0f} MB at most, kept in the hub's cache")
    print(words.format(name=shown(name, 200), size=sum(file.size or 0 for file in files) / 1e6))
    if kind == "model":
        return snapshot_download(name, allow_patterns=FILES, etag_timeout=5)
    return with_test(load_dataset(repo, data_dir=folder, trust_remote_code=False), held_out)
