"""Keep a run: on the disk, and, if you want, on the hub, with a card that says what it is."""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import pandas as pd
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from peft import PeftModel

from .i18n import _, grouped
from .training import Run, fresh_copy

SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected", "nll_loss")


def own_settings(args) -> dict:
    """The settings of a TRL config that differ from its defaults, as plain values."""
    found = {}
    for field in fields(args):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(args, field.name)
        value = getattr(value, "value", value)  # an enum's
        if not field.init or value == default or field.name == "hub_token":
            continue
        if value is None or (isinstance(value, (str, int, float, list, dict)) and value != []):
            found[field.name] = value
    return found


def markdown_table(table: pd.DataFrame) -> str:
    lines = [[table.index.name or "", *table.columns], ["---"] * (1 + table.shape[1])]
    lines += [[index, *row] for index, row in zip(table.index, table.itertuples(index=False))]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def first_and_last(log: list[dict]) -> pd.DataFrame:
    """The first logged value of each quantity, and the mean of its last ten."""
    found = {}
    for key in SHOWN:
        if values := [entry[key] for entry in log if key in entry]:
            found[key] = {_("first step"): values[0], _("last ten steps"): sum(values[-10:]) / len(values[-10:])}
    return pd.DataFrame(found).T.round(4)


def base_name(source: str) -> str:
    """The name of the model that a run began with: a hub id, also where it came from the hub's cache, or a folder's."""
    path = Path(source)
    if path.parent.name == "snapshots":  # of the hub's cache
        path = path.parents[1]
    if path.name.startswith("models--"):
        return path.name.removeprefix("models--").replace("--", "/")
    return path.name if path.is_absolute() or path.is_dir() else source


def model_card(run: Run, data: str, results: pd.DataFrame | None) -> ModelCard:
    """What somebody who finds the model must know: where it comes from, data, settings, and what was measured."""
    method = type(run.args).__name__.removesuffix("Config")
    base = base_name(run.model.config.name_or_path)
    steps = next(entry["step"] for entry in reversed(run.log) if "step" in entry)
    settings = own_settings(run.args) | {"processes": run.args.world_size}
    settings = pd.DataFrame({_("value"): settings}).drop(index="output_dir", errors="ignore")
    parts = [
        "# " + _("{base}, trained with {method}").format(base=base, method=method),
        _("{steps} steps with TRL; {tokens} tokens read since it was last started.").format(
            steps=steps, tokens=grouped(run.tokens)
        ),
        "" if run.finished else _("The run was interrupted before its end."),
        "## " + _("Data"),
        data or _("Not stated."),
        "## " + _("Settings that differ from TRL's defaults"),
        markdown_table(settings),
        "## " + _("Results"),
        markdown_table(first_and_last(run.log)),
        _("Margins alone prove nothing: read the answers, or have them judged, before you use this model."),
        "" if results is None else markdown_table(results),
    ]
    facts = ModelCardData(library_name="transformers", tags=["trl", method.lower()])
    if "/" in base:
        facts.base_model = base
    return ModelCard(f"---\n{facts.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n")


def save_run(run: Run, folder: str | Path, data: str = "", results: pd.DataFrame | None = None) -> Path:
    """Write a run's model, tokenizer, log and model card into `folder`; `load_model(folder)` takes it back.

    data: a sentence on what it was trained with. results: a table for the card, such as `score_table` gives.
    An adapter (LoRA) is merged into its model first, for the model below it may be nowhere on the disk.
    """
    folder = Path(folder)
    card = model_card(run, data, results)
    model = run.model
    if isinstance(model, PeftModel):
        model = fresh_copy(model).merge_and_unload()
    model.save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)
    (folder / "log.json").write_text(json.dumps(run.log, indent=1), encoding="utf-8")
    card.save(folder / "README.md")
    return folder


def push_run(folder: str | Path, repo_id: str, private: bool = True) -> str:
    """Put a saved run on the hub, for those who want to; returns its address. Checkpoints in the folder stay here.

    repo_id: "your-name/model-name". private: counts for a new one. Your token is taken from where `hf auth login` or
    HF_TOKEN keeps it.
    """
    if not (Path(folder) / "README.md").is_file():
        raise FileNotFoundError(
            _("{folder}: there is no saved run; save one first with cu.save_run(run, folder)").format(folder=folder)
        )
    api = HfApi()
    try:
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        ignored = ["checkpoint-*", "*.bin", "*.pt", "*.pth"]
        api.upload_folder(repo_id=repo.repo_id, folder_path=folder, ignore_patterns=ignored)
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise OSError(
            _(
                "{repo}: the hub did not take the model ({error}); it is still in {folder}. Check the name, which is "
                "“your-name/model-name”, the connection, and that a token with the right to write is set "
                "(hf auth login, or HF_TOKEN)"
            ).format(repo=repo_id, error=str(error).partition("\n")[0], folder=folder)
        ) from None
    return str(repo)
