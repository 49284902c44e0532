"""One file per dialect: thin routes over the same call."""
