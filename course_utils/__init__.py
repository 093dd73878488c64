"""What the lessons need beside TRL: `import course_utils as cu`."""

from .batch import encode, precompute_ref_logps
from .data import load_preferences
from .evaluation import (
    answer_logps,
    judge_all,
    mean_interval,
    policy_kl,
    reward_accuracy,
    reward_margins,
    share,
    win_rate,
)
from .exercises import ex, progress
from .expect import expect
from .figures.explorers import browse_answers, explore_dpo_loss, explore_kl, explore_orpo_loss
from .figures.labs import plot_arms, plot_losses, plot_paths
from .figures.live import ShowProgress
from .figures.plots import (
    plot_accuracy,
    plot_judge_against_margin,
    plot_length_against_reward,
    plot_orpo_terms,
    plot_reward_margins,
    plot_sides,
    plot_why_odds,
)
from .figures.scores import plot_sweep, plot_verdicts, plot_win_rates
from .figures.tables import score_table, side_by_side, translated
from .figures.tokens import token_view
from .generation import generate
from .losses import (
    dpo_loss,
    fit_dpo,
    implicit_reward,
    kl_divergence,
    log_odds,
    log_odds_ratio,
    mean_logps,
    optimal_policy,
    orpo_loss,
    sequence_logps,
)
from .machine.models import load_model
from .machine.start import fetch, start
from .trainer import SHOW_PROGRESS, train_dpo, train_orpo, train_sft
from .world import judge, language_of

SHOW_PROGRESS.append(ShowProgress)
