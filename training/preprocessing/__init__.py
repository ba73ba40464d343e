"""The steps of preprocessing, in the order of their files: folder, staging, duplicates, catalogue, histories."""
