"""Run a notebook as Colab would: `make colab`, or python colab_check.py PYTHON REPOSITORY NOTEBOOK [MODULE ...]

PYTHON: the interpreter of a virtual environment with Colab's packages (colab_requirements.txt); a copy of hard links,
beside it, is used. REPOSITORY: what the notebook's `git clone` gets, with changes that are not committed. MODULE: what
the kernel imports before the first cell; the default is what Colab's does.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

STUB = {  # google.colab: what libraries look for in it, and a kernel that tells them where they run, as Colab's does
    "__init__": "import {modules}",
    "errors": "class Error(Exception): ...",
    "userdata": """from google.colab.errors import Error
class NotebookAccessError(Exception): ...
class SecretNotFoundError(Error): ...
def get(key): raise SecretNotFoundError(f"Secret {{key}} does not exist.")""",
    "kernel": """from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type
class Shell(ZMQInteractiveShell): ...
class Kernel(IPythonKernel):
    shell_class = Type(Shell)""",
}
LOADED = """import json, sys; from importlib.metadata import packages_distributions as p
print(json.dumps([d for module, names in p().items() if module in sys.modules for d in names]))"""
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def tell_changes(before, after, loaded):
    for name in sorted(name for name in before | after if before.get(name) != after.get(name)):
        restart = "; the kernel had imported it: restart" if name in before and f'"{name}"' in loaded else ""
        print(f"          {name} {before.get(name)} -> {after.get(name)}{restart}")


def make_colab(folder, python, repository, setup, modules):  # returns the interpreter of the copy
    shutil.copytree(python.parents[1], folder / "environment", symlinks=True, copy_function=os.link)
    python = folder / "environment" / "bin" / python.name
    stub = next((folder / "environment" / "lib").glob("python3*")) / "site-packages" / "google" / "colab"
    for path in (stub, folder / "home", folder / "content", folder / "kernels" / "colab"):
        path.mkdir(parents=True)
    for name, text in STUB.items():
        (stub / f"{name}.py").write_text(text.format(modules=", ".join(modules)))
    argv = [str(python), "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": [*argv, "--IPKernelApp.kernel_class=google.colab.kernel.Kernel"], "display_name": "Colab"}
    (folder / "kernels" / "colab" / "kernel.json").write_text(json.dumps(kernel | {"language": "python"}))
    files = run("git", "-C", repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in [name for name in files if (repository / name).is_file()]:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, folder / "source" / name)
    url = re.search(r"https://github\.com/[\w.-]+/[\w.-]+", setup)[0]
    (folder / "gitconfig").write_text(f'[url "file://{folder}/source"]\ninsteadOf = {url}\n')
    for name in [n for n in os.environ if n.startswith(("HF_", "IPYTHON", "JUPYTER", "PYTHON", "COURSE_"))]:
        del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": f"{folder}/gitconfig", "HOME": f"{folder}/home", "JUPYTER_PATH": str(folder)}
    run("sh", "-c", f"cd '{folder}/source'; git init -q; git add -A; git -c user.name=x -c user.email=x commit -q -m x")
    return python


def main(python, repository, notebook, *modules):
    python, notebook = Path(python).absolute(), nbformat.read(notebook, as_version=4)
    setup = next(cell.source for cell in notebook.cells if cell.id == "setup")
    notebook.cells = [nbformat.v4.new_code_cell(LOADED)] + [c for c in notebook.cells if c.cell_type == "code"]
    with tempfile.TemporaryDirectory(dir=python.parents[2], prefix="colab-", ignore_cleanup_errors=True) as name:
        modules = modules or ("numpy", "PIL", "matplotlib.pyplot")
        python = make_colab(Path(name), python, Path(repository).absolute(), setup, modules)
        before, place = json.loads(run(python, "-c", VERSIONS)), {"metadata": {"path": f"{name}/content"}}
        client = NotebookClient(notebook, kernel_name="colab", timeout=600, allow_errors=True, resources=place)
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells):
                begin, cell.source = time.time(), cell.source.replace("/content/", f"{name}/content/")
                client.execute_cell(cell, index)
                print(f"{time.time() - begin:7.1f} s {cell.id}", flush=True)
                if cell.id == "setup":
                    tell_changes(before, json.loads(run(python, "-c", VERSIONS)), notebook.cells[0].outputs[0].text)
                for output in cell.outputs:
                    text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
                    if output.get("name") == "stderr" and not re.search(r"it/s|s/it|^\s*$", text):
                        print("         ", text.strip())
                    must_hold = cell.id.endswith(("-hold", "-holds", "-agrees"))
                    if output.output_type == "error" or (must_hold and "✗" in text):
                        raise SystemExit("\n".join(output.get("traceback", [f"{cell.id}: {text}"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
