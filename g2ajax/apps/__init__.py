"""What is done with a trained model: searching, ranking, explaining, scoring elsewhere, exporting."""
