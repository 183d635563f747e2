"""Run a data step over any number of records: in this process, in several, or on a Ray cluster.

The source is cut into shards of consecutive records. Each shard is worked on once, its output is written as one part file, and a
mark is left when it is complete. A job that was killed continues with the shards that have no mark, so no record is lost or
doubled, and parts read in name order are the source's order whatever the engine and the number of workers.

    sink/part-00000.jsonl      what the step yielded
    sink/_rejected/part-00000.jsonl    what it refused, each with its reason
    sink/_done/part-00000.json         the mark: counts, and a hash of what went in
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records
from gnomon.core.config import check, fingerprint
from gnomon.core.data import engines
from gnomon.core.files import write_json, write_text
from gnomon.core.log import Advances
from gnomon.core.plain import to_plain
from gnomon.errors import BadConfig

SHARD_ROWS = 64
"""Records a shard: small enough that a killed job loses seconds, large enough that starting a shard costs nothing."""

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Rejected:
    """What a step yields for a record that it cannot use."""

    reason: str
    """Why, in one sentence."""
    record: Any = None
    """The record, or as much of it as helps to find it."""


Step = Callable[[Iterator[Any]], Iterator[Any]]
"""Takes records, yields records and `Rejected`. Must be picklable: a function of a module, a `functools.partial`, an object.

An object may have a `suffix`, the ending of its part files, see `records.SUFFIXES`; others write `.jsonl`."""


@dataclass(frozen=True)
class Totals:
    """Counts over all shards."""

    read: int = 0
    """Records taken from the source."""
    written: int = 0
    """Records in the sink."""
    rejected: int = 0
    """Records refused, with reasons in `_rejected`."""
    resumed: int = 0
    """Shards that an earlier run had finished."""
    sums: dict[str, float] = field(default_factory=dict)
    """Numbers that the step reported through `tally`, added up."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.read + other.read,
            self.written + other.written,
            self.rejected + other.rejected,
            self.resumed + other.resumed,
            _added(self.sums, other.sums),
        )


@dataclass(frozen=True)
class Tally:
    """What a step yields to have numbers added up over all shards (calls made, states checked)."""

    numbers: dict[str, float]


@dataclass(frozen=True)
class Shard:
    """Consecutive records of the source."""

    index: int
    rows: list[Any]

    @property
    def name(self) -> str:
        """Stem of the shard's files."""
        return f"part-{self.index:05d}"

    @property
    def key(self) -> str:
        """A hash of the records, so that a changed source is noticed."""
        text = json.dumps([to_plain(row) for row in self.rows], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_OWNER = Path("_done") / "settings"
"""Within a sink: the key of the settings that it was made with."""


def map_shards(
    step: Step,
    source: Iterable[Any],
    sink: Path,
    *,
    engine: Engine = "local",
    workers: int = 1,
    shard_rows: int = SHARD_ROWS,
    settings: Any = None,
    progress: Advances | None = None,
) -> Totals:
    """Run `step` over all records of `source` and leave the results in the folder `sink`.

    Args:
        step: takes an iterator of records and yields records, `Rejected` or `Tally`.
        source: the records; read once, in order, and never held in memory as a whole.
        sink: folder of part files. What finished shards left there is kept.
        engine: `local` processes, or `ray`.
        workers: number of processes; 1 with `local` runs in this process.
        shard_rows: records per shard.
        settings: plain values that the step's result depends on; a sink made with others is refused.
        progress: told the number of records done.

    Returns:
        Counts over all shards, finished ones of earlier runs included.

    Raises:
        BadConfig: the sink was made from another source or with other settings.
        WorkLost: a worker process died; finished shards are kept.
    """
    check(workers >= 1, "workers", ">= 1", workers)
    check(shard_rows >= 1, "shard_rows", ">= 1", shard_rows)
    _claim_sink(sink, _key_of(settings, shard_rows))
    finished = Totals()

    def pending() -> Iterator[Shard]:
        nonlocal finished
        for shard in _cut(source, shard_rows):
            mark = _read_mark(sink, shard)
            if mark is None:
                yield shard
            else:
                finished += mark
                if progress:
                    progress.advance(mark.read)

    for totals in _engine(engine)(_Work(step, sink), pending(), workers):
        finished += totals
        if progress:
            progress.advance(totals.read)
    return finished


def has_other_settings(sink: Path, settings: Any, *, shard_rows: int = SHARD_ROWS) -> bool:
    """Whether a sink was made with other settings, so that `map_shards` would refuse it."""
    return _is_of_others(sink, _key_of(settings, shard_rows))


def _key_of(settings: Any, shard_rows: int) -> str:
    return fingerprint(settings, shard_rows, length=16)


def _is_of_others(sink: Path, key: str) -> bool:
    owner = sink / _OWNER
    return owner.exists() and owner.read_text("utf-8") != key


def parts(sink: Path, suffix: str = ".jsonl") -> list[Path]:
    """The sink's part files in order; `suffix` is that of the step."""
    return sorted(sink.glob(f"part-*{suffix}"))


def rejected(sink: Path) -> Iterator[dict[str, Any]]:
    """The rejected records of a sink: `{"reason": ..., "record": ...}`."""
    for path in sorted((sink / "_rejected").glob("part-*.jsonl")):
        for _, raw in records.read_raw(path):
            yield raw


@dataclass(frozen=True)
class _Work:
    """Everything a worker needs to turn a shard into files."""

    step: Step
    sink: Path

    def __call__(self, shard: Shard) -> Totals:
        written: list[Any] = []
        refused: list[Rejected] = []
        sums: dict[str, float] = {}
        for item in self.step(iter(shard.rows)):
            if isinstance(item, Rejected):
                refused.append(item)
            elif isinstance(item, Tally):
                sums = _added(sums, item.numbers)
            else:
                written.append(item)
        totals = Totals(len(shard.rows), len(written), len(refused), 0, sums)
        records.write(self.sink / f"{shard.name}{getattr(self.step, 'suffix', '.jsonl')}", written)
        if refused:
            records.write(self.sink / "_rejected" / f"{shard.name}.jsonl", refused)
        # The mark comes last: a shard without it is done again from the start.
        write_json(self.sink / "_done" / f"{shard.name}.json", {"key": shard.key, **asdict(totals)})
        return totals


def _added(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in sorted(a.keys() | b.keys())}


def _cut(source: Iterable[Any], rows: int) -> Iterator[Shard]:
    stream = iter(source)
    for index in itertools.count():
        taken = list(itertools.islice(stream, rows))
        if not taken:
            return
        yield Shard(index, taken)


def _claim_sink(sink: Path, key: str) -> None:
    (sink / _OWNER).parent.mkdir(parents=True, exist_ok=True)
    if _is_of_others(sink, key):
        raise BadConfig(
            f"{sink} was made with other settings. Use another folder or start over with --fresh."
        )
    write_text(sink / _OWNER, key)


def _read_mark(sink: Path, shard: Shard) -> Totals | None:
    path = sink / "_done" / f"{shard.name}.json"
    if not path.exists():
        return None
    mark = json.loads(path.read_text("utf-8"))
    if mark.pop("key") != shard.key:
        raise BadConfig(
            f"{sink}: the source has changed since {shard.name} was made. Use another folder or start over with --fresh."
        )
    return Totals(**(mark | {"resumed": 1}))


def _engine(name: str) -> Callable[[_Work, Iterator[Shard], int], Iterator[Totals]]:
    table: dict[str, Callable[[_Work, Iterator[Shard], int], Iterator[Totals]]]
    table = {"local": engines.local, "ray": engines.ray}
    if name not in table:
        raise BadConfig(f"engine must be one of {', '.join(table)}; got {name!r}.")
    return table[name]
