"""The stand-in of the hub answers as the hub does: files, listings, refusals and faults."""

import http.client
import json
import socket

import pytest
from hub import SAMPLES, Fault, Hub, oid

MODEL = "/HuggingFaceTB/SmolLM2-135M-Instruct"
WEIGHTS = SAMPLES / "models" / "small" / "model.safetensors"
CARD = SAMPLES / "models" / "small" / "README.md"


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def ask(hub, path, method="GET", body=None, **headers):
    """Status, headers and content of an answer, by a client that does nothing on its own."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=2)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_a_process_gets_a_home_of_its_own_and_no_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    env = hub.env(tmp_path)
    assert env["HF_ENDPOINT"] == hub.url and env["HF_HOME"] == str(tmp_path)
    assert not {"HF_TOKEN", "HF_HUB_OFFLINE"} & env.keys()


def test_files_come_whole_or_in_parts_with_the_id_and_the_commit_that_the_hub_names(hub):
    data = WEIGHTS.read_bytes()
    path = f"{MODEL}/resolve/main/model.safetensors"
    for method, content in ("GET", data), ("HEAD", b""):
        status, headers, got = ask(hub, path, method)
        assert (status, got, int(headers["Content-Length"])) == (200, content, len(data))
        assert headers["ETag"] == f'"{oid(WEIGHTS)}"' and len(headers["X-Repo-Commit"]) == 40
    status, headers, got = ask(hub, path, Range="bytes=100-199")
    assert (status, got, headers["Content-Range"]) == (206, data[100:200], f"bytes 100-199/{len(data)}")
    assert ask(hub, path, Range=f"bytes={len(data) - 5}-")[2] == data[-5:]
    assert ask(hub, path.replace("main", headers["X-Repo-Commit"]))[2] == data


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/models/no/body", 401, "RepoNotFound"),
        ("HEAD", "/datasets/no/body/resolve/main/README.md", 401, "RepoNotFound"),
        ("GET", f"{MODEL}/resolve/main/none.json", 404, "EntryNotFound"),
        ("GET", f"/api/models{MODEL}/tree/main/none", 404, "EntryNotFound"),
        ("GET", f"{MODEL}/resolve/old/README.md", 404, "RevisionNotFound"),
        ("POST", "/api/repos/create", 401, "RepoNotFound"),
        ("POST", f"/api/models{MODEL}/commit/main", 401, "RepoNotFound"),
        ("GET", "/api/whoami-v2", 401, "RepoNotFound"),
        ("GET", "/nothing", 404, None),
    ],
)
def test_what_is_not_there_or_not_allowed_is_refused_with_the_code_of_the_hub(hub, method, path, status, code):
    got, headers, _ = ask(hub, path, method)
    assert (got, headers["X-Error-Code"]) == (status, code)
    assert hub.requests == [(method, path, False)]


def test_listings_name_files_and_folders(hub):
    def listed(query):
        entries = json.loads(ask(hub, f"/api/datasets/Anthropic/hh-rlhf/tree/main{query}")[2])
        return {entry["path"]: entry["type"][0] for entry in entries}

    inside = {f"helpful-base/{split}.jsonl.gz": "f" for split in ("test", "train")}
    assert listed("/helpful-base") == inside
    assert listed("") == {"README.md": "f", "harmless-base": "d", "helpful-base": "d"}
    assert listed("?recursive=true").items() > inside.items() and len(listed("?recursive=true")) == 7


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_statuses_come_as_asked_for_and_go_again(hub, status):
    hub.fault = status
    got, headers, content = ask(hub, f"{MODEL}/resolve/main/README.md")
    assert got == status and "error" in json.loads(content)
    assert (headers["Retry-After"] == "1") == (status == 429)
    hub.fault = None
    assert ask(hub, f"{MODEL}/resolve/main/README.md")[0] == 200


def test_a_hub_that_is_gone_refuses_connections_and_comes_back(hub):
    url = hub.url
    hub.fault = "gone"
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "/")
    hub.fault = None
    assert ask(hub, "/api/models" + MODEL)[0] == 200 and hub.url == url


def test_a_hub_may_go_after_some_good_answers(hub):
    hub.fault = Fault("gone", after=1)
    assert ask(hub, "/api/models" + MODEL)[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        ask(hub, "/api/models" + MODEL)
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "/api/models" + MODEL)


def test_a_hub_in_the_dark_is_not_even_reached_and_comes_back(hub):
    hub.fault = "dark"
    with pytest.raises(socket.timeout):
        ask(hub, "/api/models" + MODEL)
    hub.fault = None
    assert ask(hub, "/api/models" + MODEL)[0] == 200 and len(hub.requests) == 1


def test_a_slow_hub_never_answers_but_hears(hub):
    hub.fault = "slow"
    with pytest.raises(socket.timeout):
        ask(hub, "/slow")
    assert [request.path for request in hub.requests] == ["/slow"]


def test_a_cut_ends_every_try_in_the_middle_of_the_file(hub):
    half, data = len(WEIGHTS.read_bytes()) // 2, WEIGHTS.read_bytes()
    hub.fault = "cut"
    for start in (0, 10, half):
        with pytest.raises(http.client.IncompleteRead) as error:
            ask(hub, f"{MODEL}/resolve/main/model.safetensors", Range=f"bytes={start}-")
        assert error.value.partial == data[start:half] and error.value.expected == len(data) - half
    assert ask(hub, f"{MODEL}/resolve/main/model.safetensors", "HEAD")[0] == 200
    assert json.loads(ask(hub, "/api/models" + MODEL)[2])["id"] == MODEL[1:]


def test_a_stall_leaves_the_client_waiting_in_the_middle_of_the_file(hub):
    hub.fault = "stall"
    with pytest.raises(socket.timeout):
        ask(hub, f"{MODEL}/resolve/main/model.safetensors")


def test_a_fault_hits_what_it_is_meant_for(hub):
    def status(name, method="GET"):
        try:
            return ask(hub, f"{MODEL}/resolve/main/{name}", method)[0]
        except http.client.IncompleteRead:
            return "cut"

    hub.fault = Fault(500, "^GET .*README", after=1, times=2)
    assert [status("config.json"), status("README.md", "HEAD")] == [200, 200]
    assert [status("README.md") for _ in range(4)] == [200, 500, 500, 200]
    hub.fault = Fault("cut", above=CARD.stat().st_size)
    assert [status("README.md"), status("model.safetensors")] == [200, "cut"]
