import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from browser import address

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lab_serves_the_lessons_whoever_calls_it_and_without_a_browser(tmp_path):
    settings = {"ServerApp": {"port": 0}, "IdentityProvider": {"token": ""}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(settings))
    homes = {"JUPYTER_CONFIG_DIR": tmp_path, "JUPYTER_RUNTIME_DIR": tmp_path / "runtime", "BROWSER": "true"}
    with open(tmp_path / "log.txt", "w") as log:
        command = {"args": ["make", "lab"], "cwd": ROOT, "env": os.environ | homes}
        server = subprocess.Popen(**command, stdout=log, stderr=log, start_new_session=True)
    try:
        url = address(server, tmp_path)
        page = urllib.request.urlopen(f"{url}lab/tree/notebooks/en/dpo_finetuning_example.ipynb").read().decode()
        lessons = json.load(urllib.request.urlopen(f"{url}api/contents/notebooks/vi"))["content"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    assert "JupyterLab" in page and "orpo_finetuning_example.ipynb" in {lesson["name"] for lesson in lessons}
    assert f"{url}lab" in (tmp_path / "log.txt").read_text()  # for whoever has no browser to open by itself
