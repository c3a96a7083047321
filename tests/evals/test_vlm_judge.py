"""A vision-language model as the judge, against a small server of the chat-completions protocol on this machine."""

import base64
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wfm_sim.cli import main as command_line
from wfm_sim.errors import UserError
from wfm_sim.evals import policy_run
from wfm_sim.evals.loading import load_judge
from wfm_sim.evals.policy_run_summary import NO_CONFUSION
from wfm_sim.evals.provenance import network_hash
from wfm_sim.evals.vlm_client import KEY_VARIABLE, ChatClient, read_answer
from wfm_sim.evals.vlm_judge import VLMJudge, parse_vlm_judge

Reply = Callable[[dict[str, Any], int], tuple[int, Any]]


def says(text: str, top: dict[str, float] | None = None) -> dict[str, Any]:
    """A chat completion; `top` gives probabilities of first tokens."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if top is not None:
        listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
        choice["logprobs"] = {"content": [{"token": text, "top_logprobs": listed}]}
    return {"choices": [choice]}


def brightness(body: dict[str, Any], count: int) -> tuple[int, Any]:
    """Yes where the second image is bright."""
    images = [part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url"]
    pixels = [cv2.imdecode(np.frombuffer(base64.b64decode(u.partition(",")[2]), np.uint8), 1) for u in images]
    assert len(pixels) == 2 and pixels[0].shape == (384, 384, 3)
    bright = pixels[1].mean() > 127
    return 200, says(
        "yes" if bright else "no", {"Yes": 0.6, " yes": 0.2, "no": 0.2} if bright else {"no": 0.9, "yes": 0.1}
    )


class Server:
    """Answers with what `reply` returns; keeps the requests' bodies and headers."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.bodies, self.headers = reply, [], []  # type: ignore[var-annotated]
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.bodies.append(body)
                    server.headers.append({**self.headers, "path": self.path})
                    count = len(server.bodies)
                status, content = server.reply(body, count)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], Server]]:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    made: list[Server] = []

    def start(reply: Reply) -> Server:
        made.append(Server(reply))
        return made[-1]

    yield start
    for server in made:
        server.http.shutdown()
        server.http.server_close()


def client(server: Server, **options: Any) -> ChatClient:
    return ChatClient(server.url, "some/model", **{"timeout": 5.0, "backoff": 0.01, **options})


def frames(*levels: int) -> np.ndarray:
    return np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])


def test_asks_once_about_each_picture_and_keeps_the_answers(
    serve: Callable[[Reply], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret-key")
    server = serve(brightness)
    judge = VLMJudge(client(server), cache=tmp_path)
    asked = (frames(10, 240, 10), frames(0, 0, 0), ["push"] * 3, ["red"] * 3)
    probability, progress = judge(*asked)
    np.testing.assert_allclose(probability, [0.1, 0.8, 0.1], atol=1e-9)  # of yes, among yes and no
    np.testing.assert_array_equal(progress, probability)
    assert len(server.bodies) == judge.requests == 2  # the third is the first again
    body, header = server.bodies[0], server.headers[0]
    assert body["model"] == "some/model" and body["temperature"] == 0 and body["logprobs"] is True
    assert "push the red block into the zone" in body["messages"][1]["content"][0]["text"]
    assert header["path"] == "/v1/chat/completions" and header["Authorization"] == "Bearer secret-key"
    again = pickle.loads(pickle.dumps(VLMJudge(client(server), cache=tmp_path)))  # as other machines get it
    np.testing.assert_array_equal(again(*asked)[0], probability)
    assert (
        len(server.bodies) == 2
        and "2 answers are kept" in again.announce(100)
        and "100 requests" in again.announce(100)
    )
    again(frames(10), frames(0), ["pick"], ["red"])  # another question about the same picture
    again(frames(10), frames(1), ["push"], ["red"])  # another first frame
    assert len(server.bodies) == 4
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"secret" in p.read_bytes()]
    with (judge.folder / "answers.jsonl").open("a") as file:
        file.write('{"key": "half a li')
    np.testing.assert_array_equal(VLMJudge(client(server), cache=tmp_path)(*asked)[0], probability)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (says("Yes."), 1.0),
        (says("no\n"), 0.0),
        (says('```json\n{"success": true}\n```'), 1.0),
        (says('{"answer": "no"}'), 0.0),
        (says("<think>yes or no?</think>\n\nNo"), 0.0),
        (says("yes", {"yes": 0.75, "no": 0.25}), 0.75),
        (says('{"success": false}', {"{": 0.99, "yes": 0.01}), 0.0),  # the first token is no answer there
        (says("yes", {"maybe": 0.9}), 1.0),
    ],
)
def test_reads_the_answer(answer: dict[str, Any], wanted: float) -> None:
    assert read_answer(answer, "m") == pytest.approx(wanted)


@pytest.mark.parametrize(
    "answer",
    [says("maybe"), says(""), says("yesterday"), says('{"a": 1, "b": 2}'), {}, {"choices": []}, says(None)],  # type: ignore[arg-type]
)
def test_refuses_an_answer_that_is_neither(answer: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="where yes or no was asked"):
        read_answer(answer, "m")


def test_tries_again_where_the_server_is_busy(serve: Callable[[Reply], Server]) -> None:
    busy = serve(
        lambda body, count: (200, says("yes")) if count > 2 else (503 if count == 1 else 429, {"error": "busy"})
    )
    assert client(busy).yes_or_no("", "", []) == 1.0 and len(busy.bodies) == 3
    down = serve(lambda body, count: (500, {"error": {"message": "out of memory"}}))
    with pytest.raises(UserError, match=r"after 3 attempts: 500 out of memory"):
        client(down, attempts=3).yes_or_no("", "", [])
    assert len(down.bodies) == 3


def test_leaves_out_what_a_server_does_not_know(serve: Callable[[Reply], Server]) -> None:
    def picky(body: dict[str, Any], count: int) -> tuple[int, Any]:
        for name in ("logprobs", "max_tokens"):
            if name in body:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}'"}}
        return 200, says("no")

    server = serve(picky)
    asking = client(server)
    assert [asking.yes_or_no("", "", []) for _ in range(2)] == [0.0, 0.0]
    assert len(server.bodies) == 4  # learnt once
    assert server.bodies[-1]["max_completion_tokens"] == 8 and server.bodies[-1]["temperature"] == 0


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (lambda body, count: (401, {"error": {"message": "no key"}}), f"401 no key.*{KEY_VARIABLE}"),
        (lambda body, count: (404, b"nothing here"), "404 nothing here.*a model of this endpoint"),
        (lambda body, count: (400, {"error": "images are not supported"}), "400 images are not supported"),
        (lambda body, count: (302, b""), "refused the request"),  # not followed: the key would go along
        (lambda body, count: (200, b"<html>hello</html>"), "something else than JSON"),
        (lambda body, count: (200, b"[" * 1_000_002), "something else than JSON"),
    ],
)
def test_says_what_is_wrong_in_one_sentence(serve: Callable[[Reply], Server], reply: Reply, wanted: str) -> None:
    server = serve(reply)
    with pytest.raises(UserError, match=wanted) as error:
        client(server).yes_or_no("", "", [])
    assert len(server.bodies) == 1 and "\n" not in str(error.value)


def test_no_server_and_a_slow_server(serve: Callable[[Reply], Server]) -> None:
    with pytest.raises(UserError, match=r"no answer from http://127.0.0.1:9/v1 after 2 attempts: .*refused"):
        ChatClient("http://127.0.0.1:9/v1", "m", attempts=2, backoff=0.01).yes_or_no("", "", [])
    waiting = threading.Event()
    server = serve(lambda body, count: (200 if waiting.wait(5) else 500, says("yes")))
    with pytest.raises(UserError, match="timed out"):
        client(server, timeout=0.1, attempts=1).yes_or_no("", "", [])
    waiting.set()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("openai:m@host:8000/v1", "write openai:MODEL@http"),
        ("openai:@http://host/v1", "write openai:MODEL@http"),
        ("openai:m@http://user:hunter2@host/v1", "goes into the environment variable"),
        ("openai:m@http://", "names no remote judge"),
    ],
)
def test_addresses(name: str, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted) as error:
        parse_vlm_judge(name)
    assert "hunter2" not in str(error.value)


def test_a_key_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k")
    with pytest.raises(UserError, match="for all to read"):
        parse_vlm_judge("openai:m@http://gpu.example/v1")
    found = load_judge("openai:org/m@v2@https://gpu.example/v1")
    assert isinstance(found, VLMJudge) and found.client.model == "org/m@v2"


def test_measured_before_it_is_believed(
    serve: Callable[[Reply], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way_model: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    server = serve(lambda body, count: (200, says("no")))
    name = f"openai:blind@{server.url}"
    run: Any = {"world_model": way_model, "tasks": ["push"], "episodes": 1, "twin": False, "num_envs": 1, "clips": 0}
    before = policy_run.main(["zero"], judge=name, out=tmp_path / "before", **run)
    assert before.policies[0].imagined.value == 0
    assert before.policies[0].corrected.unscored == NO_CONFUSION
    assert "up to 66 requests" in " ".join(capsys.readouterr().out.split())
    assert command_line(["eval", "judge", "--judge", name, "--episodes", "1", "--imagined", "0", "--write"]) == 0
    assert len(server.bodies) <= 66 + 99
    judge = load_judge(name)
    assert isinstance(judge, VLMJudge) and judge.quality["confusion"]["tp"] == 0
    assert str(network_hash(judge)).startswith("sha256:")
    after = policy_run.main(["zero"], judge=name, out=tmp_path / "after", **run)
    assert after.policies[0].corrected.unscored  # a judge that always says no can be corrected by nothing
    assert after.policies[0].corrected.unscored != NO_CONFUSION
