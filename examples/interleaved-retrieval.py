"""Pages of HTML with tables as documents, each one vector of an untrained encoder; and why one was found, block by block."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gnomon.core.rng import Rng
from gnomon.methods.interleaved_retrieval import (
    InterleavedEncoder,
    Query,
    explain,
    import_file,
    rank_documents,
)
from gnomon.methods.interleaved_retrieval.mini import SCALES, new_handle

TABLE = "<table><tr><th>mill</th><th>wheels</th></tr><tr><td>north</td><td>3</td></tr></table>"
MILLS = f"<h1>Mills</h1><p>A mill stands by the river.</p><h2>Sizes</h2>{TABLE}"
PAGES = {"mills.html": MILLS, "cats.html": "<h1>Cats</h1><p>Cats sleep.</p>"}
with TemporaryDirectory() as name:
    folder, documents = Path(name), []
    for file, page in PAGES.items():
        (folder / file).write_text(f"<body>{page}</body>")
        documents += import_file(folder / file, folder, folder / "images")
encoder = InterleavedEncoder.new(new_handle(SCALES["smoke"], Rng(0)))  # in earnest: open what `train` left
sections, query = encoder.encode_sections(documents), Query("q", "how many wheels has the mill")
print([hit.id for hit in rank_documents(encoder.encode_query(query), sections, "mean", 2)[0]])
print([(reason.content.type, round(reason.drop, 3)) for reason in explain(encoder, query, documents[0])[1]])
