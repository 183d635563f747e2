"""gnomon: twenty published methods for language and vision-language models as one library and one command line."""

__version__ = "0.1.0"
