"""TensorFlow Datasets builders that need no TensorFlow; a folder for each dataset."""
