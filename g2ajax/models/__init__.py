"""Models that travel: opened from a run, a folder, a repository or a public file, without their data."""
