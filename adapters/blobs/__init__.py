"""Where blobs are kept: a directory (`local`), or an S3-compatible store (`objects`)."""
