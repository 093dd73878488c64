"""The hub: does it answer, what to do when it does not, and everything of a lesson fetched in one go."""

from collections.abc import Iterator
from dataclasses import replace

from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from .i18n import _

TIMEOUT = 5  # seconds to wait for a first answer
HTTPError = HfHubHTTPError.__bases__[0]  # of the HTTP library that the hub's client uses in this version
#: What loading from the hub can raise.
HUB_ERRORS = (OSError, ValueError, HTTPError, DatasetsError)
#: Weights as safetensors and what goes with them; never pickles, never code.
FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def trouble(error: BaseException) -> str:
    """What went wrong with the hub and what to do, in the learner's language."""
    errors = list(chain(error))
    status = next((one.response.status_code for one in errors if isinstance(one, HfHubHTTPError)), None)
    kinds = {kind.__name__ for one in errors for kind in type(one).__mro__}
    if "DatasetNotFoundError" in kinds:
        status = status or 401  # datasets does not tell a name that is not there from one that is not for everybody
    if status in (401, 403):
        return _(
            "the hub wants to know who asks, or there is no such name ({status}); check the spelling, or accept the "
            "conditions on its page and log in (hf auth login, or the secret HF_TOKEN)"
        ).format(status=status)
    if status == 404:
        return _("the hub has nothing of this name (404); check the spelling")
    if status == 429:
        return _("the hub has had too many requests from here (429); wait a few minutes, then run the cell again")
    if status and status >= 500:
        return _("the hub has a fault of its own ({status}); try again later").format(status=status)
    if kinds & {"TimeoutException", "TimeoutError"}:
        return _("the hub did not answer in time; check the connection, or try again later")
    if kinds & {"RemoteProtocolError", "ReadError"}:
        return _("the connection broke off in the middle of a file; run the cell again, it goes on where it stopped")
    if kinds & {"TransportError", "ConnectionError"}:
        return _("there is no connection to the hub; check the network")
    return str(error).partition("\n")[0] or type(error).__name__


def hub_name(name: str) -> tuple[str, str | None]:
    """A dataset's id, and the folder in it that may stand behind: "Anthropic/hh-rlhf/helpful-base"."""
    parts = name.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:]) or None


def unreachable(names: list[tuple[str, str]]) -> str | None:
    """Why the first of these (name, "model" or "dataset") cannot be had from the hub; None if all can."""
    api = HfApi()
    for name, kind in names:
        try:
            api.repo_info(hub_name(name)[0], repo_type=kind, timeout=TIMEOUT)
        except HUB_ERRORS as error:
            return f"{name}: {trouble(error)}."
    return None


def with_test(data: DatasetDict, rows: int) -> DatasetDict:
    """A dataset with the splits that a lesson needs, train and test.

    `train_prefs` and `test_prefs` count as these. Where there is none to test with, so many rows of train are set
    apart, and that is said.
    """
    data = DatasetDict({name.removesuffix("_prefs"): split for name, split in data.items()} | data)
    if "test" in data or "train" not in data:
        return data
    rows = min(rows, max(1, len(data["train"]) // 10))
    print(_("There is no split “test”: {rows} rows of “train” are set apart to test with.").format(rows=rows))
    return data["train"].train_test_split(test_size=rows, seed=0)


def fetch(setup):
    """Bring a setup's models and data into the hub's cache; returns the setup to go on with.

    After it nothing asks the hub again. Where something cannot be had, it says what and why, and the setup that
    comes back is that of the bundled model and data. With these there is nothing to fetch.
    """
    preferences = setup.preferences
    try:
        for name, kind in setup.from_hub:
            if kind == "model":
                snapshot_download(name, allow_patterns=FILES, etag_timeout=TIMEOUT)
            else:
                repo, folder = hub_name(name)
                preferences = with_test(load_dataset(repo, data_dir=folder), setup.held_out)
    except (*HUB_ERRORS, RuntimeError) as error:  # RuntimeError: how the hub's storage client, hf_xet, tells of its own
        print(f"{name}: {trouble(error)}.", _("The course goes on with its bundled model and data."))
        return setup.bundled()
    return replace(setup, preferences=preferences)
