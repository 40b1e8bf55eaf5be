"""One dataset a folder: TensorFlow Datasets builders that need no TensorFlow."""
