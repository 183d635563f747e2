"""Tapes: replies recorded as they come, and played back in place of the model."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from gnomon.core.llm.base import LLM, Reply, Request, aclose, is_simulated
from gnomon.core.llm.stack.stored import reply_from_json, reply_to_json, request_key
from gnomon.errors import BadInput


class Recorded:
    """`llm` with every successful reply appended to a tape, for `Tape` to play back.

    A tape is JSON lines: `{"key", "name", "is_simulated", "messages", "reply"}`. It holds what was said, and no key of an endpoint.

    Args:
        llm: who is asked.
        file: the tape; continued when it exists.
    """

    def __init__(self, llm: LLM, file: Path):
        self.llm, self.name, self.file = llm, llm.name, file
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = file.read_bytes() if file.exists() else b""
            file.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a killed run may have left half a line
        except OSError as error:
            raise BadInput(
                f"{file}: cannot be written ({error.strerror}). Name another file for the tape."
            ) from None

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model, which is on the tape when this returns."""
        reply = await self.llm.acomplete(request)
        if reply.error is None:
            row = {
                "key": request_key(request),
                "name": self.name,
                "is_simulated": is_simulated(self.llm),
                "messages": [[m.role, m.content, *map(str, m.images)] for m in request.messages],
                "reply": json.loads(reply_to_json(reply)),
            }
            line = json.dumps(row, ensure_ascii=False) + "\n"
            with self._lock, self.file.open("a", encoding="utf-8") as tape:
                tape.write(line)
        return reply

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)


class Tape:
    """A tape played back: each request gets the reply that it got when the tape was made.

    Args:
        file: a tape of `Recorded`.

    Raises:
        BadInput: the file is not a tape; the message names the line.
    """

    def __init__(self, file: Path):
        self.file, self.name = file, f"tape:{file}"
        self.is_simulated = False
        self._replies: dict[str, Reply] = {}
        try:
            lines = file.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"{file}: the tape cannot be read ({error}). Make one with --llm.record."
            ) from None
        for number, line in enumerate(
            lines[:-1], 1
        ):  # behind the last line end is a line that was cut off, or nothing
            try:
                row = json.loads(line)
                self._replies.setdefault(row["key"], reply_from_json(json.dumps(row["reply"])))
                self.is_simulated |= row["is_simulated"]
            except (ValueError, KeyError, TypeError):
                raise BadInput(
                    f"{file}, line {number}: not a line of a tape. Remove it, or make the tape again."
                ) from None

    async def acomplete(self, request: Request) -> Reply:
        """The recorded reply; one with `fault="missing"` when the request is not on the tape."""
        reply = self._replies.get(request_key(request))
        if reply is None:
            message = (
                f"{self.file} has no reply to this request. Record it again with the settings of this run."
            )
            return Reply("", "error", error=message, fault="missing")
        return reply
