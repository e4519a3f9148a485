"""Judges: the papers' bookkeeping, words compared in three ways, and an endpoint that answers badly at first."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from _golden import GOLDEN, Golden
from avtasks.avqacl.judges import (
    Answered,
    ContainsJudge,
    EndpointJudge,
    ExactJudge,
    NormalisedJudge,
    Verdict,
    judge_all,
    judged_accuracy,
    read_reply,
    verdict_in,
    yes_share,
)
from safetensors import safe_open


def metadata(case: str) -> dict[str, str]:
    with safe_open(GOLDEN / "avqacl" / f"{case}.safetensors", "pt") as file:
        return file.metadata()


class Endpoint:
    """A judge behind HTTP that replies what it is told to, one after the other; the last reply is repeated."""

    def __init__(self) -> None:
        self.replies: list[str | int] = []
        self.requests: list[tuple[str, str | None, dict]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, self.headers["Authorization"], body))
                reply = endpoint.replies.pop(0) if len(endpoint.replies) > 1 else endpoint.replies[0]
                self.send_response(reply if isinstance(reply, int) else 200)
                self.end_headers()
                if isinstance(reply, str):
                    message = {"choices": [{"message": {"content": reply}}]}
                    self.wfile.write(json.dumps(message).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def asked(answer: str = "street", predicted: str = "a road", name: str = "7") -> Answered:
    return Answered(name, "Where is it?", answer, predicted)


def test_accuracy_of_a_judged_file_is_the_papers():
    out = Golden("avqacl", "judged_accuracy").out
    assert judged_accuracy(json.loads(metadata("judged_accuracy")["judged"])) == out["accuracy"].item()
    assert judged_accuracy({}) == out["accuracy_empty"].item()


def test_replies_are_read_as_the_papers_program_reads_them():
    told = metadata("judge_text")
    assert [read_reply(text) for text in json.loads(told["replies"])] == json.loads(told["extracted"])


def test_the_second_accuracy_ignores_capitals_and_other_words():
    entries = json.loads(metadata("judged_accuracy")["judged"])
    assert yes_share(entries) == 3 / 4


@pytest.mark.parametrize("reply", ['{"score": "high", "pred": "yes"}', '{"pred": "yes"}', '{"score": 3, "pred": "so"}'])
def test_what_is_no_verdict_is_none(reply):
    assert verdict_in(reply) is None


@pytest.mark.parametrize(
    ("predicted", "exact", "normalised", "contains"),
    [
        (" STREET ", "yes", "yes", "yes"),
        ("The street.", "no", "yes", "yes"),
        ("it is a street at night", "no", "no", "yes"),
        ("streets", "no", "no", "no"),
    ],
)
def test_words_are_compared(predicted, exact, normalised, contains):
    verdicts = [judge(asked(predicted=predicted)).pred for judge in (ExactJudge(), NormalisedJudge(), ContainsJudge())]
    assert verdicts == [exact, normalised, contains]


def test_numbers_and_several_words_are_compared_as_words():
    assert NormalisedJudge()(asked("two dogs", "2 dogs")).pred == "yes"
    assert ContainsJudge()(asked("dog barking", "a barking dog")).pred == "no"


def test_empty_answers_are_wrong_or_dropped():
    answers = [asked(predicted="street", name="1"), asked(predicted=" ", name="2")]
    assert judged_accuracy(judge_all(ExactJudge(), answers)) == 0.5
    assert judged_accuracy(judge_all(ExactJudge(), answers, empty="drop")) == 1.0


def test_of_two_answers_with_one_id_the_last_counts():
    assert judged_accuracy(judge_all(ExactJudge(), [asked(), asked(predicted="street")])) == 1.0


def test_rounds_are_repeated_for_what_has_no_verdict():
    calls = []

    def hesitant(answered: Answered) -> Verdict | None:
        calls.append(answered.id)
        return Verdict(5, "yes", "") if calls.count(answered.id) == int(answered.id) else None

    judged = judge_all(hesitant, [asked(name=str(number)) for number in (1, 3, 9)], rounds=3)
    assert list(judged) == ["1", "3"]
    assert [calls.count(name) for name in "139"] == [1, 3, 3]


def test_an_endpoint_is_asked_again_until_it_gives_a_verdict(endpoint, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    endpoint.replies = [500, "I think so", 'Sure: {"score": 4, "pred": "Yes", "reason": "a synonym"}']
    judge = EndpointJudge(endpoint.url, "judge", key="SOME_KEY", pause=0)
    assert judge(asked()) == Verdict(4, "yes", "a synonym")
    path, key, body = endpoint.requests[-1]
    assert (path, key, body["model"], body["temperature"]) == (
        "/v1/chat/completions",
        "Bearer secret",
        "judge",
        0.01,
    )
    told = body["messages"][-1]["content"]
    assert all(part in told for part in ("Where is it?", "street", "a road"))
    assert len(endpoint.requests) == 3


def test_an_endpoint_that_gives_no_verdict_leaves_the_answer_out(endpoint, monkeypatch):
    monkeypatch.delenv("AVQACL_JUDGE_KEY", raising=False)
    endpoint.replies = ["no idea"]
    assert judge_all(EndpointJudge(endpoint.url, "judge", pause=0), [asked()], rounds=2) == {}
    assert len(endpoint.requests) == 6
    assert endpoint.requests[0][1] is None


def test_verdicts_are_kept_and_equal_answers_never_asked(endpoint, tmp_path):
    endpoint.replies = ['{"score": 2, "pred": "no"}']
    file = tmp_path / "verdicts.jsonl"
    first = EndpointJudge(endpoint.url, "judge", cache=file)
    assert first(asked(predicted="Street")).pred == "yes"
    assert not endpoint.requests
    assert first(asked()) == first(asked()) == Verdict(2, "no", "")
    file.write_text(file.read_text() + '[["half')
    assert EndpointJudge(endpoint.url, "judge", cache=file)(asked()) == Verdict(2, "no", "")
    assert len(endpoint.requests) == 1
    assert EndpointJudge(endpoint.url, "another", cache=file)(asked())
    assert len(endpoint.requests) == 2


def test_a_refused_key_is_one_clear_error(endpoint):
    endpoint.replies = [401]
    with pytest.raises(ValueError, match=r"HTTP 401; check address, model and \$AVQACL_JUDGE_KEY"):
        EndpointJudge(endpoint.url, "judge", pause=0)(asked())
