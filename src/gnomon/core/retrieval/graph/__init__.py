"""Typed graphs whose edges know the row that stated them: counted, walked, and corrected exactly, in a folder or in PostgreSQL."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Counted": "contract",
        "Edge": "contract",
        "Graph": "contract",
        "Has": "contract",
        "Neighbour": "contract",
        "Node": "contract",
        "Statement": "contract",
        "Top": "contract",
        "export": "exports",
        "read_triplets": "exports",
        "FolderGraph": "folder",
        "PostgresGraph": "postgres",
        "build_graph": "references",
        "open_graph": "references",
    },
)
