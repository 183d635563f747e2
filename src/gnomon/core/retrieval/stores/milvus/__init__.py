"""Milvus, on a server or embedded: the vectors, what it is asked, and filters whose values are not part of their text."""
