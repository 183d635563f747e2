"""The extractor: encoded documents, the model, its training and its use on rows."""
