"""One vector for a document of text, images and tables, and a reranker that names the section."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Block": "documents.rows",
        "Document": "documents.rows",
        "DocumentIndex": "store",
        "Form": "documents.serialise",
        "InterleavedEncoder": "encoding.encoder",
        "Negatives": "reranking.training",
        "Pair": "encoding.training",
        "Query": "documents.rows",
        "Retrieving": "encoding.settings",
        "Section": "documents.rows",
        "SectionReranker": "reranking.reranker",
        "Training": "encoding.training",
        "explain": "evaluation.explanation",
        "export_sentence_transformers": "encoding.export",
        "import_file": "documents.importers",
        "merged": "encoding.vectors",
        "open_encoder": "encoding.opened",
        "rank_documents": "encoding.vectors",
        "rank_sections": "encoding.vectors",
        "read_documents": "documents.rows",
        "read_judged": "evaluation.judged",
        "read_queries": "documents.rows",
        "section_rows": "encoding.shards",
        "train_reranker": "reranking.training",
        "train_retriever": "encoding.training",
    },
)
