"""Training a method on a dataset, and scoring it: `loop.run(config, workdir)`."""
