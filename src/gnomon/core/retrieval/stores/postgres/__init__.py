"""PostgreSQL with pgvector: vectors, their columns, passages and full-text search in one database."""
