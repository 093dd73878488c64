"""What the lessons need beside TRL: `import course_utils as cu`."""

from .data import load_preferences
from .evaluation import generate, judge_all, reward_accuracy, score_table, share, side_by_side, win_rate
from .exercises import ex, progress
from .grid import train_grid
from .hub import fetch
from .launch import write_run
from .losses import dpo_loss, implicit_reward, log_odds, log_odds_ratio, mean_logps, orpo_loss, sequence_logps
from .models import load_model
from .plotting import plot_grid, plot_orpo_terms, plot_reward_margins, plot_sweep, plot_verdicts, plot_win_rates, show
from .saving import push_run, save_run
from .start import start
from .training import train_dpo, train_orpo, train_sft
from .world import judge

__all__ = [
    "dpo_loss",
    "ex",
    "fetch",
    "generate",
    "implicit_reward",
    "judge",
    "judge_all",
    "load_model",
    "load_preferences",
    "log_odds",
    "log_odds_ratio",
    "mean_logps",
    "orpo_loss",
    "plot_grid",
    "plot_orpo_terms",
    "plot_reward_margins",
    "plot_sweep",
    "plot_verdicts",
    "plot_win_rates",
    "progress",
    "push_run",
    "reward_accuracy",
    "save_run",
    "score_table",
    "sequence_logps",
    "share",
    "show",
    "side_by_side",
    "start",
    "train_dpo",
    "train_grid",
    "train_orpo",
    "train_sft",
    "win_rate",
    "write_run",
]
