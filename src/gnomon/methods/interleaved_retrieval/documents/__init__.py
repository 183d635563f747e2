"""Documents of text, images and tables in reading order: rows, importers, and what a model is shown of them."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Block": "rows",
        "Document": "rows",
        "Query": "rows",
        "Section": "rows",
        "parse_document": "rows",
        "parse_query": "rows",
        "read_documents": "rows",
        "read_queries": "rows",
        "section_id": "rows",
        "Form": "serialise",
        "plain_text": "serialise",
        "query_pieces": "serialise",
        "section_pieces": "serialise",
        "linear_table": "tables",
        "html_tables": "tables",
        "import_file": "importers",
        "ImportStep": "importers",
    },
)
