import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import pytest

import gnomon
from fixtures_llm import hurry
from gnomon.core.llm import (
    LLMConfig,
    Meter,
    ask,
    close,
    complete,
    connect,
    is_simulated,
    last_verdict,
    open_llm,
)
from gnomon.core.llm.sims import SIMULATORS, ChatServer
from gnomon.core.llm.sims.faults import REFUSAL
from gnomon.errors import BadConfig

WORDS = ["PASS", "FAIL"]
N = 2000


def texts(n=N, word="rain"):
    return [f"<text>Story {number}: {word} tomorrow</text>" for number in range(n)]


def verdicts(ref, prompts, **options):
    return [
        last_verdict(r.text, WORDS) for r in complete(open_llm(ref), [ask(p, **options) for p in prompts])
    ]


def interval(rate, n=N):
    """Where a share of `n` draws at `rate` lies, but for one time in ten thousand."""
    z = NormalDist().inv_cdf(1 - 0.5e-4)
    half = z * (rate * (1 - rate) / n) ** 0.5
    return rate - half, rate + half


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Rain is near.", "PASS"),
        ("SNOW!", "PASS"),
        ("The rainbow trains", "FAIL"),
        ("", "FAIL"),
        ("sun</p> <b>rain", "PASS"),
    ],
)
def test_the_judge_without_errors_reads_the_text(text, verdict):
    assert verdicts("sim:verdict?words=rain|snow", [f"Is it about rain?\n<text>{text}</text>"]) == [verdict]


def test_the_judge_reads_nothing_but_the_text_in_the_last_message():
    prompt = "Between <text> and </text>, rain or no rain:\n<text>sun</text>\nrain?"
    assert verdicts("sim:verdict?words=rain", [prompt], system="<text>rain</text>") == ["FAIL"]
    assert verdicts("sim:verdict?words=rain", ["rain"]) == [None]


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_errors_come_at_the_planted_rates(rate):
    """Either rate alone, and neither touches the other side; the null is exact."""
    for param, word, wrong in (("false_negatives", "rain", "FAIL"), ("false_positives", "sun", "PASS")):
        found = verdicts(f"sim:verdict?words=rain&{param}={rate}", texts(word=word))
        low, high = interval(rate)
        assert low <= found.count(wrong) / N <= high
        other = "sun" if word == "rain" else "rain"
        assert set(verdicts(f"sim:verdict?words=rain&{param}={rate}", texts(200, other))) == {wrong}
    assert set(verdicts("sim:verdict?words=rain", texts(500))) == {"PASS"}


def test_the_dose_shows():
    shares = [
        verdicts(f"sim:verdict?words=rain&false_negatives={rate}", texts(500)).count("FAIL")
        for rate in (0, 0.1, 0.3, 1)
    ]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 500)


def test_noise_belongs_to_the_request_and_its_draw():
    ref, prompts = "sim:verdict?words=rain&false_negatives=0.5", texts(500)
    first, again = verdicts(ref, prompts), verdicts(ref, prompts[::-1])[::-1]
    other = verdicts(ref, prompts, draw=1)
    assert first == again
    low, high = interval(0.5, 500)  # two independent draws at 1/2 agree half of the time
    assert low <= sum(a == b for a, b in zip(first, other, strict=True)) / 500 <= high


def test_the_reasoning_names_the_other_verdict_too():
    replies = complete(open_llm("sim:verdict?words=rain"), map(ask, texts(200)))
    named = [last_verdict(reply.text.rsplit("Verdict", 1)[0], WORDS) for reply in replies]
    assert 50 < named.count("FAIL") < 150
    assert named.count("PASS") == 0


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_faults_come_at_their_rates_and_are_counted(rate):
    lows, highs = interval(rate)
    ref = f"sim:verdict?words=rain&refused={rate}&http_429={rate}&http_500={rate / 2}&retry_after_s=0.01"
    meter = Meter()
    llm = hurry(connect(ref, LLMConfig(retries=50, concurrency=64, max_failed=1), meter=meter))
    replies = complete(llm, map(ask, texts()), concurrency=64)
    refusals = [reply.finish == "refusal" for reply in replies]
    assert [REFUSAL in (reply.error or "") for reply in replies] == refusals
    assert [reply.error is None for reply in replies] == [not refuses for refuses in refusals]
    assert lows <= sum(refusals) / N <= highs
    attempts = N + meter.faults["rate_limit"] + meter.faults["server"]
    assert meter.faults["refusal"] == sum(refusals)
    for kind, planted in (("rate_limit", rate), ("server", rate / 2)):
        low, high = interval(planted, attempts)
        assert low <= meter.faults[kind] / attempts <= high


def test_garbled_and_truncated_answers_have_no_verdict_to_read():
    garbled = complete(open_llm("sim:verdict?words=rain&garbled=1"), map(ask, texts(100)))
    assert [last_verdict(reply.text, WORDS) for reply in garbled] == [None] * 100
    cut = complete(open_llm("sim:verdict?words=rain&truncated=1"), map(ask, texts(100)))
    assert {reply.finish for reply in cut} == {"length"}
    assert all("Verdict" not in reply.text for reply in cut)


def test_a_slow_answer_takes_its_time():
    (reply,) = complete(open_llm("sim:verdict?words=rain&slow=1&slow_s=0.2"), [ask("<text>x</text>")])
    assert 0.2 <= reply.latency_s < 1


def test_limits_and_stop_texts_hold_for_simulators_too():
    llm = open_llm("sim:verdict?words=rain")
    short, stopped = complete(
        llm, [ask("<text>x</text>", max_tokens=3), ask("<text>x</text>", stop=("\nVerdict",))]
    )
    assert (short.text, short.finish, short.usage.tokens_out) == ("The text is", "length", 3)
    assert (stopped.finish, "Verdict" in stopped.text) == ("stop", False)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("sim:verdict", "needs words: write sim:verdict?words=..."),
        ("sim:verdict?words=", "words must be one word or more"),
        ("sim:verdict?words=||", "words must be one word or more"),
        ("sim:verdict?word=a", 'has no parameter "word". Did you mean "words"?'),
        ("sim:verdict?words=a&refused=2", "refused must be between 0 and 1; got 2.0"),
        ("sim:verdict?words=a&refused=often", 'refused must be a float; got "often"'),
        ("sim:verdict?words=a&http_429=0.7&http_500=0.7", "http_429 + http_500 must be at most 1"),
        ("sim:verdict?words=a&slow_s=-1", "slow_s must be >= 0"),
        ("sim:verdict?words=a&false_negatives=1.5", "false_negatives must be between 0 and 1"),
    ],
)
def test_misspelt_simulators(ref, says):
    with pytest.raises(BadConfig) as told:
        open_llm(ref)
    assert says in str(told.value)


def test_the_name_says_everything_that_was_planted():
    llm = open_llm("sim:verdict?refused=0.1&words=rain|heavy%20snow&false_negatives=0")
    assert llm.name == "sim:verdict?words=rain%7Cheavy%20snow&refused=0.1"
    assert open_llm(llm.name).name == llm.name
    assert open_llm(llm.name).simulator.words == "rain|heavy snow"


def test_every_simulator_of_the_table_is_there():
    from gnomon.lazy import resolve

    for where in SIMULATORS.values():
        assert callable(resolve(where).answer)


# Over HTTP


@pytest.fixture
def served():
    """Starts `gnomon sim serve` in a process of its own and gives its endpoint."""
    running = []

    def start(name, *words):
        env = {**os.environ, "PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
        command = [sys.executable, "-m", "gnomon", "sim", "serve", name, *words]
        job = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
        running.append(job)
        return job, job.stdout.readline().strip()

    yield start
    for job in running:
        job.kill()
        job.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_simulator_says_what_it_says_in_process(served, number):
    """The same strings in, the same strings out, faults of the answer and statuses of the server included."""
    ref = "sim:verdict?words=rain&false_negatives=0.3&refused=0.1&truncated=0.1&http_429=0.1&http_500=0.1"
    job, endpoint = served(ref, "--port", "0")
    assert endpoint.startswith("http://127.0.0.1:")
    assert endpoint.endswith(f"/v1#{ref}")
    requests = [ask(text, draw=number % 2, stop=("\nNo",)) for number, text in enumerate(texts(60))]
    found = {}
    for name in (ref, endpoint):
        meter = Meter()
        llm = hurry(connect(name, LLMConfig(retries=20), meter=meter))
        assert is_simulated(llm)
        replies = complete(llm, requests)
        close(llm)
        assert meter.figures()["SIMULATED"]
        found[name] = [(r.text, r.finish, r.usage, r.fault) for r in replies], dict(meter.faults)
    assert found[ref] == found[endpoint]
    assert {"rate_limit", "server", "refusal", "length"} <= set(found[ref][1])
    job.send_signal(number)
    assert job.wait(timeout=10) == 0
    assert job.stdout.read() == ""


@pytest.mark.slow
def test_draws_of_one_prompt_differ_behind_a_server_though_no_seed_is_sent(checkpoint):
    import threading

    import httpx

    llm = open_llm(f"hf:{checkpoint('llama')}", device="cpu")
    expected = [
        r.text for r in complete(llm, [ask("Hi", temperature=1.0, max_tokens=9, draw=n) for n in range(3)])
    ]
    assert len(set(expected)) == 3
    with ChatServer(llm) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url, model = server.endpoint.split("#")

        def draws(**more):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, **more}
            answers = [httpx.post(f"{url}/chat/completions", json=body, timeout=30) for _ in range(3)]
            return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

        assert draws(temperature=1.0) == expected
        assert len(set(draws(temperature=1.0, seed=5))) == 1 == len(set(draws(temperature=0)))
        again = open_llm(server.endpoint)  # this package's own client sends no seed either
        replies = complete(again, [ask("Ho", temperature=1.0, max_tokens=9, draw=n) for n in range(3)])
        assert len({reply.text for reply in replies}) == 3
        close(again)
        server.shutdown()
    close(llm)


@pytest.mark.slow
def test_what_else_the_server_answers(served):
    import json
    import urllib.error
    import urllib.request

    _, endpoint = served("verdict?words=rain&http_429=1&retry_after_s=7")
    base = endpoint.split("#")[0].removesuffix("/v1")

    def get(path, body=None):
        try:
            with urllib.request.urlopen(urllib.request.Request(base + path, body), timeout=10) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, dict(refused.headers), json.loads(refused.read())

    assert get("/health")[0] == 200
    assert get("/v1/models")[2]["data"][0]["id"] == endpoint.split("#")[1]
    assert get("/nowhere")[0] == 404
    assert get("/v1/completions", b"{}")[0] == 404
    for wrong in (b"not JSON", b"[]", b"{}", b'{"messages": 3}', b'{"messages": [], "max_tokens": "x"}'):
        assert get("/v1/chat/completions", wrong)[0] == 400
    other = json.dumps({"model": "another", "messages": []}).encode()
    assert "is not here" in get("/v1/chat/completions", other)[2]["error"]["message"]
    right = {"model": endpoint.split("#")[1], "messages": [{"role": "user", "content": "<text>x</text>"}]}
    status, headers, answer = get("/v1/chat/completions", json.dumps(right).encode())
    assert (status, headers["Retry-After"]) == (429, "7")
    right["model"] = (
        "sim:verdict?retry_after_s=7&http_429=1&words=rain&false_negatives=0"  # the same one, in other words
    )
    assert get("/v1/chat/completions", json.dumps(right).encode())[0] == 429
    assert "simulated world" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["serve"], 2, "gnomon sim serve needs a simulator. Known: "),
        (["serve", "verdikt"], 2, 'There is no simulator "verdikt". Did you mean "verdict"?'),
        (["serve", "verdict?words=a", "--port", "99999"], 2, "port must be between 0 and 65535"),
        (["list"], 0, "verdict: Reads the text"),
    ],
)
def test_the_command(words, code, says, capsys):
    from gnomon import cli

    assert cli.main(["sim", *words]) == code
    out, err = capsys.readouterr()
    assert says in (err if code else out)
