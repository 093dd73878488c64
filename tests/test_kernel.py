"""Exercises in a real kernel: it can be interrupted, and goes on."""

import time
from queue import Empty

import pytest
from jupyter_client.manager import start_new_kernel

START = """
import time, torch, course_utils as cu
model = torch.nn.Linear(2, 1)
def forever(*arguments):
    while True:
        time.sleep(0.01)
def catastrophic(*arguments):
    import re
    return re.fullmatch("(a+)+b", "a" * 60)
def exits(*arguments):
    import os
    os._exit(1)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    import os
    from pathlib import Path

    env = os.environ | {"COURSE_PROGRESS": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])}
    manager, client = start_new_kernel(env=env, startup_timeout=120)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code, timeout=120):
    """What a cell shows, as text."""
    shown, asked = [], client.execute(code)
    while True:
        message = client.get_iopub_msg(timeout=timeout)
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return "\n".join(shown)
        shown.append(content.get("text") or content.get("data", {}).get("text/plain") or content.get("ename") or "")


def test_a_verdict_is_shown_wherever_in_a_cell_it_is_asked_for(kernel):
    _manager, client = kernel
    assert run(client, START).strip() == ""
    shown = run(client, 'verdict = cu.ex("dpo.win_rate").check(lambda ours, theirs: 0.5)\nprint("after")')
    assert "✗ 🐕 dpo.win_rate: not yet" in shown and shown.index("not yet") < shown.index("after")
    assert run(client, "verdict").strip() == "" and run(client, 'cu.ex("dpo.loss").check(None)').count("dpo.loss") == 1


@pytest.mark.parametrize("answer", ["forever", "catastrophic"])
def test_the_stop_button_ends_a_check_at_once_and_the_kernel_goes_on(kernel, answer):
    manager, client = kernel
    asked = client.execute(f'cu.ex("dpo.loss").check({answer})')
    time.sleep(2)
    begun = time.time()
    manager.interrupt_kernel()
    names = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == asked:
            names.append(message["content"].get("ename"))
            if message["content"].get("execution_state") == "idle":
                break
    assert "KeyboardInterrupt" in names and time.time() - begun < 5
    assert "still here" in run(client, 'print("still here", model(torch.ones(2)).shape)')


def test_what_ends_python_ends_a_copy_of_the_kernel_alone(kernel):
    _manager, client = kernel
    assert "It ended Python itself" in run(client, 'cu.ex("dpo.loss").check(exits)')
    assert "✓" in run(client, 'cu.ex("dpo.loss").check(cu.dpo_loss)')
    with pytest.raises(Empty):
        client.get_iopub_msg(timeout=0.2)
