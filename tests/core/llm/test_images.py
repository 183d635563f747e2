"""Images in requests: the file's own bytes go out, digests stand in keys and tapes, and a local model sees them."""

import asyncio
import hashlib
import json
import threading

import numpy as np
import pytest
from PIL import Image

from fixtures_vlm import picture, saved_vlm, vlm
from gnomon.core.llm.base import Message, Reply, Request, Usage, ask
from gnomon.core.llm.endpoint.chat import Chat, Completions, folded
from gnomon.core.llm.local import Local
from gnomon.core.llm.sims.server import ChatServer
from gnomon.core.llm.stack.cache import Cached
from gnomon.core.llm.stack.stored import request_key, tokens_asked
from gnomon.core.llm.stack.tape import Recorded, Tape
from gnomon.core.models import GenConfig
from gnomon.core.rng import Rng
from gnomon.core.vision.parts import image_part, part_of_url
from gnomon.errors import BadInput


class Seen:
    """Answers with what it was shown, and counts."""

    name = "seen"

    def __init__(self):
        self.requests = []

    async def acomplete(self, request):
        self.requests.append(request)
        return Reply(" ".join(str(p) for m in request.messages for p in m.images), usage=Usage(1, 1))


def files(folder):
    for name, options in (
        ("a.jpg", {"quality": 80}),
        ("b.png", {}),
        ("c.webp", {"lossless": True}),
        ("d.bmp", {}),
    ):
        picture(1).save(folder / name, **options)
    return folder


def test_the_bytes_of_a_file_go_out_as_they_are(tmp_path):
    for name, kind in (("a.jpg", "image/jpeg"), ("b.png", "image/png"), ("c.webp", "image/webp")):
        part = image_part(files(tmp_path) / name)
        assert (
            part.data == (tmp_path / name).read_bytes() and part.media_type == kind and part.size == (40, 30)
        )
        assert part_of_url(part.url) == part
        np.testing.assert_array_equal(
            np.asarray(part.open()), np.asarray(Image.open(tmp_path / name).convert("RGB"))
        )
        assert str(part).startswith(f"image sha256:{hashlib.sha256(part.data).hexdigest()[:16]} 40x30 ")
        assert "data=" not in repr(part)
    other = image_part(tmp_path / "d.bmp")
    assert other.media_type == "image/png"
    np.testing.assert_array_equal(np.asarray(other.open()), np.asarray(picture(1)))


def test_what_is_no_image_is_refused(tmp_path):
    files(tmp_path)
    (tmp_path / "cut.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    with pytest.raises(BadInput, match="cannot be read as an image"):
        image_part(tmp_path / "cut.png")
    bad = ("data:image/svg+xml;base64,AAAA", "data:image/png;base64,@@", "data:image/png;base64,AAAA")
    for url in ("http://example.org/a.png", *bad):
        with pytest.raises(BadInput):
            part_of_url(url)


def test_the_key_holds_digests_and_without_images_it_is_what_it_was(tmp_path):
    files(tmp_path)
    plain = ask("Is it wet?", system="Answer in one word.", temperature=0.5, seed=3)
    assert (
        request_key(plain, "x") == "d7830076a75ca0f4c1b72a4f15ca8942"
    )  # as replies were kept under before images
    a, b = (image_part(tmp_path / name) for name in ("a.jpg", "b.png"))
    keys = {request_key(ask("What?", images=images)) for images in ((), (a,), (b,), (a, b), (b, a))}
    assert len(keys) == 5
    assert request_key(ask("What?", images=(a,))) == request_key(
        ask("What?", images=[image_part(tmp_path / "a.jpg")])
    )
    assert tokens_asked(ask("What?", images=(a,))) == tokens_asked(ask("What?")) + 85


def test_a_server_gets_the_bytes(tmp_path):
    files(tmp_path)
    seen, parts = Seen(), tuple(image_part(tmp_path / name) for name in ("a.jpg", "b.png"))
    with ChatServer(seen) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        llm = Chat(server.endpoint.partition("#")[0], "seen", name="seen")

        async def reply_of(request):
            answer = await llm.acomplete(request)
            await llm.aclose()
            return answer

        reply = asyncio.run(reply_of(ask("Which?", system="Look.", images=parts)))
        server.shutdown()
    assert reply.error is None and reply.text == " ".join(map(str, parts))
    (request,) = seen.requests
    assert [m.role for m in request.messages] == ["system", "user"]
    assert request.messages[1] == Message("user", "Which?", parts)
    assert folded(ask("Which?", system="Look.", images=parts).messages)[0].images == parts
    continues = Completions("http://127.0.0.1:9/v1", "x", name="x")
    assert asyncio.run(continues.acomplete(ask("a", images=parts))).fault == "rejected"


def test_tapes_and_caches_hold_no_bytes(tmp_path):
    files(tmp_path)
    part, seen = image_part(tmp_path / "a.jpg"), Seen()
    request = ask("What is it?", images=(part,))
    tape = tmp_path / "tape.jsonl"
    cached = Cached(Recorded(seen, tape), tmp_path / "cache")
    first, again = asyncio.run(cached.acomplete(request)), asyncio.run(cached.acomplete(request))
    assert again.cached and first.text == again.text and len(seen.requests) == 1
    (row,) = map(json.loads, tape.read_text().splitlines())
    assert row["messages"] == [["user", "What is it?", str(part)]] and len(tape.read_text()) < 1000
    assert asyncio.run(Tape(tape).acomplete(request)).text == first.text
    other = ask("What is it?", images=(image_part(tmp_path / "b.png"),))
    assert asyncio.run(Tape(tape).acomplete(other)).fault == "missing"


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_a_local_model_sees_what_the_handle_sees(name):
    handle, llm = vlm(name), Local(saved_vlm(name))
    assert llm.handle is not None

    async def replies(requests):
        answers = await asyncio.gather(*(llm.acomplete(request) for request in requests))
        await llm.aclose()
        return answers

    def request(*images, text="a cat sat"):
        parts = tuple(image_part(image) for image in images)
        return Request((Message("user", text, parts),), temperature=0.0, max_tokens=6)

    shown, other, blind, chosen = asyncio.run(
        replies(
            [
                request(picture(0)),
                request(picture(1)),
                request(),
                Request((Message("user", "a", (image_part(picture(0)),)),), choices=("a", "b")),
            ]
        )
    )
    for seed, reply in ((0, shown), (1, other)):
        ((done,),) = handle.generate(
            [handle.prompt("a cat sat")], GenConfig(6, 0.0), generator=Rng(0), images=[[picture(seed)]]
        )
        assert reply.error is None and reply.text == done.text
        assert [value for _, value in reply.logprobs or ()] == []  # not asked for
    assert blind.error is None and blind.usage.tokens_in < shown.usage.tokens_in
    assert chosen.fault == "rejected" and "chooses between answers" in chosen.error


def test_a_model_of_texts_says_that_it_sees_nothing(handle_of):
    handle = handle_of("llama")
    llm = Local("tiny", model=handle.model, tokenizer=handle.tokenizer)

    async def reply():
        answer = await llm.acomplete(ask("a", images=(image_part(picture(0)),)))
        await llm.aclose()
        return answer

    answer = asyncio.run(reply())
    assert answer.fault == "rejected" and "sees no images" in answer.error
